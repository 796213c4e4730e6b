"""Keras's Layer and Model, with what this library uses of them declared in the stub beside.

Keras has no types of its own, so a type checker would take every attribute of its subclasses for
granted, those that no class has among them.
"""

import keras

Layer, Model = keras.layers.Layer, keras.Model

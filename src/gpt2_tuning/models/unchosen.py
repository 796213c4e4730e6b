"""A step of `fit` leaves adapters that take no part in it as they are, bit for bit.

Their gradients are 0, but an optimizer with weight decay or momentum would move them all the same.
Flags (`trainable`) would have every switch traced anew, and the optimizer made anew.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from gpt2_tuning.models.gate import OWN
from gpt2_tuning.models.mixture import ROUNDED, Mixture
from gpt2_tuning.models.pretrained import PretrainedModel


def kept(model: PretrainedModel, data: Any) -> Callable[[], None]:
    """Remembers the weights of adapters before a step; what it returns puts back those to keep.

    Args:
        model: one with adapters that were added.
        data: of the step, as `train_step` takes it.
    """
    before = [
        (variable, tf.identity(tf.convert_to_tensor(variable)), taken)
        for variables, taken in parts(model, data)
        for variable in variables
        if variable.trainable
    ]

    def put_back() -> None:
        values = [
            tf.where(taken, tf.convert_to_tensor(variable), value)
            for variable, value, taken in before
        ]
        variables = [variable.value for variable, *_ in before]
        context = tf.distribute.get_replica_context()
        context.merge_call(assign, args=(variables, values))

    return put_back


def assign(strategy: tf.distribute.Strategy, variables, values) -> None:
    """Assigns values that are the same on every replica."""
    for variable, value in zip(variables, values, strict=True):
        strategy.extended.update(variable, lambda one, new: one.assign(new), args=(value,))


def parts(model: PretrainedModel, data: Any) -> list[tuple[list[keras.Variable], tf.Tensor]]:
    """The weights of each adapter and each head, and whether a step takes part in them."""
    inputs = keras.utils.unpack_x_y_sample_weight(data)[0]
    mixture = model.gate_of_pass(inputs.get("gate") if isinstance(inputs, dict) else None)
    gate = model.gate
    assert isinstance(mixture, Mixture)
    assert gate is not None
    heads = mixture.heads[..., -len(gate.added) :]
    own_head = tf.abs(1.0 - tf.reduce_sum(heads, axis=-1, keepdims=True)) > ROUNDED
    updates, own_head, heads = map(anywhere, (mixture.shares != 0, own_head, heads != 0))
    found = [(list(model.head_weights().values()), own_head[0])]
    for number, name in enumerate(gate.names):
        own = name == OWN
        factors = model.lora_weights() if own else gate.added[name].lora_weights()
        found.append((list(factors.values()), updates[number]))
    for number, adapter in enumerate(gate.added.values()):
        found.append((list(adapter.head_weights().values()), heads[number]))
    return found


def anywhere(rows: tf.Tensor) -> tf.Tensor:
    """bool [..., n] to [n], whether any row of any replica has it."""
    found = tf.reduce_any(tf.reshape(rows, [-1, rows.shape[-1]]), axis=0)
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return found
    return context.all_reduce("SUM", tf.cast(found, tf.float32)) > 0

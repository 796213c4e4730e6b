"""Normalisation of hidden states."""

from gpt2_tuning.models import kernels
from gpt2_tuning.models.keras_types import Layer


class LayerNorm(Layer):
    """Normalises the last axis to mean 0 and variance 1, then scales and shifts it.

    Keras's own layer under its weights' names; its weights stay in float32 whatever the policy.
    """

    def __init__(self, epsilon: float, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        """Adds `gamma` and `beta` for inputs of `input_shape[-1]` channels."""
        shape = (input_shape[-1],)
        exact = {"dtype": "float32", "autocast": False}
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", **exact)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", **exact)

    def compute_output_shape(self, input_shape):
        """The input's."""
        return input_shape

    def call(self, x, compiled=False):
        """[..., C] to the same; `compiled` as in training."""
        return kernels.layer_norm(x, self.gamma, self.beta, epsilon=self.epsilon, compiled=compiled)


class RMSNorm(Layer):
    """Divides the last axis by its root mean square, then scales it (Zhang & Sennrich 2019).

    Its weight stays in float32 whatever the policy.
    """

    def __init__(self, epsilon: float, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        """Adds `gamma` for inputs of `input_shape[-1]` channels."""
        exact = {"dtype": "float32", "autocast": False}
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", **exact)

    def compute_output_shape(self, input_shape):
        """The input's."""
        return input_shape

    def call(self, x, compiled=False):
        """[..., C] to the same; `compiled` as in training."""
        return kernels.rms_norm(x, self.gamma, epsilon=self.epsilon, compiled=compiled)


NORMS = {"layer": LayerNorm, "rms": RMSNorm}
"""The layers, by a DecoderConfig's `norm`."""

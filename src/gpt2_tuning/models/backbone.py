"""A decoder without a head, as a Keras model."""

import keras

from gpt2_tuning.data.inputs import Inputs
from gpt2_tuning.models.tunable import TunableModel


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class Backbone(TunableModel):
    """Token ids to hidden states.

    Args:
        config: a config such as GPT2Config, or its fields as a dict.
        lora: a LoRAConfig, a dict of its fields, or None for a model without LoRA weights.
    """

    def compute_output_shape(self, input_shape):
        """[B, T] of the token ids, or a dict that has it, to [B, T, width]."""
        return self.transformer.compute_output_shape(input_shape)

    def call(self, inputs: Inputs, training=None, at=None, gate=None):
        """Hidden states [B, T, width] in the compute type.

        Args:
            inputs: `token_ids` with `attention_mask` or `segment_ids`.
            training: whether dropout is on.
            at: int32 [B, K], the places whose hidden states are wanted, which are then [B, K,
                width]; None is all of them.
            gate: see `gate_of_pass`.

        Raises:
            UserError: there are more tokens than positions. Packed rows may be longer.
        """
        gate = self.gate_of_pass(inputs.get("gate") if gate is None else gate)
        return self.transformer(inputs, training=training, at=at, gate=gate)

"""A decoder as a language model: the token embedding, transposed, scores the next token."""

from typing import Any

import keras
import tensorflow as tf

from gpt2_tuning.data.inputs import Inputs
from gpt2_tuning.formats.huggingface import TIED_HEAD
from gpt2_tuning.models.inputs import gathered
from gpt2_tuning.models.products import project
from gpt2_tuning.models.tunable import TunableModel


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class LanguageModel(TunableModel):
    """Hidden states times the transposed token embedding (the head is tied).

    Args:
        config: a config such as GPT2Config, or its fields as a dict.
        lora: a LoRAConfig, a dict of its fields, or None.
    """

    task_type = "CAUSAL_LM"

    def call(self, inputs: Inputs, training=None, gate=None):
        """Logits, float32.

        Args:
            inputs: as Backbone's. With `target_positions`, int32 [B, K], logits are computed for
                those positions only: [B, K, vocabulary]; else for all: [B, T, vocabulary].
            training: whether dropout is on.
            gate: see `gate_of_pass`.
        """
        hidden = self.hidden_at_targets(inputs, training, gate)
        return tf.cast(project(hidden, tf.transpose(self.table())), tf.float32)

    def hidden_at_targets(self, inputs: Inputs, training=None, gate=None) -> tf.Tensor:
        """Hidden states [B, K, width] at the inputs' `target_positions`; without those, all."""
        gate = self.gate_of_pass(inputs.get("gate") if gate is None else gate)
        hidden = self.transformer(inputs, training=training, gate=gate)
        if "target_positions" not in inputs:
            return hidden
        return gathered(hidden, inputs["target_positions"])

    def table(self):
        """The token embedding, [vocabulary, width] in the compute type."""
        table = tf.convert_to_tensor(self.transformer.tokens.embeddings)
        return tf.cast(table, self.compute_dtype)

    def used_heads(self) -> set[str]:
        """`lm_head.weight`, which is the token embedding."""
        return {TIED_HEAD}

    def hf_config(self) -> dict[str, Any]:
        """What makes transformers load the directory as a language model."""
        architecture = self.family.architectures.language_model
        return {"architectures": [architecture], "tie_word_embeddings": True}

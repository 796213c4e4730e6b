"""A decoder as a language model: a table of a vector a token scores the next one."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.data.inputs import Inputs
from gpt2_tuning.families.family import FamilyConfig
from gpt2_tuning.formats.huggingface import as_float32
from gpt2_tuning.models.decoder import embedding
from gpt2_tuning.models.gate import OWN
from gpt2_tuning.models.inputs import gathered
from gpt2_tuning.models.products import project
from gpt2_tuning.models.tunable import TunableModel


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class LanguageModel(TunableModel):
    """Hidden states times the transposed token embedding, or a table of the head's own.

    Args:
        config: a config such as GPT2Config, or its fields as a dict.
        lora: a LoRAConfig, a dict of its fields, or None.
    """

    task_type = "CAUSAL_LM"

    def __init__(
        self,
        config: FamilyConfig | Mapping[str, Any],
        lora: LoRAConfig | Mapping[str, Any] | None = None,
        **kwargs,
    ):
        super().__init__(config, lora, **kwargs)
        decoder = self.transformer.config
        self.lm_head: keras.layers.Embedding | None = None
        """The table of a head that is not tied, [vocabulary, width]; it is frozen with the base."""
        saved = set(self.lora.modules_to_save) if self.lora else set()
        embeddings = self.family.embedding.rpartition(".")[0]
        self.untied = decoder.tied_head and bool(saved & {embeddings, self.family.head_module})
        """Whether an adapter tunes one of two that are tied, and so, as in PEFT, not the other."""
        if not decoder.tied_head or self.untied:
            self.lm_head = embedding(decoder.vocabulary, decoder, self.dtype_policy, "lm_head")

    def build_parts(self) -> None:
        """Creates the weights of the parts, the head's too."""
        super().build_parts()
        if self.lm_head:
            self.lm_head.build((None, None))

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

    @property
    def head_table(self) -> keras.Variable:
        """The vectors that score the next token, [vocabulary, width]."""
        return (self.lm_head or self.transformer.tokens).embeddings

    def table(self):
        """The same in the compute type."""
        return tf.cast(tf.convert_to_tensor(self.head_table), self.compute_dtype)

    def base_weights(self) -> dict[str, keras.Variable]:
        """As PretrainedModel's, and a head that is not tied, which belongs to the base."""
        return {**super().base_weights(), **self._head_weights(untied=False)}

    def untied_weights(self) -> dict[str, keras.Variable]:
        """A head that an adapter has apart from the token embedding, which is the base's head."""
        return self._head_weights(untied=True)

    def _head_weights(self, untied: bool) -> dict[str, keras.Variable]:
        if self.lm_head is None or self.untied != untied:
            return {}
        return {self.family.head: self.lm_head.embeddings}

    def start_adapter(self) -> None:
        """As PretrainedModel's; a head that an adapter has apart begins as the embedding."""
        for variable in self.untied_weights().values():
            variable.assign(self.transformer.tokens.embeddings)
        super().start_adapter()

    def used_heads(self) -> set[str]:
        """The family's name of it."""
        return {self.family.head}

    def hf_config(self) -> dict[str, Any]:
        """What makes transformers load the directory as a language model."""
        return self._hf_config(self.transformer.config.tied_head)

    def _hf_config(self, tied: bool) -> dict[str, Any]:
        architecture = self.family.architectures.language_model
        return {"architectures": [architecture], "tie_word_embeddings": tied}

    def chosen_head_weights(self) -> Mapping[str, Any]:
        """As PretrainedModel's: a head that the chosen adapter has apart."""
        untied = self.untied_weights() if self.gate and OWN in self.gate.chosen else {}
        return {name: as_float32(variable).T for name, variable in untied.items()}

    def chosen_hf_config(self) -> dict[str, Any]:
        """As PretrainedModel's."""
        tied = self.transformer.config.tied_head and not self.chosen_head_weights()
        return self._hf_config(tied)

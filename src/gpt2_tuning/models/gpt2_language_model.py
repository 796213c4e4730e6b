"""GPT-2 as a language model: the token embedding, transposed, scores the next token."""

from typing import Any

import keras
import tensorflow as tf

from gpt2_tuning.formats.huggingface import TIED_HEAD
from gpt2_tuning.models import chunked_loss
from gpt2_tuning.models.gpt2_model import Cache, GPT2Model, gathered
from gpt2_tuning.models.lora import project
from gpt2_tuning.models.tunable import TunableModel


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class GPT2LanguageModel(TunableModel):
    """Hidden states times the transposed token embedding (the head is tied).

    Args:
        config: a GPT2Config, or its fields as a dict.
        lora: a LoRAConfig, a dict of its fields, or None.
    """

    def __init__(self, config, lora=None, **kwargs):
        super().__init__(config, lora, **kwargs)
        self.transformer = GPT2Model(
            self.config, self.lora, dtype=self.dtype_policy, name="transformer"
        )

    def build(self, input_shape=None):
        """Creates every weight; no data or shape is needed."""
        self.transformer.build((None, None))

    def call(self, inputs, cache: Cache | None = None, training=None):
        """Logits, float32; with a cache, (logits, new cache).

        Args:
            inputs: as GPT2Model's. With `target_positions`, int32 [B, K], logits are computed for
                those positions only: [B, K, vocab_size]; else for all: [B, T, vocab_size].
            cache: as GPT2Model's.
        """
        hidden = self.transformer(inputs, cache=cache, training=training)
        if cache is not None:
            hidden, cache = hidden
        logits = tf.cast(
            project(at_targets(hidden, inputs), tf.transpose(self.table())), tf.float32
        )
        return logits if cache is None else (logits, cache)

    def loss_sums(self, inputs, targets, weights, training=None):
        """The weighted sums of cross-entropies and of right predictions, float32 scalars.

        The logits never exist as a whole: see chunked_loss.weighted_cross_entropy.

        Args:
            inputs: as for `call`, with `target_positions`.
            targets: int32 [B, K], the token that follows each of those positions.
            weights: float32 [B, K].
            training: whether dropout is on and gradients will be asked for.
        """
        hidden = at_targets(self.transformer(inputs, training=training), inputs)
        flat = tf.reshape(hidden, [-1, self.config.n_embd])
        rows = (flat, self.table(), tf.reshape(targets, [-1]), tf.reshape(weights, [-1]))
        if training:
            train_table = self.transformer.wte.embeddings.trainable
            return chunked_loss.weighted_cross_entropy(*rows, train_table=train_table)
        return chunked_loss.cross_entropy_sums(*rows)

    def table(self):
        """The token embedding, [vocab_size, n_embd] in the compute type."""
        return tf.cast(tf.convert_to_tensor(self.transformer.wte.embeddings), self.compute_dtype)

    def used_heads(self) -> set[str]:
        """`lm_head.weight`, which is the token embedding."""
        return {TIED_HEAD}

    def hf_config(self) -> dict[str, Any]:
        """What makes transformers load the directory as GPT2LMHeadModel."""
        return {"architectures": ["GPT2LMHeadModel"], "tie_word_embeddings": True}


def at_targets(hidden, inputs):
    """Hidden states [B, K, C] at the inputs' `target_positions`; without those, all [B, T, C]."""
    if "target_positions" not in inputs:
        return hidden
    return gathered(hidden, inputs["target_positions"])

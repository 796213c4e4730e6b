"""What a step makes smaller: the sums of a batch, whose gradient is that of the global loss."""

import dataclasses
from typing import Protocol

import tensorflow as tf

from gpt2_tuning.data.inputs import Inputs
from gpt2_tuning.models import chunked_loss
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.models.tunable import TunableModel


class Objective(Protocol):
    """A model and what it is to learn."""

    @property
    def model(self) -> TunableModel:
        """What is tuned."""

    def sums(
        self, inputs: Inputs, targets: tf.Tensor, weights: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The weighted sums of losses and of right predictions, float32 scalars.

        Args:
            inputs: as the model takes them.
            targets: int32, what is right.
            weights: float32, as many.
            training: whether dropout is on and gradients will be asked for, of the first sum.
        """


@dataclasses.dataclass(frozen=True)
class NextTokens:
    """A language model's cross-entropy of the tokens that follow `target_positions`, [B, K].

    The logits never exist as a whole: see chunked_loss.weighted_cross_entropy.
    """

    model: LanguageModel

    def sums(
        self, inputs: Inputs, targets: tf.Tensor, weights: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As Objective's; targets and weights are [B, K]."""
        model = self.model
        hidden = model.hidden_at_targets(inputs, training=training)
        flat = tf.reshape(hidden, [-1, model.transformer.config.width])
        rows = (flat, model.table(), tf.reshape(targets, [-1]), tf.reshape(weights, [-1]))
        if training:
            train_table = model.head_table.trainable
            return chunked_loss.weighted_cross_entropy(*rows, train_table=train_table)
        return chunked_loss.cross_entropy_sums(*rows)


@dataclasses.dataclass(frozen=True)
class RightClass:
    """A classifier's cross-entropy of each row's class, [B]; of a packed batch [B, K]."""

    model: Classifier
    smoothing: float = 0.0
    """The share of the right answer that training spreads over all classes (Szegedy et al. 2016,
    https://arxiv.org/abs/1512.00567)."""

    def sums(
        self, inputs: Inputs, targets: tf.Tensor, weights: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As Objective's."""
        logits = self.model(inputs, training=training)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
        if training and self.smoothing:
            spread = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
            losses = (1 - self.smoothing) * losses + self.smoothing * spread
        hits = tf.argmax(logits, axis=-1, output_type=targets.dtype) == targets
        hits = tf.cast(hits, tf.float32)
        return tf.reduce_sum(losses * weights), tf.reduce_sum(hits * weights)


def objective_of(model: TunableModel) -> Objective:
    """What a model with this head usually learns."""
    if isinstance(model, LanguageModel):
        return NextTokens(model)
    assert isinstance(model, Classifier)
    return RightClass(model)

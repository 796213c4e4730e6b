"""A decoder as a classifier of single texts and of pairs: the last real token decides."""

import functools
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.data.inputs import Inputs
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import FamilyConfig
from gpt2_tuning.formats import classifier_head
from gpt2_tuning.formats.classifier_head import listed
from gpt2_tuning.formats.directory import Checkpoint
from gpt2_tuning.formats.huggingface import as_float32
from gpt2_tuning.models import label_range
from gpt2_tuning.models.attention import MASKED
from gpt2_tuning.models.gate import OWN, Choice
from gpt2_tuning.models.inputs import last_real_token
from gpt2_tuning.models.lora import trained_policy
from gpt2_tuning.models.mixture import ROUNDED, Mixture
from gpt2_tuning.models.products import project
from gpt2_tuning.models.replicas import Dropout
from gpt2_tuning.models.tunable import TunableModel


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class Classifier(TunableModel):
    """Hidden state of the last real token, dropout, and a `score` layer without bias.

    Args:
        config: a config such as GPT2Config, or its fields as a dict.
        num_classes: how many classes; may be left out where `label_names` are given.
        lora: a LoRAConfig, a dict of its fields, or None.
        label_names: the classes' names, in the order of the scores.
    """

    task_type = "SEQ_CLS"

    def __init__(
        self,
        config: FamilyConfig | Mapping[str, Any],
        num_classes: int | None = None,
        lora: LoRAConfig | Mapping[str, Any] | None = None,
        label_names: Sequence[str] | None = None,
        **kwargs,
    ):
        super().__init__(config, lora, **kwargs)
        self.names_given = label_names is not None
        """Whether the classes have names of their own, which no checkpoint's replace."""
        self.label_names = classifier_head.classes_of(num_classes, label_names)
        self.num_classes = len(self.label_names)
        dtype = self.dtype_policy
        decoder = self.transformer.config
        self.dropout = Dropout(decoder.dropouts.residual, dtype=dtype, name="dropout")
        self.score = keras.layers.Dense(
            self.num_classes,
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(stddev=decoder.initial_spread),
            dtype=trained_policy(dtype),
            name="score",
        )

    def build_parts(self) -> None:
        """Creates the weights of the parts, the head's too."""
        super().build_parts()
        pooled = (None, self.transformer.config.width)
        self.dropout.build(pooled)
        self.score.build(pooled)

    def call(self, inputs: Inputs, training=None, gate=None):
        """Logits, float32 [B, num_classes]; of a packed batch [B, K, num_classes].

        Where adapters were added, `num_classes` is the most that one has: rows of others have
        MASKED in place of scores of further classes.

        Args:
            inputs: a dict of `token_ids` and `attention_mask`, both int32 [B, T]; a packed batch
                has `segment_ids`, int32 [B, T], instead of the mask and `last_positions`, int32
                [B, K]: where the last tokens of a row's examples are.
            training: whether dropout is on.
            gate: see `gate_of_pass`.
        """
        at = inputs.get("last_positions")
        if at is None:
            at = last_real_token(inputs["attention_mask"])[:, tf.newaxis]
        gate = self.gate_of_pass(inputs.get("gate") if gate is None else gate)
        pooled = self.transformer(inputs, training=training, at=at, gate=gate)
        if "last_positions" not in inputs:
            pooled = pooled[:, 0]
        pooled = self.dropout(pooled, training=training)
        logits = tf.cast(self.score(pooled), tf.float32)
        if self.gate is None or not self.gate.added:
            return logits
        heads = gate.heads if isinstance(gate, Mixture) else self.gate.heads()
        return self._of_heads(logits, pooled, heads)

    def _of_heads(self, own, pooled, heads) -> tf.Tensor:
        """The logits of the head of each row, from those of the model's own.

        Args:
            own: float32 [B, num_classes].
            pooled: [B, width].
            heads: as Mixture's.
        """
        assert self.gate is not None
        shares = tf.unstack(heads, axis=-1)[-len(self.gate.added) :]
        left = 1.0 - tf.add_n(shares)
        shares = [tf.where(tf.abs(left) < ROUNDED, 0.0, left), *shares]
        logits = [own]
        for adapter in self.gate.added.values():
            kernel = tf.cast(tf.convert_to_tensor(adapter.head), pooled.dtype)
            logits.append(tf.cast(project(pooled, kernel), tf.float32))
        total = tf.zeros([])
        for share, part in zip(shares, logits, strict=True):
            width = [[0, 0]] * (len(part.shape) - 1) + [[0, self.most_classes - part.shape[-1]]]
            part = tf.pad(part, width, constant_values=MASKED)
            share = tf.reshape(share, [-1] + [1] * (len(part.shape) - 1))
            # Chosen, so that a head that is not finite stays out of the rows of others.
            total += tf.where(share != 0, share * part, 0.0)
        return total

    @property
    def most_classes(self) -> int:
        """The most classes that its own head has, or that of an adapter."""
        added = self.gate.added.values() if self.gate else ()
        return max(self.num_classes, *(len(adapter.label_names) for adapter in added), 0)

    def chosen_label_names(self, choice: Choice | EllipsisType = ...) -> list[str]:
        """The classes that rows under some adapters are labelled with; else under what is chosen.

        Raises:
            UserError: there is no such adapter, or the heads of several cannot be mixed.
        """
        if isinstance(choice, EllipsisType):
            shares = self.gate.chosen if self.gate and self.gate.on else {}
        else:
            shares = self.checked_choice(choice)
        names = [self._names_of(name) for name in shares]
        return names[0] if names else self.label_names

    def _names_of(self, name: str) -> list[str]:
        assert self.gate is not None
        return self.label_names if name == OWN else self.gate.added[name].label_names

    def checked_choice(self, choice: Choice) -> dict[str, float]:
        """As PretrainedModel's; of several adapters the heads must have the same classes."""
        shares = super().checked_choice(choice)
        first, *others = [self._names_of(name) for name in shares] or [[]]
        for name, names in zip(list(shares)[1:], others, strict=True):
            if names != first:
                raise UserError(
                    f"adapter {next(iter(shares))} has the classes {listed(first)}, {name} "
                    f"{listed(names)}: heads of different classes cannot be mixed"
                )
        if len(shares) > 1 and sum(shares.values()) <= 0:
            raise UserError("the shares of a mixture of classifiers must add up to more than 0")
        return shares

    def chosen_head_weights(self) -> Mapping[str, Any]:
        """As PretrainedModel's: one head, or the mean of several by their shares."""
        chosen = self.gate.chosen if self.gate else {}
        if set(chosen) <= {OWN}:
            return self.head_weights()
        assert self.gate is not None
        heads = {OWN: self.score.kernel} | {
            name: adapter.head for name, adapter in self.gate.added.items()
        }
        total = sum(chosen.values())
        mixed = sum(share / total * as_float32(heads[name]) for name, share in chosen.items())
        return {classifier_head.HEAD: mixed}

    def chosen_hf_config(self) -> dict[str, Any]:
        """As PretrainedModel's."""
        return self._hf_config(self.chosen_label_names())

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """As Keras's; a label beyond the classes of its row's head fails the step.

        (But not where XLA compiles it, which leaves such questions out.)
        """
        if self.gate is not None and self.gate.added and y is not None:
            y_pred = label_range.checked_in_step(y, y_pred)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def fit(self, x=None, y=None, *args, **kwargs):
        """As TunableModel's.

        Raises:
            UserError: as TunableModel's, or a label is beyond the classes of its row's head.
        """
        for inputs, labels in ((x, y), (kwargs.get("validation_data") or (None, None))[:2]):
            label_range.check(labels, self._classes_of(inputs))
        with label_range.said():
            return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """As Keras's. Raises UserError as `fit` does."""
        label_range.check(y, self._classes_of(x))
        with label_range.said():
            return super().evaluate(x, y, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """As Keras's. Raises UserError as `fit` does."""
        label_range.check(y, self._classes_of(x))
        with label_range.said():
            return super().train_on_batch(x, y, *args, **kwargs)

    def _classes_of(self, inputs: Any) -> Any:
        """How many classes the head of every row has, or an array of each row's where these vary.

        Args:
            inputs: as `call` takes them, of the rows.
        """
        gate = inputs.get("gate") if isinstance(inputs, Mapping) else None
        if gate is None or self.gate is None or not self.gate.added:
            return len(self.chosen_label_names())
        on = np.asarray(gate) != 0
        if on.ndim != 2:
            return np.where(on.reshape(-1), len(self.chosen_label_names()), self.num_classes)
        sizes = np.array([len(self._names_of(name)) for name in self.gate.names])
        return np.where(on.any(axis=1), (on * sizes).max(axis=1), self.num_classes)

    @functools.cached_property
    def forward(self) -> tf.types.experimental.PolymorphicFunction:
        """`call` without dropout, compiled, on one device whatever the strategy.

        Keras's `predict` would have every replica compute every batch, and every worker take part.
        One graph serves all shapes: of another graph the last bits might be others.
        """
        rows = tf.TensorSpec([None, None], tf.int32)
        return tf.function(
            lambda inputs: self(inputs, training=False),
            [{"token_ids": rows, "attention_mask": rows}],
            autograph=False,
        )

    @functools.cached_property
    def forward_by_row(self) -> tf.types.experimental.PolymorphicFunction:
        """As `forward`, with a gate for each row, as `rows_gate` gives it."""
        rows = tf.TensorSpec([None, None], tf.int32)
        gate = self.rows_gate_spec()
        return tf.function(
            lambda inputs: self(inputs, training=False),
            [{"token_ids": rows, "attention_mask": rows, "gate": gate}],
            autograph=False,
        )

    def forget_traces(self) -> None:
        """As TunableModel's, and `forward`'s."""
        super().forget_traces()
        self.__dict__.pop("forward", None)
        self.__dict__.pop("forward_by_row", None)

    def head_weights(self) -> dict[str, keras.Variable]:
        """`score.weight`, which files hold as (num_classes, width)."""
        return {classifier_head.HEAD: self.score.kernel}

    @classmethod
    def head_arguments(cls, checkpoint: Checkpoint, given: Mapping[str, Any]) -> dict[str, Any]:
        """The checkpoint's label names, unless the classes are given."""
        if given.get("label_names") is not None or given.get("num_classes") is not None:
            return {}
        names = classifier_head.label_names(checkpoint)
        return {"label_names": names} if names else {}

    def match_head(self, checkpoint: Checkpoint) -> classifier_head.Match | None:
        """How this model takes a checkpoint's head; None where the checkpoint has none."""
        theirs = classifier_head.label_names(checkpoint)
        if not theirs:
            return None
        return classifier_head.match(self.label_names, theirs, self.names_given)

    def hf_config(self) -> dict[str, Any]:
        """What makes transformers load the directory as a classifier."""
        return self._hf_config(self.label_names)

    def _hf_config(self, label_names: Sequence[str]) -> dict[str, Any]:
        return {
            "architectures": [self.family.architectures.classifier],
            "id2label": {str(index): name for index, name in enumerate(label_names)},
            "label2id": {name: index for index, name in enumerate(label_names)},
            **({} if self.pad_token_id is None else {"pad_token_id": self.pad_token_id}),
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "label_names": self.label_names}

"""A decoder as a classifier of single texts and of pairs: the last real token decides."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.data.inputs import Inputs
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import FamilyConfig
from gpt2_tuning.formats import classifier_head
from gpt2_tuning.formats.directory import Checkpoint
from gpt2_tuning.models.inputs import last_real_token
from gpt2_tuning.models.lora import trained_policy
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
        if label_names is None:
            label_names = classifier_head.unnamed(num_classes or 0)
        self.label_names = list(label_names)
        self.num_classes = len(self.label_names)
        if self.num_classes < 2 or self.num_classes != (num_classes or self.num_classes):
            raise UserError(
                f"a classifier needs two classes or more, each with a name: "
                f"num_classes={num_classes}, label_names={self.label_names}"
            )
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

    def build(self, input_shape=None):
        """Creates every weight; no data or shape is needed."""
        super().build(input_shape)
        pooled = (None, self.transformer.config.width)
        self.dropout.build(pooled)
        self.score.build(pooled)

    def call(self, inputs: Inputs, training=None, gate=None):
        """Logits, float32 [B, num_classes]; of a packed batch [B, K, num_classes].

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
        gate = self.gate_of_pass(gate)
        pooled = self.transformer(inputs, training=training, at=at, gate=gate)
        if "last_positions" not in inputs:
            pooled = pooled[:, 0]
        logits = self.score(self.dropout(pooled, training=training))
        return tf.cast(logits, tf.float32)

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

    def forget_traces(self) -> None:
        """As TunableModel's, and `forward`'s."""
        super().forget_traces()
        self.__dict__.pop("forward", None)

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
        return {
            "architectures": [self.family.architectures.classifier],
            "id2label": {str(index): name for index, name in enumerate(self.label_names)},
            "label2id": {name: index for index, name in enumerate(self.label_names)},
            "pad_token_id": self.family.end_id,
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "label_names": self.label_names}

"""A model, as far as files are concerned."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import keras
import numpy as np

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.data.tokenizer import Tokenizer
from gpt2_tuning.families.family import Family, FamilyConfig
from gpt2_tuning.formats.classifier_head import Match
from gpt2_tuning.formats.directory import Checkpoint


class Adapted(Protocol):
    """What an adapter is written from, and read into: a model, or one of several in it.

    Where names are those of files, they are without the prefix of models with heads.
    """

    family: Family
    config: FamilyConfig
    task_type: ClassVar[str]
    """PEFT's word for what the model does."""
    label_names: list[str]
    pretrained_name: str | None
    exact_base_sha256: str | None
    kept_adapter_fields: Mapping[str, Any]

    @property
    def lora(self) -> LoRAConfig | None:
        """Where the updates go."""

    @property
    def kept_kernels(self) -> Mapping[str, np.ndarray]:
        """The base's kernels, by their names in files, while updates are merged into them."""

    def base_weights(self) -> dict[str, keras.Variable]:
        """The base's variables by their names in files."""

    def head_weights(self) -> dict[str, keras.Variable]:
        """The head's; those in files are transposed."""

    def lora_weights(self) -> dict[str, keras.Variable]:
        """The low-rank updates'; those in files are transposed."""

    def start_weights(self) -> dict[str, keras.Variable]:
        """What the updates began as, by the layer's name and `.lora_start_A` or `B`."""

    def own_weights(self) -> dict[str, keras.Variable]:
        """The base's variables that the adapter tunes, and a head that it has apart."""

    def used_heads(self) -> set[str]:
        """The heads, by their names in files, that the model computes with."""


class Holder(Adapted, Protocol):
    """What files are written from, and read into: `models.tunable.TunableModel` is one."""

    loading_notes: list[str]
    tokenizer_dir: Path | None
    chat_template: str | None

    @property
    def tokenizer(self) -> Tokenizer:
        """Between text and token ids. Raises UserError where there is none."""

    @property
    def holds_rounded(self) -> bool:
        """Whether the base is held in a type that rounds float32 weights."""

    def match_head(self, checkpoint: Checkpoint) -> Match | None:
        """How the model takes a checkpoint's classifier head; None where either has none."""

    def hf_config(self) -> dict[str, Any]:
        """What config.json says of this model beyond the base's shape."""

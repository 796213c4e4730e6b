"""What the base and the models with heads have in common: weights from elsewhere, and LoRA."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, cast

import keras
import numpy as np

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.formats import adapters, hub, huggingface
from gpt2_tuning.formats.classifier_head import Match
from gpt2_tuning.formats.directory import Checkpoint, read_checkpoint
from gpt2_tuning.models import merging, parameters
from gpt2_tuning.models.initial import random_values_left_out
from gpt2_tuning.models.keras_state import SavedByName
from gpt2_tuning.models.lora import LoRADense
from gpt2_tuning.models.parameters import ParameterCount


class TunableModel(SavedByName):
    """A Keras model around GPT-2: it compiles, fits and predicts as any other.

    Args:
        config: a GPT2Config, or its fields as a dict.
        lora: a LoRAConfig, a dict of its fields, or None for a model without LoRA weights.
        kwargs: `name`, and `dtype` (a Keras dtype policy such as "mixed_bfloat16").
    """

    def __init__(
        self,
        config: GPT2Config | Mapping[str, Any],
        lora: LoRAConfig | Mapping[str, Any] | None = None,
        **kwargs,
    ):
        # The layers inside cast by themselves; a cache may be in a type of its own.
        super().__init__(autocast=False, **kwargs)
        self.config = config if isinstance(config, GPT2Config) else GPT2Config.from_dict(config)
        self.lora = LoRAConfig.of(lora)
        self.pretrained_name: str | None = None  # where the base came from, for adapters to record
        self.exact_base_sha256: str | None = None  # of weights that were rounded when loaded
        self.kept_adapter_fields: Mapping[str, Any] = MappingProxyType({})
        self.loading_notes: list[str] = []
        """What a user should know of how the last checkpoint was taken, a line each."""

    @property
    def base(self) -> "TunableModel":
        """The GPT2Model inside; the model itself where it has no head."""
        return cast(TunableModel, getattr(self, "transformer", self))

    @classmethod
    def from_pretrained(cls, pretrained: str | Path, **kwargs) -> Self:
        """A built model with weights from a size, a Hub name or a local directory.

        What of the checkpoint is not taken as it is, is said on standard error.

        Args:
            pretrained: "124M", "openai-community/gpt2", or a directory with config.json and
                model.safetensors. Only Hub names and sizes use the network, unless cached.
            kwargs: the constructor's other arguments, such as `lora`.

        Raises:
            UserError: the weights cannot be had, or do not fit; random ones never stand in.
        """
        model = cls.from_pretrained_silently(pretrained, **kwargs)
        model.say_loading_notes()
        return model

    @classmethod
    def from_pretrained_silently(cls, pretrained: str | Path, **kwargs) -> Self:
        """As `from_pretrained`; what there is to say is in `loading_notes` only."""
        checkpoint = read_checkpoint(hub.find_checkpoint(str(pretrained)))
        arguments = {**kwargs, **cls.head_arguments(checkpoint, kwargs)}
        model = cls(GPT2Config.from_dict(checkpoint.fields), **arguments)
        with random_values_left_out():
            model.built_now()
        huggingface.load(model, checkpoint)
        model.pretrained_name = hub.public_name(str(pretrained))
        return model

    def load_weights_from(self, directory: str | Path) -> None:
        """Takes the weights of a Hugging Face directory (safetensors), all or none of them.

        What of it is not taken as it is, is said on standard error.

        Raises:
            UserError: the weights cannot be had, or do not fit.
        """
        self._require_unmerged("loading weights")
        huggingface.load(self.built_now(), read_checkpoint(Path(directory)))
        self.pretrained_name = str(directory)
        self.say_loading_notes()

    def say_loading_notes(self) -> None:
        """Prints `loading_notes` on standard error."""
        for note in self.loading_notes:
            print(f"note: {note}", file=sys.stderr)

    def load_tf_gpt2(self, tf_model) -> None:
        """Takes the weights of a live transformers TFGPT2Model or TFGPT2LMHeadModel.

        Raises:
            UserError: a weight is missing or has another shape; nothing is changed then.
        """
        self._require_unmerged("loading weights")
        huggingface.load_tf_gpt2(self.built_now(), tf_model)
        self.pretrained_name = getattr(tf_model, "name_or_path", "") or None

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes config.json and model.safetensors as Hugging Face's transformers reads them.

        LoRA updates are not among them: see `merge_and_export` and `save_adapter`.

        Raises:
            UserError: the directory holds other files, which would be removed.
        """
        huggingface.save_directory(self, Path(directory))

    def built_now(self) -> Self:
        """The model itself, its weights created if they were not."""
        if not self.built:
            self.build()
        return self

    @classmethod
    def head_arguments(cls, checkpoint: Checkpoint, given: Mapping[str, Any]) -> dict[str, Any]:
        """What a checkpoint says of its head that is not given: arguments of the constructor."""
        return {}

    def match_head(self, checkpoint: Checkpoint) -> Match | None:
        """How the model takes a checkpoint's classifier head; None where either has none."""
        return None

    def used_heads(self) -> set[str]:
        """The heads, by their Hugging Face names, that the model computes with."""
        return set(self.head_weights())

    def hf_config(self) -> dict[str, Any]:
        """What config.json says of this model beyond the base's shape."""
        return {"architectures": ["GPT2Model"]}

    def head_weights(self) -> dict[str, keras.Variable]:
        """The head's weights by their Hugging Face names; those are (out, in), ours (in, out)."""
        return {}

    def lora_layers(self) -> dict[str, LoRADense]:
        """The adapted layers by their name in the base, such as "h.0.attn.c_attn"."""
        adapted = {}
        for index, block in enumerate(self.base.h):
            for part, layer in (
                ("attn.c_attn", block.attn.c_attn),
                ("attn.c_proj", block.attn.c_proj),
                ("mlp.c_fc", block.mlp.c_fc),
                ("mlp.c_proj", block.mlp.c_proj),
            ):
                if layer.update is not None:
                    adapted[f"h.{index}.{part}"] = layer
        return adapted

    def freeze_all_but_lora(self) -> None:
        """From the next `fit` on, only LoRA weights and the classifier's `score` head change.

        Raises:
            UserError: the model was made without LoRA.
        """
        self._require_lora("freeze_all_but_lora()")
        self.built_now()
        kept = {id(variable) for variable in self.head_weights().values()}
        for layer in self.lora_layers().values():
            kept |= {id(layer.lora_A), id(layer.lora_B)}
        for variable in self.weights:
            if id(variable) not in kept:
                variable.trainable = False
        # A function traced before would go on updating the weights that are now frozen.
        self.train_function = None

    @contextlib.contextmanager
    def disable_lora(self) -> Iterator[None]:
        """Inside the block the model computes exactly as its base does, traced functions too.

        Raises:
            UserError: the model was made without LoRA, or is merged.
        """
        self._require_lora("disable_lora()")
        self._require_unmerged("disable_lora()")
        switch = self.base.switch
        before = switch.on
        switch.set(False)
        try:
            yield
        finally:
            switch.set(before)

    def merge(self) -> float:
        """Adds the LoRA updates to the kernels, which then compute alone; twice equals once.

        Returns:
            The largest difference of the outputs on a probe batch, at most 1e-3.

        Raises:
            UserError: the difference is larger, or the base is held rounded; the model is as it
                was before.
        """
        self._require_lora("merge()")
        self._require_exact("merge()")
        return merging.merge(self.built_now())

    def unmerge(self) -> None:
        """Takes the updates out of the kernels again, bit for bit."""
        self._require_lora("unmerge()")
        merging.unmerge(self)

    def merge_and_export(self, directory: str | Path) -> None:
        """Writes base + updates as a plain Hugging Face GPT-2, float32; the model stays as it is.

        Raises:
            UserError: the model was made without LoRA, its base is held rounded, or the directory
                holds other files.
        """
        self._require_lora("merge_and_export()")
        self._require_exact("merge_and_export()")
        merging.merge_and_export(self.built_now(), Path(directory))

    @property
    def kept_kernels(self) -> dict[str, np.ndarray]:
        """The base's kernels, by their names in files, while updates are merged into them."""
        switch = self.base.switch
        return switch.merged.kept if switch and switch.merged else {}

    def save_adapter(self, directory: str | Path) -> None:
        """Writes the LoRA weights and the classifier's head as PEFT reads them."""
        self._require_lora("save_adapter()")
        adapters.save_adapter(self.built_now(), Path(directory))

    def load_adapter(self, directory: str | Path) -> None:
        """Takes the weights of an adapter in PEFT's format, all or none of them.

        Raises:
            UserError: the adapter is not for this base, these targets, ranks or classes.
        """
        self._require_lora("load_adapter()")
        self._require_unmerged("load_adapter()")
        adapters.load_adapter(self.built_now(), Path(directory))

    def count_parameters(self) -> dict[str, ParameterCount]:
        """Trainable and frozen parameters of the `base`, the `LoRA` weights and the `head`."""
        return parameters.count_parameters(self.built_now())

    def print_trainable(self) -> None:
        """Prints those counts and their totals as a table."""
        parameters.print_counts(self.count_parameters())

    def make_train_function(self, force=False):
        """As Keras does for `fit`; refuses a merged model, whose updates would not be trained."""
        self._require_unmerged("training")
        return super().make_train_function(force)

    def _require_lora(self, what: str) -> None:
        if self.lora is None:
            raise UserError(f'{what} needs a model with LoRA: pass lora={{"rank": 8, "alpha": 16}}')

    def _require_unmerged(self, what: str) -> None:
        if self.kept_kernels:
            raise UserError(f"{what} on a merged model: call unmerge() first")

    def _require_exact(self, what: str) -> None:
        if huggingface.holds_rounded(self):
            raise UserError(
                f"{what} on a base held in {self.base.variable_dtype}: load the adapter into a "
                "float32 model first"
            )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "config": self.config.to_dict(),
            "lora": self.lora.to_dict() if self.lora else None,
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
        }

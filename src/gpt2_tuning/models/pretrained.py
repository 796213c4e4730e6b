"""What models with and without a head have in common: a decoder, with weights from elsewhere."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from gpt2_tuning.formats import hub, huggingface, tf_gpt2
from gpt2_tuning.formats.classifier_head import Match
from gpt2_tuning.formats.directory import Checkpoint, read_checkpoint
from gpt2_tuning.models.decoder_model import DecoderModel
from gpt2_tuning.models.initial import random_values_left_out


class PretrainedModel(DecoderModel):
    """A Keras model around a decoder, whose weights come from files and go into them."""

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
        model = cls(checkpoint.config, **arguments)
        with random_values_left_out():
            model.built_now()
        huggingface.load(model, checkpoint)
        model.start_adapter()
        model.pretrained_name = hub.public_name(str(pretrained))
        model.tokenizer_dir = checkpoint.directory
        return model

    def load_weights_from(self, directory: str | Path) -> None:
        """Takes the weights of a Hugging Face directory (safetensors), all or none of them.

        What of it is not taken as it is, is said on standard error.

        Raises:
            UserError: the weights cannot be had, or do not fit.
        """
        self._require_unmerged("loading weights")
        huggingface.load(self.built_now(), read_checkpoint(Path(directory)))
        self.start_adapter()
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
        tf_gpt2.load_tf_gpt2(self.built_now(), tf_model)
        self.start_adapter()
        self.pretrained_name = getattr(tf_model, "name_or_path", "") or None

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes config.json and model.safetensors as Hugging Face's transformers reads them.

        LoRA updates are not among them: see `merge_and_export` and `save_adapter`.

        Raises:
            UserError: the directory holds other files, which would be removed.
        """
        huggingface.save_directory(self.built_now(), Path(directory))

    def save_base(self, directory: str | Path) -> None:
        """As `save_pretrained`, without the head.

        Raises:
            UserError: the directory holds other files, which would be removed.
        """
        huggingface.save_base(self.built_now(), Path(directory))

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
        return {"architectures": [self.family.architectures.base]}

    def chosen_head_weights(self) -> Mapping[str, Any]:
        """The head of what is chosen among the adapters, as `head_weights`."""
        return self.head_weights()

    def chosen_hf_config(self) -> dict[str, Any]:
        """As `hf_config`, for that head."""
        return self.hf_config()

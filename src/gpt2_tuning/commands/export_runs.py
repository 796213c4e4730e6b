"""The runs that are exported: what they left, and what they answer."""

import dataclasses
from pathlib import Path
from typing import Any

from gpt2_tuning.data.chat_template import ChatTemplate, is_chat
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.runs.finished_run import metadata_of_run
from gpt2_tuning.runs.run_files import ADAPTER, ASIDE, MODEL
from gpt2_tuning.runs.settings import read_settings
from gpt2_tuning.runs.tuned_model import load_tuned
from gpt2_tuning.training.seeds import SEEDS_FILE


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run that left a model or an adapter."""

    directory: Path
    metadata: Metadata
    settings: dict[str, Any]

    @property
    def has_adapter(self) -> bool:
        """Whether it tuned an adapter, not a whole model."""
        return not (self.directory / MODEL).is_dir()

    @property
    def classifies(self) -> bool:
        """Whether it labels texts; else it writes."""
        return self.metadata.label_names is not None

    @property
    def texts(self) -> tuple[str, ...]:
        """What the texts that a classifier labels are called."""
        return self.metadata.texts

    @property
    def reads_texts(self) -> bool:
        """Whether its tokenizer is GPT-2's, which a graph can hold."""
        return isinstance(self.metadata.tokenizer, GPT2Tokenizer)

    @property
    def chat(self) -> ChatTemplate | None:
        """The template of its conversations, where it was tuned on such."""
        fields = self.metadata.template
        if fields is None or not is_chat(fields):
            return None
        return ChatTemplate.from_metadata(fields, self.metadata.tokenizer)

    def model(self) -> TunableModel:
        """Its model, in float32.

        Raises:
            UserError: its files were changed, or its base cannot be had.
        """
        tokenizer, names = self.metadata.tokenizer, self.metadata.label_names
        if names is None:
            return load_tuned(LanguageModel, self.directory, tokenizer)
        return load_tuned(Classifier, self.directory, tokenizer, label_names=names)


def finished(directory: Path) -> FinishedRun:
    """The run that a directory is.

    Raises:
        UserError: it is none, or its training has not finished.
    """
    if (directory / SEEDS_FILE).is_file():
        raise UserError(f"{directory} holds a run for each seed: give one of them")
    metadata = metadata_of_run(directory, None, "run")
    settings = read_settings(directory)
    if not (directory / MODEL).is_dir() and not (directory / ADAPTER).is_dir():
        older = directory / ASIDE
        raise UserError(
            f"run {directory} has no tuned model: its training has not finished"
            + (f"; the run that it is to overwrite is in {older}" if older.is_dir() else "")
        )
    return FinishedRun(directory, metadata, settings)

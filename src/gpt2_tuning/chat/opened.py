"""Finished runs, opened to be tried: their models, and what on each of them can answer.

One base serves many: a run of LoRA whose base is loaded already, for another run or beneath an
adapter, is added to it as a named adapter.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gpt2_tuning.data.metadata import Metadata, read_content
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats import adapters
from gpt2_tuning.inference.chatting import responder_of
from gpt2_tuning.inference.responding import Responder
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.gate import OWN, Choice
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.options.testing import GenerationOptions
from gpt2_tuning.runs import finished_run, tuned_model, weights_record
from gpt2_tuning.runs.adapter_places import adapter_place
from gpt2_tuning.runs.run_files import ADAPTER
from gpt2_tuning.runs.settings import base_of_run, read_settings

TUNED, BASE = "tuned", "base"
"""What a run's own model and the one that it began from are called on the page."""
ANY_TASK = "instruction"
"""By which a directory is looked at that names none: what it is instead is said."""


@dataclasses.dataclass(frozen=True)
class Voice:
    """What can answer: a model under one of its adapters, or under none."""

    model: TunableModel
    choice: Choice


@dataclasses.dataclass
class OpenRun:
    """A finished run that can be asked."""

    directory: Path
    name: str
    metadata: Metadata
    texts: tuple[str, ...]
    """What the texts of a classifier's example are called; none of a language model."""
    voices: dict[str, Voice]
    """By what they are called on the page, its own first."""
    base: str
    """What it began from."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What whoever tries it should know, a line each."""

    @property
    def own(self) -> Voice:
        """What the run tuned."""
        return self.voices[TUNED]

    @property
    def labels(self) -> bool:
        """Whether it labels texts; else it writes."""
        return self.metadata.label_names is not None

    def voice(self, name: str) -> Voice:
        """What is called so. Raises UserError where nothing is."""
        if name not in self.voices:
            raise UserError(f"nothing here is called {name!r}: there are {', '.join(self.voices)}")
        return self.voices[name]

    def responder(self, voice: Voice) -> Responder:
        """What answers by the run's template; how, is still to be said."""
        assert isinstance(voice.model, LanguageModel)
        return responder_of(voice.model, self.metadata, GenerationOptions())


def open_runs(
    directories: Sequence[Path],
    given: Mapping[str, Path],
    texts_of: Callable[[str], tuple[str, ...]],
) -> list[OpenRun]:
    """Loads runs and the adapters that are to be tried on their bases.

    Args:
        directories: of the runs.
        given: adapters in PEFT's format or runs, by what they are to be called.
        texts_of: a task's words for the texts of an example.

    Raises:
        UserError: a directory is no run, or none that finished; an adapter is for none of them.
    """
    found = [described(directory, texts_of) for directory in directories]
    for number, run in enumerate(found):
        run.name = unused(run.directory.absolute().name, [one.name for one in found[:number]])
        tuned_model.round_as_in_training(run.directory)
        run.voices[TUNED] = loaded(run, found[:number], f"run-{number + 1}")
    for run in found:
        for one in found:
            alike = one.own.model is run.own.model and one.metadata.task == run.metadata.task
            if alike and one is not run:
                run.voices[unused(one.name, [TUNED, BASE, *given])] = one.own
    for name, directory in given.items():
        add_adapter(found, name, directory)
    for run in found:
        if not run.labels:
            add_base(run)
    return found


def described(directory: Path, texts_of: Callable[[str], tuple[str, ...]]) -> OpenRun:
    """A run before its model is loaded.

    Raises:
        UserError: the directory is no run, or holds one for each of several seeds.
    """
    content = read_content(directory) if directory.is_dir() else None
    task = content["task"] if content else ANY_TASK
    metadata = finished_run.metadata_of_run(directory, task)
    if read_settings(directory).get("seeds", 1) != 1:
        raise UserError(f"{directory} holds a run for each seed: give one of them")
    texts = texts_of(metadata.task) if metadata.label_names is not None else ()
    return OpenRun(directory, directory.name, metadata, texts, {}, base_of_run(directory))


def loaded(run: OpenRun, others: Sequence[OpenRun], name: str) -> Voice:
    """A run's model: that of another run with its adapter added under `name`, or its own."""
    for model in models_of(others):
        if shares_base(run, model):
            with contextlib.suppress(UserError):  # what is wrong with it is said below
                weights_record.check(run.directory)
                model.load_adapter(run.directory / ADAPTER, name=name)
                return Voice(model, name)
    metadata = run.metadata
    if run.labels:
        model = tuned_model.load_tuned(
            Classifier, run.directory, metadata.tokenizer, label_names=metadata.label_names
        )
    else:
        model = tuned_model.load_tuned(LanguageModel, run.directory, metadata.tokenizer)
    model.rows_gate([None])  # refuses what no row can be computed without
    return Voice(model, OWN if model.lora else None)


def shares_base(run: OpenRun, model: TunableModel) -> bool:
    """Whether a run left an adapter that says that it is of the base of a model of its kind."""
    if not (run.directory / ADAPTER).is_dir() or not model.lora:
        return False
    if model.tokenizer.sha256 != run.metadata.tokenizer.sha256:
        return False
    if isinstance(model, Classifier) != run.labels:
        return False
    _, extra = adapters.read_adapter_config(run.directory / ADAPTER)
    same_classes = extra.label_names == run.metadata.label_names
    return same_classes and extra.base_sha256 == adapters.base_fingerprint(model)


def add_adapter(runs: Sequence[OpenRun], name: str, given: Path) -> None:
    """Adds an adapter to each model that it is for, as a voice of the runs of that model.

    Raises:
        UserError: it is not there, or is for none of them.
    """
    place = adapter_place(given)
    fits, reasons = [], []
    for model in models_of(runs):
        try:
            model.load_adapter(place.directory, name=name)
            fits.append(model)
        except UserError as error:
            reasons.append(str(error))
    if not fits:
        others = f" (and for none of {len(reasons)} models)" if len(reasons) > 1 else ""
        raise UserError(f"--adapter {name}: {reasons[0]}{others}")
    for run in runs:
        if run.own.model in fits:
            run.voices[name] = Voice(run.own.model, name)


def add_base(run: OpenRun) -> None:
    """Adds what a run began from as a voice; where it cannot be had a note says why.

    That of LoRA is the same model without its updates; of another run it is loaded beside it.
    """
    model = run.own.model
    try:
        run.voices[BASE] = Voice(tuned_model.load_base(model, run.directory), None)
    except UserError as error:
        run.notes.append(f"no base beside it: {error}")


def models_of(runs: Sequence[OpenRun]) -> list[TunableModel]:
    """The models of runs, each once."""
    return list({id(run.own.model): run.own.model for run in runs}.values())


def unused(name: str, taken: Sequence[str]) -> str:
    """The name, or with a number after it where it is taken."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name} ({number})"
    return found

"""What a server answers with: a run or a base, and adapters on it, each a model by its name."""

import dataclasses
import functools
import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2_tuning import paths
from gpt2_tuning.data.chat_template import ChatTemplate, chat_template_of, is_chat
from gpt2_tuning.data.metadata import Metadata, read_content, read_metadata
from gpt2_tuning.data.prompts import Template
from gpt2_tuning.data.tokenizer import Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats import classifier_head, hub
from gpt2_tuning.formats.directory import CONFIG_FILE, read_checkpoint
from gpt2_tuning.inference.embedding import Embedder
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.gate import OWN, Choice
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.runs import finished_run, tuned_model
from gpt2_tuning.runs.adapter_places import adapter_place
from gpt2_tuning.runs.settings import OPTIONS_FILE

BASE = "base"
"""What the model without its adapters is called, where it has some."""
SEEDS = f"seed-*/{OPTIONS_FILE}"


@dataclasses.dataclass(frozen=True)
class Named:
    """A model as people ask for it."""

    name: str
    adapter: Choice
    template: Template | ChatTemplate | None = None
    """What makes a prompt of what is said to it."""
    label_names: list[str] | None = None
    """Of one that labels."""
    seq_len: int | None = None
    """The most tokens of a text that is labelled; None is the model's positions."""
    texts: int | None = None
    """How many texts it labels together, 1 or the 2 of a pair; None where nothing says it."""


@dataclasses.dataclass(frozen=True)
class Served:
    """One model in memory, and the names under which it answers."""

    model: TunableModel
    models: Mapping[str, Named]

    @property
    def tokenizer(self) -> Tokenizer:
        """Between text and token ids."""
        return self.model.tokenizer

    @property
    def positions(self) -> int:
        """The most tokens of a row."""
        return self.model.config.decoder.positions

    @functools.cached_property
    def embedder(self) -> Embedder:
        """What makes vectors of texts."""
        return Embedder(self.model)

    @property
    def language_model(self) -> LanguageModel | None:
        """The model, where it writes."""
        return self.model if isinstance(self.model, LanguageModel) else None


def load(target: str, adapters: Mapping[str, Path]) -> Served:
    """Reads a model and its adapters.

    Args:
        target: a run, by its directory or its name in the default place; or a base, by its
            directory, size or name on the Hub.
        adapters: directories of PEFT's or runs, by the names that they are served under.

    Raises:
        UserError: there is no such thing, a run is not finished, an adapter is of another base, or
            two models would have one name.
    """
    run_dir = run_named(target)
    model, first = of_run(run_dir) if run_dir else of_base(target)
    model = model.built_now()
    models = [first, Named(BASE, None)] if first.adapter == OWN else [first]
    for number, (name, given) in enumerate(adapters.items(), start=1):
        models.append(of_adapter(model, f"adapter-{number}", name, given, first))
    named = {one.name: one for one in models}
    if len(named) < len(models):
        names = ", ".join(one.name for one in models)
        raise UserError(f"two models have one name ({names}): give --adapter another NAME")
    return Served(model, named)


def run_named(target: str) -> Path | None:
    """The run that is meant; None where it is a base.

    Raises:
        UserError: it is neither.
    """
    path = place_of(target)
    if (path / OPTIONS_FILE).is_file():
        return path
    if path.is_file():
        raise UserError(f"{target} is a file: give the directory of a run, or a base")
    if path.is_dir() and not (path / CONFIG_FILE).is_file():
        content = read_content(path)
        what = finished_run.what_it_is(path, content["task"] if content else "text")
        raise UserError(f"{target} {what}")
    return None


def place_of(given: str) -> Path:
    """A path as it is, or where the run of this name lies, of whatever task.

    Raises:
        UserError: there are several.
    """
    path = Path(given)
    if path.exists() or path.name != given:
        return path
    runs = paths.run_dir("*", "").parent.parent
    found = [place.parent for place in sorted(runs.glob(f"*/{glob.escape(given)}/{OPTIONS_FILE}"))]
    if len(found) > 1:
        raise UserError(f"{given} is the name of several runs: {', '.join(map(str, found))}")
    return found[0] if found else path


def of_run(run_dir: Path) -> tuple[TunableModel, Named]:
    """The tuned model of a run, and the name it goes by. Raises UserError as `load`."""
    if any(run_dir.glob(SEEDS)):
        raise UserError(f"{run_dir} holds a run for each seed: give one of them")
    metadata = metadata_of(run_dir)
    tuned_model.round_as_in_training(run_dir)
    tokenizer, labels = metadata.tokenizer, metadata.label_names
    model: TunableModel
    if labels is None:
        model = tuned_model.load_tuned(LanguageModel, run_dir, tokenizer)
    else:
        model = tuned_model.load_tuned(Classifier, run_dir, tokenizer, label_names=labels)
    model.rows_gate([None])  # refuses what no row can be computed without
    name = run_dir.absolute().name
    return model, named(name, OWN if model.lora else None, metadata)


def metadata_of(run_dir: Path) -> Metadata:
    """The metadata.json of a run. Raises UserError where it has none that can be read."""
    content = read_content(run_dir)
    if content is None:
        raise UserError(f"{run_dir} is a run without its metadata.json: did its training begin?")
    return read_metadata(run_dir, content["task"])


def named(name: str, adapter: Choice, metadata: Metadata) -> Named:
    """A model by what a run's metadata.json says."""
    fields = metadata.template
    template: Any = None
    if is_chat(fields):
        assert fields is not None
        template = ChatTemplate.from_metadata(fields, metadata.tokenizer)
    elif fields is not None:
        template = Template.from_metadata(fields)
    texts = len(metadata.texts)
    return Named(name, adapter, template, metadata.label_names, metadata.seq_len, texts)


def of_base(target: str) -> tuple[TunableModel, Named]:
    """A model as its files have it: a classifier where they hold a head of classes."""
    checkpoint = read_checkpoint(hub.find_checkpoint(target, "serve RUN, or serve"))
    labels = classifier_head.label_names(checkpoint)
    kind: type[TunableModel] = Classifier if labels else LanguageModel
    model = kind.from_pretrained(target)
    template: ChatTemplate | None = None
    if not labels:
        found = chat_template_of(None, checkpoint.directory, model.tokenizer)
        template = found if found.name != "default" else None
    name = Path(target).absolute().name if Path(target).is_dir() else target
    return model, Named(name, None, template, list(labels) if labels else None)


def of_adapter(model: TunableModel, own_name: str, name: str, given: Path, first: Named) -> Named:
    """Adds an adapter to a model; a run's brings its template and classes.

    Args:
        model: built.
        own_name: what the model calls it.
        name: what people call it.
        given: a directory of PEFT's, or a run.
        first: the model's first name, whose template stands in where the adapter has none.

    Raises:
        UserError: there is none, or it is not for this base.
    """
    given = place_of(str(given))
    place = adapter_place(given)
    model.load_adapter(place.directory, name=own_name)
    if (given / OPTIONS_FILE).is_file():
        metadata = metadata_of(given)
        if metadata.tokenizer.sha256 != model.tokenizer.sha256:
            raise UserError(f"--adapter {name}={given} was tuned with another tokenizer")
        return named(name, own_name, metadata)
    labels = None
    if isinstance(model, Classifier):
        labels = model.chosen_label_names(own_name)
    return dataclasses.replace(first, name=name, adapter=own_name, label_names=labels, texts=None)

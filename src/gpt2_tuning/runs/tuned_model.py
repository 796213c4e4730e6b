"""A run's tuned model: written when it is done, and read back to be tried."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tensorflow as tf

from gpt2_tuning import paths
from gpt2_tuning.data.metadata import METADATA_FILE
from gpt2_tuning.data.tokenizer import Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats import adapter_files, adapters, classifier_head
from gpt2_tuning.formats.directory import CONFIG_FILE, read_checkpoint
from gpt2_tuning.models.gate import OWN
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.runs import weights_record
from gpt2_tuning.runs.adapter_places import adapter_place
from gpt2_tuning.runs.run_files import ADAPTER, ASIDE, BASE, MODEL
from gpt2_tuning.runs.settings import OPTIONS_FILE, base_of_run, read_settings

ModelT = TypeVar("ModelT", bound=TunableModel)


def save_tuned(model: TunableModel, run_dir: Path) -> Path:
    """Writes what the run is for: the adapter of a LoRA run, else the whole model."""
    part = ADAPTER if model.lora else MODEL
    if model.lora:
        model.save_adapter(run_dir / part)
    else:
        model.save_pretrained(run_dir / part)
    weights_record.record(run_dir, part)
    return run_dir / part


def load_tuned(
    model_class: type[ModelT], run_dir: Path, tokenizer: Tokenizer | None = None, **arguments: Any
) -> ModelT:
    """The model of a finished run.

    Args:
        model_class: the run's.
        run_dir: the run's directory.
        tokenizer: that of its data; None is the base's own.
        arguments: the model class's own, such as `label_names`.

    Raises:
        UserError: the run left no model, its files were changed or disagree, or its base cannot
            be had.
    """
    label_names = arguments.get("label_names")
    if (run_dir / MODEL).is_dir():
        weights_record.check(run_dir)
        if label_names is not None:
            found = classifier_head.label_names(read_checkpoint(run_dir / MODEL))
            check_labels(run_dir, f"{MODEL}/{CONFIG_FILE}", found, label_names)
        model = model_class.from_pretrained_silently(run_dir / MODEL, **arguments)
        return with_tokenizer(model, tokenizer)
    if not (run_dir / ADAPTER).is_dir():
        older = run_dir / ASIDE
        raise UserError(
            f"{run_dir} holds no tuned model: did its training finish?"
            + (f" The run that it was to overwrite is in {older}" if older.is_dir() else "")
        )
    weights_record.check(run_dir)
    lora, extra = adapters.read_adapter_config(run_dir / ADAPTER)
    if label_names is not None and extra.label_names is not None:
        file = f"{ADAPTER}/{adapter_files.WEIGHTS_FILE}"
        check_labels(run_dir, file, extra.label_names, label_names)
    kept = run_dir / BASE
    base = kept if kept.is_dir() else base_of_run(run_dir)
    # What of the base's head is not taken does not matter: the adapter brings the run's.
    model = model_class.from_pretrained_silently(base, lora=lora, **arguments)
    model.load_adapter(run_dir / ADAPTER)
    return with_tokenizer(model, tokenizer)


def load_base(model: ModelT, run_dir: Path) -> ModelT:
    """The model before tuning: the same one where its LoRA can be switched off.

    Raises:
        UserError: the run tuned every weight, and its base cannot be had, or was random and is not
            kept.
    """
    if model.lora:
        return model
    base = base_of_run(run_dir)
    if base == "none":
        raise UserError("the base was random, and a full run does not keep it")
    untuned = type(model).from_pretrained(base)
    untuned.tokenizer = model.tokenizer
    return untuned


def run_of(adapters: Sequence[Path], task: str) -> Path | None:
    """The first run among the adapters that `--adapter` names; None where none is one."""
    places = [path if path.exists() else paths.run_dir(task, str(path)) for path in adapters]
    return next((path for path in places if (path / OPTIONS_FILE).is_file()), None)


def load_adapters(
    model: TunableModel, run_dir: Path, adapters: Sequence[Path], task: str
) -> dict[str, str]:
    """Adds the adapters that `--adapter` names to the model of a run.

    Returns:
        Their names in the model, by what was given.

    Raises:
        UserError: one is not there, or not for the run's base.
    """
    names: dict[str, str] = {}
    for number, given in enumerate(adapters, start=1):
        place = adapter_place(given, task)
        own = model.lora is not None and place.directory.samefile(run_dir / ADAPTER)
        names[str(given)] = OWN if own else f"adapter-{number}"
        if not own:
            model.load_adapter(place.directory, name=f"adapter-{number}")
    return names


def with_tokenizer(model: ModelT, tokenizer: Tokenizer | None) -> ModelT:
    """The model, which works with this tokenizer from now on unless that is None."""
    if tokenizer is not None:
        model.tokenizer = tokenizer
    return model


def check_labels(
    run_dir: Path, file: str, found: Sequence[str] | None, wanted: Sequence[str]
) -> None:
    """Raises UserError where the classes in a run's weights are not those of its metadata.json.

    Their order is that of the scores, so it counts too.
    """
    if list(found or []) != list(wanted):
        theirs, ours = (", ".join(names) or "none" for names in (found or [], wanted))
        raise UserError(
            f"{run_dir / file} has the classes {theirs}, {run_dir / METADATA_FILE} has {ours}: "
            "one of them is not this run's"
        )


def round_as_in_training(run_dir: Path) -> None:
    """Lets float32's products round their factors, or not, as they did in a finished run."""
    rounded = read_settings(run_dir).get("tensor_float_32", True)
    tf.config.experimental.enable_tensor_float_32_execution(bool(rounded))

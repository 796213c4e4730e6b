"""Runs that begin where something tuned already has come to: an adapter, or a finished run.

What such a run begins from settles flags, which it records as its own; so whatever reads a run
needs to know nothing of it.
"""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats import adapters
from gpt2_tuning.layer_names import text_of_blocks, text_of_modules
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.runs import weights_record
from gpt2_tuning.runs.adapter_places import adapter_place
from gpt2_tuning.runs.run_files import ADAPTER, MODEL
from gpt2_tuning.runs.settings import OPTIONS_FILE, read_settings

OptionsT = TypeVar("OptionsT", bound=TrainOptions)


def with_start(options: OptionsT) -> OptionsT:
    """The flags of a run with what follows from --adapter or --continue.

    Raises:
        UserError: what it names is not there, is not finished, or does not go with other flags.
    """
    if options.continue_ is not None:
        options = with_run(options, options.continue_)
    start = start_of(options)
    if start is None:
        return options
    if options.tune != "all":
        raise UserError(
            f"--tune {options.tune} tunes no adapter, but this run begins with one: leave it out"
        )
    place = adapter_place(start)
    lora, extra = adapters.read_adapter_config(place.directory)
    settled: dict[str, Any] = {
        "lora_rank": lora.rank,
        "lora_alpha": float(lora.alpha),
        "lora_dropout": float(lora.dropout),
        "lora_targets": lora.targets,
        "lora_layers": text_of_blocks(lora.layers),
        "lora_init": lora.init,
        "use_dora": lora.use_dora,
        "lora_bias": lora.bias,
        "modules_to_save": text_of_modules(lora.modules_to_save),
    }
    names_none = options.pretrained is None and options.model_size == type(options).model_size
    base = place.base or extra.base_name
    if names_none and base is not None:
        settled["pretrained"] = base
    return dataclasses.replace(options, **settled)


def with_run(options: OptionsT, run_dir: Path) -> OptionsT:
    """The flags of a run that begins with another's weights, with that one's kind and data.

    Raises:
        UserError: there is no finished run, or it tuned no adapter, which another flag needs.
    """
    if not (run_dir / OPTIONS_FILE).is_file():
        raise UserError(f"--continue {run_dir} is not a run: give the --output_dir of a training")
    if not any((run_dir / part).is_dir() for part in (MODEL, ADAPTER)):
        raise UserError(f"--continue {run_dir} holds no tuned model: did its training finish?")
    whole = (run_dir / MODEL).is_dir()
    if whole and options.lora_plus and not options.resume:
        raise UserError(f"--lora_plus needs a run with an adapter, which {run_dir} has not")
    weights_record.check(run_dir)
    settled: dict[str, Any] = {}
    data = read_settings(run_dir).get("dataset_dir")
    if options.dataset_dir is None and data:
        settled["dataset_dir"] = Path(data)
    if whole:
        settled |= {"pretrained": str((run_dir / MODEL).absolute()), "lora_rank": 0}
    return dataclasses.replace(options, **settled)


def start_of(options: TrainOptions) -> Path | None:
    """The adapter, or the run with one, that a run begins with; None where it begins with none."""
    run_dir = options.continue_
    if run_dir is not None and not (run_dir / MODEL).is_dir():
        return run_dir
    return options.adapter


def adapter_of(options: TrainOptions) -> tuple[Path, LoRAConfig] | None:
    """The directory of that adapter, and what a model must be made with to take it."""
    start = start_of(options)
    if start is None:
        return None
    directory = adapter_place(start).directory
    return directory, adapters.read_adapter_config(directory)[0]

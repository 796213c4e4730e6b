"""From flags to a model ready to be tuned, and from a finished run back to its model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from gpt2_tuning.config import GPT2Config, LoRAConfig
from gpt2_tuning.data.metadata import METADATA_FILE, Metadata
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats import adapters, classifier_head
from gpt2_tuning.formats.directory import CONFIG_FILE, read_checkpoint
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.training import weights_record
from gpt2_tuning.training.run_directory import read_settings
from gpt2_tuning.training.run_files import ADAPTER, ASIDE, BASE, MODEL

ModelT = TypeVar("ModelT", bound=TunableModel)


def dtype_policy(precision: str, lora: LoRAConfig | None) -> str:
    """The Keras dtype policy of a run by its `--precision`, which is no longer `auto`.

    Frozen weights are held in the type of the computation; those that are tuned stay in float32.
    """
    return precision if lora or precision == "float32" else f"mixed_{precision}"


def lora_of(options: TrainOptions) -> LoRAConfig | None:
    """The LoRA flags as a config; `--lora_rank 0` is None, full tuning.

    Raises:
        UserError: a value LoRA cannot have.
    """
    if options.lora_rank == 0:
        return None
    return LoRAConfig(
        options.lora_rank, options.lora_alpha, options.lora_dropout, options.lora_targets
    )


def learning_rate_of(options: TrainOptions) -> float:
    """The peak learning rate: the flag's, or what suits LoRA, full tuning or random weights."""
    if options.learning_rate is not None:
        return options.learning_rate
    if options.lora_rank:
        return 2e-4
    return 6e-4 if options.pretrained == "none" else 5e-5


def make_model(
    model_class: type[ModelT], options: TrainOptions, metadata: Metadata, **arguments: Any
) -> ModelT:
    """A model with its base weights; with LoRA, all but the adapters and the head are frozen.

    Args:
        model_class: the model to make.
        options: `pretrained`, `model_size`, `precision`, `rematerialize` and the LoRA flags count.
        metadata: the data it will be tuned on, which it must be able to take.
        arguments: the model class's own, such as `label_names`.

    Raises:
        UserError: the base weights cannot be had (random ones never stand in for them), or the
            model cannot take the data.
    """
    lora = lora_of(options)
    arguments |= {"lora": lora, "dtype": dtype_policy(options.precision, lora)}
    if options.pretrained == "none":
        model = model_class(GPT2Config.from_size(options.model_size), **arguments).built_now()
    else:
        model = model_class.from_pretrained(options.pretrained or options.model_size, **arguments)
    if metadata.seq_len > model.config.n_positions:
        raise UserError(
            f"the data's seq_len {metadata.seq_len} is above the model's {model.config.n_positions}"
        )
    if model.config.vocab_size < metadata.tokenizer.vocabulary:
        raise UserError(
            f"the model knows only {model.config.vocab_size:,} tokens, not the"
            f" {metadata.tokenizer.vocabulary:,} of the data's tokenizer"
        )
    model.base.rematerialize = options.rematerialize
    if lora:
        model.freeze_all_but_lora()
    return model


def keep_random_base(model: TunableModel, options: TrainOptions, run_dir: Path) -> None:
    """Writes the base of a LoRA run on random weights, which nothing else could bring back.

    A resumed run's is written again where it is not as it was recorded: the seed has drawn the
    same, or the checkpoint's sum of the frozen weights refuses it.
    """
    if not model.lora or options.pretrained != "none":
        return
    if not weights_record.is_recorded(run_dir, BASE):
        model.base.save_pretrained(run_dir / BASE)
        weights_record.record(run_dir, BASE)


def save_tuned(model: TunableModel, run_dir: Path) -> Path:
    """Writes what the run is for: the adapter of a LoRA run, else the whole model."""
    part = ADAPTER if model.lora else MODEL
    if model.lora:
        model.save_adapter(run_dir / part)
    else:
        model.save_pretrained(run_dir / part)
    weights_record.record(run_dir, part)
    return run_dir / part


def load_tuned(model_class: type[ModelT], run_dir: Path, **arguments: Any) -> ModelT:
    """The model of a finished run.

    Args:
        model_class: the run's.
        run_dir: the run's directory.
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
        return model_class.from_pretrained_silently(run_dir / MODEL, **arguments)
    if not (run_dir / ADAPTER).is_dir():
        older = run_dir / ASIDE
        raise UserError(
            f"{run_dir} holds no tuned model: did its training finish?"
            + (f" The run that it was to overwrite is in {older}" if older.is_dir() else "")
        )
    weights_record.check(run_dir)
    lora, extra = adapters.read_adapter_config(run_dir / ADAPTER)
    if label_names is not None and extra.label_names is not None:
        file = f"{ADAPTER}/{adapters.WEIGHTS_FILE}"
        check_labels(run_dir, file, extra.label_names, label_names)
    base = run_dir / BASE
    if not base.is_dir():
        settings = read_settings(run_dir)
        base = settings["pretrained"] or settings["model_size"]
    # What of the base's head is not taken does not matter: the adapter brings the run's.
    model = model_class.from_pretrained_silently(base, lora=lora, **arguments)
    model.load_adapter(run_dir / ADAPTER)
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

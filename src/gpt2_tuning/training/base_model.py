"""From flags to a model ready to be tuned, and from a finished run back to its model."""

from pathlib import Path
from typing import Any, TypeVar

from gpt2_tuning.checkpoints import adapters
from gpt2_tuning.config import GPT2Config, LoRAConfig
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.errors import UserError
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.training.options import TrainOptions
from gpt2_tuning.training.run_directory import read_settings
from gpt2_tuning.training.run_files import ADAPTER, BASE, MODEL

ModelT = TypeVar("ModelT", bound=TunableModel)


def dtype_policy(precision: str, lora: LoRAConfig | None) -> str:
    """The Keras dtype policy of a run by its `--precision`.

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
    if model.config.vocab_size <= metadata.pad_token_id:
        raise UserError(f"the model knows only {model.config.vocab_size} tokens: not GPT-2's")
    model.base.rematerialize = options.rematerialize
    if lora:
        model.freeze_all_but_lora()
    return model


def keep_random_base(model: TunableModel, options: TrainOptions, run_dir: Path) -> None:
    """Writes the base of a LoRA run on random weights, which nothing else could bring back."""
    if model.lora and options.pretrained == "none" and not (run_dir / BASE).exists():
        model.base.save_pretrained(run_dir / BASE)


def save_tuned(model: TunableModel, run_dir: Path) -> Path:
    """Writes what the run is for: the adapter of a LoRA run, else the whole model."""
    if model.lora:
        model.save_adapter(run_dir / ADAPTER)
        return run_dir / ADAPTER
    model.save_pretrained(run_dir / MODEL)
    return run_dir / MODEL


def load_tuned(model_class: type[ModelT], run_dir: Path, **arguments: Any) -> ModelT:
    """The model of a finished run.

    Args:
        model_class: the run's.
        run_dir: the run's directory.
        arguments: the model class's own, such as `label_names`.

    Raises:
        UserError: the run left no model, or its base cannot be had.
    """
    if (run_dir / MODEL).is_dir():
        return model_class.from_pretrained(run_dir / MODEL, **arguments)
    if not (run_dir / ADAPTER).is_dir():
        raise UserError(f"{run_dir} holds no tuned model: did its training finish?")
    lora, _ = adapters.read_adapter_config(run_dir / ADAPTER)
    base = run_dir / BASE
    if not base.is_dir():
        settings = read_settings(run_dir)
        base = settings["pretrained"] or settings["model_size"]
    model = model_class.from_pretrained(base, lora=lora, **arguments)
    model.load_adapter(run_dir / ADAPTER)
    return model

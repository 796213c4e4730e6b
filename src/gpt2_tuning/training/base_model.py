"""From flags to a model ready to be tuned, and from a finished run back to its model."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from gpt2_tuning.cluster import is_chief
from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.data.file_tokenizer import SENTENCEPIECE_FILE
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.tokenizer import TOKENIZER_FILES
from gpt2_tuning.errors import UserError
from gpt2_tuning.families import known
from gpt2_tuning.families.family import Family
from gpt2_tuning.formats import hub
from gpt2_tuning.formats.base_files import tokenizer_in
from gpt2_tuning.formats.directory import CONFIG_FILE
from gpt2_tuning.layer_names import blocks_of, modules_of
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.options.lora import check_useful
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.runs import weights_record
from gpt2_tuning.runs.run_files import BASE
from gpt2_tuning.small_files import read_json
from gpt2_tuning.training import starts

ModelT = TypeVar("ModelT", bound=TunableModel)
OptionsT = TypeVar("OptionsT", bound=TrainOptions)


def with_family(options: OptionsT) -> OptionsT:
    """The flags with the base's family, and LoRA's targets in it, where they were left open.

    Raises:
        UserError: the base is of another family than `--family`, or of one that is not known, or
            it has no such target.
    """
    if options.pretrained in (None, "none"):
        family = known.family_named(options.family or known.DEFAULT)
        if options.model_size not in (*family.sizes, *family.aliases):
            raise UserError(
                f"--family {family.name} needs --model_size, one of {', '.join(family.sizes)}, or "
                "--pretrained"
            )
    else:
        family = family_of_base(options.pretrained)
        if options.family not in (None, family.name):
            raise UserError(
                f"--family {options.family}: {options.pretrained} is of the family {family.name}, "
                "so leave --family out or give another --pretrained"
            )
    known.check_targets(family, options.lora_targets)
    targets = LoRAConfig(targets=options.lora_targets or (known.USUAL,)).within(family).targets
    return dataclasses.replace(options, family=family.name, lora_targets=targets)


def family_of_base(pretrained: str) -> Family:
    """The family of a directory or a Hub name: by its config.json, unless the name is well known.

    Raises:
        UserError: it cannot be had, or its family is not known.
    """
    name = hub.public_name(pretrained)
    for family in known.FAMILIES.values():
        if name in family.hub_names.values() and not Path(pretrained).is_dir():
            return family
    path = hub.find_description(pretrained, weights_follow=True) / CONFIG_FILE
    fields = read_json(path)
    try:
        return known.family_of_fields(fields)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def dtype_policy(precision: str, lora: LoRAConfig | None) -> str:
    """The Keras dtype policy of a run by its `--precision`, which is no longer `auto`.

    Frozen weights are held in the type of the computation; those that are tuned stay in float32.
    """
    frozen = lora is not None and not lora.tunes_base
    return precision if frozen or precision == "float32" else f"mixed_{precision}"


def lora_of(options: TrainOptions) -> LoRAConfig | None:
    """The LoRA flags as a config; `--lora_rank 0` is None, full tuning.

    Raises:
        UserError: a value LoRA cannot have.
    """
    if options.lora_rank == 0:
        return None
    return LoRAConfig(
        options.lora_rank,
        options.lora_alpha,
        options.lora_dropout,
        options.lora_targets or known.family_named(options.family or known.DEFAULT).usual_targets,
        layers=blocks_of(options.lora_layers) or (),
        init=options.lora_init,
        use_dora=options.use_dora,
        bias=options.lora_bias,
        modules_to_save=modules_of(options.modules_to_save),
    )


def learning_rate_of(options: TrainOptions) -> float:
    """The peak learning rate: the flag's, or what suits LoRA, full tuning or random weights."""
    if options.learning_rate is not None:
        return options.learning_rate
    if options.lora_rank:
        return 2e-4
    if options.tune in ("head", "biases"):
        return 1e-3
    return 6e-4 if options.pretrained == "none" else 5e-5


def with_base_of_data(options: OptionsT, metadata: Metadata) -> OptionsT:
    """The flags with the base that the data was prepared for, where they name none."""
    names_none = options.pretrained is None and options.model_size == type(options).model_size
    if metadata.base is None or not names_none:
        return options
    if is_chief(options.strategy):
        print(f"base: {metadata.base}, which the data was prepared for")
    return dataclasses.replace(options, pretrained=metadata.base)


def make_model(
    model_class: type[ModelT], options: TrainOptions, metadata: Metadata, **arguments: Any
) -> ModelT:
    """A model with what the run begins with; what is not to be tuned is frozen.

    Args:
        model_class: the model to make.
        options: `family`, `pretrained`, `model_size`, `precision`, `rematerialize` and the LoRA
            flags count.
        metadata: the data it will be tuned on, which it must be able to take.
        arguments: the model class's own, such as `label_names`.

    Raises:
        UserError: the base weights cannot be had (random ones never stand in for them), or the
            model cannot take the data.
    """
    start = starts.adapter_of(options)
    lora = start[1] if start else lora_of(options)
    arguments |= {"lora": lora, "dtype": dtype_policy(options.precision, lora)}
    if options.pretrained == "none":
        config = known.config_of_size(options.model_size, options.family or known.DEFAULT)
        if metadata.base is not None:
            config = known.with_vocabulary(config, metadata.tokenizer.vocabulary)
        if lora and not start:
            check_useful(lora, config)
        model = model_class(config, **arguments).built_now()
    else:
        base = options.pretrained or known.published(
            options.model_size, options.family or known.DEFAULT
        )
        directory = hub.find_description(base, weights_follow=True)
        path = directory / CONFIG_FILE
        config = known.config_of_file(path, read_json(path))
        check_tokenizer(base, directory, known.family_of(config), metadata)
        if lora and not start:
            check_useful(lora, config)
        model = model_class.from_pretrained(base, **arguments)
    model.tokenizer = metadata.tokenizer
    check_takes(model, metadata)
    model.rematerialize = options.rematerialize
    if start:
        model.load_adapter(start[0])
    if lora:
        model.freeze_all_but_lora()
    elif options.tune != "all":
        freeze_all_but(model, options.tune)
    return model


def check_takes(model: ModelT, metadata: Metadata) -> None:
    """Raises UserError where the model has too few positions or tokens for the data."""
    decoder = model.config.decoder
    if metadata.seq_len > decoder.positions:
        raise UserError(
            f"the data's seq_len {metadata.seq_len} is above the model's {decoder.positions}"
        )
    if decoder.vocabulary < metadata.tokenizer.vocabulary:
        raise UserError(
            f"the model knows only {decoder.vocabulary:,} tokens, not the"
            f" {metadata.tokenizer.vocabulary:,} of the data's tokenizer"
        )


def freeze_all_but(model: TunableModel, part: str) -> None:
    """Freezes what `--tune` leaves out. Raises UserError where the model has no such part."""
    try:
        model.freeze_all_but(part)
    except UserError as error:
        raise UserError(f"--tune: {error}") from error


def check_tokenizer(base: str, directory: Path, family: Family, metadata: Metadata) -> None:
    """Looks at a base's tokenizer, in its directory, before its weights are read.

    Raises:
        UserError: it cannot be used, or is not that of the data.
    """
    given = [name for name in (*TOKENIZER_FILES, SENTENCEPIECE_FILE) if (directory / name).exists()]
    if not given and not family.has_gpt2_tokenizer:
        print(f"note: {base} has no tokenizer: it is taken to know the data's token ids")
        return
    if tokenizer_in(directory, family).sha256 != metadata.tokenizer.sha256:
        name = hub.public_name(base)
        raise UserError(
            f"the data was prepared with another tokenizer than that of {name}: "
            f"prepare it with --base {name}"
        )


def keep_random_base(model: TunableModel, options: TrainOptions, run_dir: Path) -> None:
    """Writes the base of a LoRA run on random weights, which nothing else could bring back.

    A resumed run's is written again where it is not as it was recorded: the seed has drawn the
    same, or the checkpoint's sum of the frozen weights refuses it.
    """
    if not model.lora or options.pretrained != "none":
        return
    if not weights_record.is_recorded(run_dir, BASE):
        model.save_base(run_dir / BASE)
        weights_record.record(run_dir, BASE)

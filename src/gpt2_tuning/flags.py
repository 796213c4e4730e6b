"""Flags as they are given: names, and how many values each has. What values become is tyro's part.

So a mistake is answered by the flag that it is in, and it is known which flags were given.
"""

import dataclasses
import difflib
import itertools
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro

from gpt2_tuning.errors import UserError

HELP = ("--help", "-h")
WRITTEN = re.compile(r"--?[A-Za-z][\w-]*(=.*)?", re.DOTALL)
"""What is taken for a flag; a text with blanks in it may begin with a dash."""
_, REPEATED = typing.get_args(tyro.conf.UseAppendAction[tuple[str, ...]])
"""The mark of what may be given several times."""
NUMBERS = ("-inf", "-infinity", "-nan")
ALIASES = {
    "lr": ("learning_rate",),
    "bs": ("batch_size",),
    "model": ("model_size", "run_dir"),
    "model_name": ("model_size", "pretrained", "run_dir"),
    "model_name_or_path": ("pretrained", "run_dir"),
    "checkpoint": ("run_dir", "pretrained"),
    "data": ("dataset_dir", "train_file", "dataset"),
    "data_dir": ("dataset_dir", "output_dir"),
    "dataset_dir": ("output_dir",),
    "dataset": ("dataset_dir",),
    "file": ("train_file", "input"),
    "output": ("output_dir",),
    "num_train_epochs": ("epochs",),
    "max_steps": ("max_updates",),
    "eval_steps": ("validate_every",),
    "save_steps": ("checkpoint_steps",),
    "early_stopping_patience": ("patience",),
    "metric_for_best_model": ("monitor",),
    "per_device_train_batch_size": ("batch_size",),
    "gradient_accumulation_steps": ("gradient_accumulation",),
    "warmup_ratio": ("warmup_share",),
    "target_modules": ("lora_targets",),
    "max_length": ("seq_len", "max_new_tokens"),
    "max_seq_length": ("seq_len",),
    "fp16": ("precision",),
    "bf16": ("precision",),
    "gpus": ("strategy",),
    "gradient_checkpointing": ("rematerialize",),
    "do_sample": ("sampling_method",),
}
"""What others call these flags, or their names begin with; those that a script has are meant."""
KINDS: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    types.NoneType: "None",
}


class Form(NamedTuple):
    """How a flag is written."""

    hint: Any
    """Its type."""
    switch: bool
    """Whether it has no value: `--resume`, `--no_resume`."""
    several: bool
    """Whether it takes several values at once."""
    repeated: bool
    """Whether it may be given several times."""
    kind: str
    """What a value must be."""


@dataclasses.dataclass(frozen=True)
class Given:
    """A flag as it was given."""

    name: str
    """The option that it sets."""
    values: tuple[str, ...]
    on: bool = True
    """False of a switch that is turned off."""
    file: str = ""
    """The YAML file that it stands in; empty on the command line."""
    again: bool = False
    """Whether it was given before with another value, which does not count."""

    @property
    def written(self) -> str:
        """The flag's name, which its option's may not be where that is a word of Python's."""
        return self.name.removesuffix("_")

    @property
    def shown(self) -> str:
        """The flag as a message names it."""
        return in_file(self.name, self.file)

    def arguments(self, form: Form) -> list[str]:
        """The flag as tyro reads it, whatever its values begin with."""
        if form.switch:
            return [f"--{self.written}" if self.on else f"--no_{self.written}"]
        if form.repeated:
            return [f"--{self.written}={value}" for value in self.values]
        return [f"--{self.written}={self.values[0]}", *self.values[1:]]


def forms_of(options_class: type) -> dict[str, Form]:
    """How each flag is written, by name."""
    hints = typing.get_type_hints(options_class, include_extras=True)
    return {
        field.name: form_of(hints[field.name], field.default)
        for field in dataclasses.fields(options_class)
    }


def form_of(hint: Any, default: Any) -> Form:
    """How a flag of this type is written."""
    plain, repeated = hint, False
    if typing.get_origin(hint) is typing.Annotated:
        plain, mark = typing.get_args(hint)
        repeated = mark is REPEATED
    several = typing.get_origin(plain) is tuple
    return Form(
        hint,
        plain is bool,
        several and not repeated,
        repeated,
        kind_of(typing.get_args(plain)[0] if several else plain, default),
    )


def kind_of(hint: Any, default: Any) -> str:
    """What a value of this type is called; None only where that is not what there is anyhow."""
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        kept = default is not None
        members = [one for one in typing.get_args(hint) if kept or one is not types.NoneType]
        return " or ".join(kind_of(member, default) for member in members)
    return KINDS.get(hint, "a value of its kind")


def in_file(name: str, file: str) -> str:
    """A flag as messages name it: `--epochs`, or `epochs in recipe.yaml`."""
    name = name.removesuffix("_")
    return f"{name} in {file}" if file else f"--{name}"


def on_the_line(argv: Sequence[str], forms: Mapping[str, Form]) -> list[Given]:
    """The flags of a command line, in order, each once: with all its values, or with the last.

    Raises:
        UserError: there is no such flag, or it has too few or too many values.
    """
    found: dict[str, Given] = {}
    for written, values in in_groups(argv):
        name, on = option_of(written, forms)
        flag, form = Given(name, values, on), forms[name]
        check_form(flag, form)
        if name in found and form.several:
            raise UserError(f"--{name} is given twice: all its values go after one")
        if name in found and form.repeated:
            flag = Given(name, found[name].values + values)
        found[name] = dataclasses.replace(flag, again=name in found and not form.repeated)
    return list(found.values())


def in_groups(argv: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each flag as it is written, without what follows an `=`, and its values."""
    starts = [index for index, argument in enumerate(argv) if is_flag(argument)]
    if argv and starts[:1] != [0]:
        raise UserError(f"{argv[0]!r} stands where a flag should be (--help lists the flags)")
    for start, stop in itertools.pairwise([*starts, len(argv)]):
        written, equals, value = argv[start].partition("=")
        yield written, (*([value] if equals else []), *argv[start + 1 : stop])


def is_flag(argument: str) -> bool:
    """Whether an argument is a flag rather than a value."""
    return bool(WRITTEN.fullmatch(argument)) and argument.lower() not in NUMBERS


def first_named(argv: Sequence[str], name: str, form: Form) -> list[str]:
    """A command line on which the words before the first flag are values of a flag."""
    first = list(itertools.takewhile(lambda word: not is_flag(word), argv))
    rest, flag = argv[len(first) :], f"--{name}"
    if form.repeated:
        return [*(part for word in first for part in (flag, word)), *rest]
    return [flag, *first, *rest] if first else list(rest)


def flag_name(flag: str) -> str:
    """The option a flag sets: `--no_packing` and `--packing` are both `packing`."""
    return flag.removeprefix("--").replace("-", "_").removeprefix("no_")


def option_of(written: str, forms: Mapping[str, Form]) -> tuple[str, bool]:
    """The option that a flag sets, and whether it is turned on.

    Raises:
        UserError: there is none.
    """
    name, off = written.removeprefix("--").replace("-", "_"), flag_name(written)
    if written.startswith("--") and (found := field_of(name, forms)):
        return found, True
    if written.startswith("--") and off in forms and forms[off].switch:
        return off, False
    raise UserError(
        f"unknown flag {written}{advice(name.lstrip('_'), forms, '--')} (--help lists the flags)"
    )


def field_of(name: str, forms: Mapping[str, Form]) -> str | None:
    """The option of a flag's name, which has a `_` after it where it is a word of Python's."""
    return next((option for option in (name, f"{name}_") if option in forms), None)


def check_form(flag: Given, form: Form) -> None:
    """Raises UserError where a flag has too few or too many values."""
    count = len(flag.values)
    if form.switch:
        if count:
            raise UserError(
                f"{flag.shown} takes no value, not {' '.join(flag.values)}: --{flag.name} turns it "
                f"on, --no_{flag.name} off"
            )
    elif not count:
        raise UserError(f"{flag.shown} needs a value: {form.kind}")
    elif "" in flag.values and not form.repeated:  # such as a variable that a shell does not know
        raise UserError(f"{flag.shown} is empty: it needs a value, {form.kind}")
    elif count > 1 and not form.several:
        again = f", or give --{flag.name} once for each" if form.repeated else ""
        quotes = f": put a text with blanks in quotes{again}" if form.kind == KINDS[str] else ""
        raise UserError(
            f"{flag.shown} takes one value, not {count} ({' '.join(flag.values)}){quotes}"
        )


def advice(name: str, known: Iterable[str], dashes: str = "", cutoff: float = 0.75) -> str:
    """Which options may be meant by a name that is none, as a question; empty if none comes near.

    `lr` is `: did you mean learning_rate?`. `cutoff` is how alike others must be, from 0 to 1.
    """
    meant = [option for option in ALIASES.get(name, ()) if option in set(known)]
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=cutoff)
    part = [option for option in known if name in option.split("_")]
    found = meant or near or part[:3]
    names = [dashes + option.removesuffix("_") for option in found]
    return f": did you mean {' or '.join(names)}?" if found else ""

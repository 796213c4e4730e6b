"""From a command line and a YAML file to options: names and their form here, values by tyro.

So a mistake is answered by the flag that it is in, and it is known which flags were given.
"""

import contextlib
import dataclasses
import difflib
import io
import itertools
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import tyro
import yaml

from gpt2_tuning.errors import UserError

OptionsT = TypeVar("OptionsT")

HELP = ("--help", "-h")
WRITTEN = re.compile(r"--?[A-Za-z][\w-]*(=.*)?", re.DOTALL)
"""What is taken for a flag; a text with blanks in it may begin with a dash."""
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
    def shown(self) -> str:
        """The flag as a message names it."""
        return in_file(self.name, self.file)

    def arguments(self, form: Form) -> list[str]:
        """The flag as tyro reads it, whatever its values begin with."""
        if form.switch:
            return [f"--{self.name}" if self.on else f"--no_{self.name}"]
        if form.repeated:
            return [f"--{self.name}={value}" for value in self.values]
        return [f"--{self.name}={self.values[0]}", *self.values[1:]]


def read_flags(options_class: type[OptionsT], argv: Sequence[str]) -> tuple[OptionsT, list[Given]]:
    """An instance of the dataclass, and the flags that were given, on the line or in `--config`.

    Raises:
        UserError: a name or a value is wrong. `--help` prints and raises SystemExit(0).
    """
    if any(argument in HELP for argument in argv):
        tyro.cli(options_class, args=HELP[:1], use_underscores=True)
    forms = forms_of(options_class)
    found = on_the_line(argv, forms)
    named = {flag.name: flag for flag in found}
    if "config" in named and "config" in forms:
        path = Path(named["config"].values[0])
        found = [flag for flag in in_config(path, forms) if flag.name not in named] + found
    for field in dataclasses.fields(options_class):  # type: ignore[arg-type]
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in named:
            raise UserError(f"--{field.name} must be given (--help lists the flags)")
    return made(options_class, found, forms), found


def made(
    options_class: type[OptionsT], found: Sequence[Given], forms: Mapping[str, Form]
) -> OptionsT:
    """The options. Raises UserError, naming the flag, where a value is not of its kind."""
    arguments = [part for flag in found for part in flag.arguments(forms[flag.name])]
    options = parsed(options_class, arguments)
    if options is not None:
        return options
    for flag in found:
        form = forms[flag.name]
        alone = dataclasses.make_dataclass("Alone", [(flag.name, form.hint)])
        if parsed(alone, flag.arguments(form)) is None:
            raise UserError(f"{flag.shown} must be {form.kind}, not {' '.join(flag.values)}")
    raise UserError("the flags do not go together (--help lists them)")


def parsed(options_class: type[OptionsT], arguments: Sequence[str]) -> OptionsT | None:
    """What tyro makes of arguments; None where it refuses them, in a drawing nobody sees."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(options_class, args=arguments, use_underscores=True)
    except SystemExit:
        return None


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
        plain, *_ = typing.get_args(hint)
        repeated = True  # UseAppendAction is the one mark that is in use
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


# --- the command line --------------------------------------------------------------------------


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


def option_of(written: str, forms: Mapping[str, Form]) -> tuple[str, bool]:
    """The option that a flag sets, and whether it is turned on.

    Raises:
        UserError: there is none.
    """
    name = written.removeprefix("--").replace("-", "_")
    if written.startswith("--") and name in forms:
        return name, True
    off = name.removeprefix("no_")
    if written.startswith("--") and off in forms and forms[off].switch:
        return off, False
    raise UserError(
        f"unknown flag {written}{advice(name.lstrip('_'), forms, '--')} (--help lists the flags)"
    )


def flag_name(flag: str) -> str:
    """The option a flag sets: `--no_packing` and `--packing` are both `packing`."""
    return flag.removeprefix("--").replace("-", "_").removeprefix("no_")


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


def advice(name: str, known: Iterable[str], dashes: str = "") -> str:
    """Which options may be meant by a name that is none, as a question; empty if none comes near.

    `lr` is `: did you mean learning_rate?`.
    """
    meant = [option for option in ALIASES.get(name, ()) if option in set(known)]
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.75)
    part = [option for option in known if name in option.split("_")]
    found = meant or near or part[:3]
    return f": did you mean {' or '.join(dashes + option for option in found)}?" if found else ""


# --- a YAML file -------------------------------------------------------------------------------


def in_config(path: Path, forms: Mapping[str, Form]) -> list[Given]:
    """The flags that a YAML file sets.

    Raises:
        UserError: the file cannot be read, a name is no flag, or its value has another form.
    """
    found = []
    for key, value in read_config(path).items():
        name = str(key)
        if name not in forms:
            raise UserError(f"{path}: unknown flag {name}{advice(name, forms)}")
        if name == "config":
            raise UserError(f"{path}: a config names no other config")
        found.append(from_yaml(name, value, forms[name], str(path)))
    return found


def from_yaml(name: str, value: object, form: Form, file: str) -> Given:
    """A setting of a YAML file as a flag."""
    shown = in_file(name, file)
    if form.switch:
        if not isinstance(value, bool):
            raise UserError(f"{shown} must be true or false, not {value}")
        return Given(name, (), value, file)
    values = value if isinstance(value, list) else [value]
    for single in values:
        if isinstance(single, (bool, dict, list)):
            quotes = " (YAML's word for yes, no, on and off without quotes)"
            raise UserError(
                f"{shown} must be {form.kind}, not {single}"
                f"{quotes if isinstance(single, bool) else ''}"
            )
    if isinstance(value, list) and not (form.several or form.repeated):
        raise UserError(f"{shown} must be {form.kind}, not a list")
    flag = Given(name, tuple(map(str, values)), file=file)
    if not form.repeated:
        check_form(flag, form)
    return flag


def in_file(name: str, file: str) -> str:
    """A flag as messages name it: `--epochs`, or `epochs in recipe.yaml`."""
    return f"{name} in {file}" if file else f"--{name}"


class EachKeyOnce(yaml.SafeLoader):
    """YAML's plain values; of two settings of one name YAML itself would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping. Raises yaml.YAMLError where a key comes twice."""
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key} is set twice")
        return super().construct_mapping(node, deep)


def read_config(path: Path) -> dict[Any, Any]:
    """The settings of a YAML file. Raises UserError when it cannot be read as a mapping."""
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), EachKeyOnce)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the config {path}: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path} is not a config: it must hold lines of the form `name: value`")
    return settings

"""How scripts meet their users: flags from a dataclass, one line for a mistake, an exit code.

Flags are read before TensorFlow is imported, so `--help` and a wrong flag answer at once.
"""

import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import tyro
import yaml

from gpt2_tuning import compiled_cache, interrupts
from gpt2_tuning.errors import UserError
from gpt2_tuning.startup import import_tensorflow, without_triton

OptionsT = TypeVar("OptionsT")


@runtime_checkable
class Checked(Protocol):
    """Options that know which of their values are out of range."""

    def check(self) -> None:
        """Raises UserError when one is."""


USAGE_ERROR = 2
INTERRUPTED = 130


def run(
    options_class: type[OptionsT],
    action: Callable[[OptionsT], int | None],
    argv: Sequence[str] | None = None,
    tensorflow: bool = True,
) -> int:
    """Reads the flags, runs `action(options)` and returns the process's exit code.

    That is 0, or what the action returned. TensorFlow is imported, quietly, before the action,
    unless the action does not need it, and set to keep what it compiles.

    A UserError, or an operating-system error such as a full disk, becomes one line on standard
    error and exit code 2; Ctrl-C becomes 130 and SIGTERM 143. Any other exception is a defect and
    keeps its traceback.
    """
    try:
        options = parse_options(options_class, sys.argv[1:] if argv is None else argv)
        if isinstance(options, Checked):
            options.check()
        with contextlib.ExitStack() as stack:
            if tensorflow:
                without_triton()  # part of what the cache goes by
                stack.enter_context(compiled_cache.used())
                import_tensorflow()
            stack.enter_context(interrupts.terminable())
            return action(options) or 0
    except (UserError, OSError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        return stop.code if isinstance(stop, interrupts.Stopped) else INTERRUPTED


def parse_options(options_class: type[OptionsT], argv: Sequence[str]) -> OptionsT:
    """Flags to an instance of the dataclass; `--config FILE` supplies those not on the line.

    Raises:
        UserError: a flag or a value is wrong. `--help` prints and raises SystemExit(0) as usual.
    """
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(options_class, args=with_config(argv), use_underscores=True)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(first_message(captured.getvalue())) from None


def first_message(panel: str) -> str:
    """The message inside one of tyro's boxes, without the box and what follows its first rule."""
    lines = [line.strip("│ ") for line in panel.splitlines()]
    body: list[str] = []
    for line in lines:
        if line.startswith(("╭", "╰")):
            continue
        if not line or line.startswith("─"):
            break
        body.append(line)
    return " ".join(body) + " (--help lists the flags)"


def with_config(argv: Sequence[str]) -> list[str]:
    """Puts the settings of `--config FILE` in front of `argv`, but for those `argv` sets itself."""
    argv = [part for argument in argv for part in split_equals(argument)]
    if "--config" not in argv:
        return argv
    position = argv.index("--config")
    if position + 1 == len(argv):
        raise UserError("--config needs the name of a YAML file")
    given = {flag_name(argument) for argument in argv if argument.startswith("--")}
    settings = read_config(Path(argv[position + 1]))
    flags: list[str] = []
    for name, value in settings.items():
        if name not in given and name != "config":
            flags += as_flags(name, value)
    return flags + argv


def split_equals(argument: str) -> list[str]:
    """`--name=value` to its two parts; anything else unchanged."""
    return argument.split("=", 1) if argument.startswith("--") and "=" in argument else [argument]


def flag_name(flag: str) -> str:
    """The option a flag sets: `--no_packing` and `--packing` are both `packing`."""
    return flag.removeprefix("--").replace("-", "_").removeprefix("no_")


def as_flags(name: str, value: object) -> list[str]:
    """One setting of a YAML file as it would be written on the command line."""
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no_{name}"]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}", str(value)]


def read_config(path: Path) -> dict[str, object]:
    """The settings of a YAML file. Raises UserError when it cannot be read as a mapping."""
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the config {path}: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path} is not a config: it must hold lines of the form `name: value`")
    return settings

"""How scripts meet their users: flags from a dataclass, one line for a mistake, an exit code.

Flags are read before TensorFlow is imported, so `--help` and a wrong flag answer at once.
"""

from gpt2_tuning import interrupts

interrupts.hook()  # first: the imports below and a script's own are most of its start

import contextlib
import dataclasses
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TextIO, TypeVar, runtime_checkable

import tyro

from gpt2_tuning import compiled_cache, needs, paths
from gpt2_tuning.checks import cut
from gpt2_tuning.config_file import in_config
from gpt2_tuning.errors import UserError, is_out_of_memory
from gpt2_tuning.flags import HELP, Form, Given, first_named, forms_of, on_the_line
from gpt2_tuning.startup import import_tensorflow, without_triton

OptionsT = TypeVar("OptionsT")


@runtime_checkable
class Checked(Protocol):
    """Options that know which of their values are out of range."""

    def check(self) -> None:
        """Raises UserError when one is."""


USAGE_ERROR = 2
OUT_OF_MEMORY = (
    "error: out of memory: give a smaller --batch_size, or see what fits with "
    "`python -m gpt2_tuning.commands.plan`"
)


def run(
    options_class: type[OptionsT],
    action: Callable[[OptionsT], int | None],
    argv: Sequence[str] | None = None,
    program: str | None = None,
    tensorflow: bool = True,
) -> int:
    """Reads the flags, runs `action(options)` and returns the process's exit code.

    That is 0, or what the action returned. TensorFlow is imported, quietly, before the action,
    unless the action does not need it, and set to keep what it compiles. `program` is what
    `--help` calls what is run; without it that is the script's name.

    A UserError, too little memory, or an operating-system error such as a full disk, becomes one
    line on standard error and exit code 2; Ctrl-C becomes 130 and SIGTERM 143. Any other exception
    is a defect and keeps its traceback.
    """
    escape_what_cannot_be_shown()
    try:
        argv = sys.argv[1:] if argv is None else argv
        options = checked_options(options_class, argv, program)
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings_as_notes())
            if tensorflow:
                without_triton()  # part of what the cache goes by
                stack.enter_context(compiled_cache.used())
                import_tensorflow()
            stack.enter_context(interrupts.terminable())
            return action(options) or 0
    except (UserError, OSError) as error:
        return refused(error)
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        return stop.code if isinstance(stop, interrupts.Stopped) else interrupts.CTRL_C
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(OUT_OF_MEMORY, file=sys.stderr)
        return USAGE_ERROR


def escape_what_cannot_be_shown() -> None:
    """Has characters that a terminal lacks shown as escapes; else they would end the script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Inside the block a warning that is for users is a line without its place in the code."""
    shown = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category is UserWarning:
            print("note: " + " ".join(str(message).split()), file=sys.stderr)
        else:
            shown(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def refused(error: Exception) -> int:
    """Says in one line what is a user's to mend; returns the exit code."""
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    return USAGE_ERROR


def checked_options(
    options_class: type[OptionsT], argv: Sequence[str], program: str | None = None
) -> OptionsT:
    """What `parse_options` gives, once all values are in range and no flag is without effect.

    Raises:
        UserError: one is not.
    """
    options, given = read_flags(options_class, argv, program)
    options, notes = needs.with_implied(options, given)
    if isinstance(options, Checked):
        options.check()
    needs.check_effect(options, given)
    if note := paths.note_on_places(options):
        notes.append(note)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return options


def parse_options(options_class: type[OptionsT], argv: Sequence[str]) -> OptionsT:
    """Flags to an instance of the dataclass; `--config FILE` supplies those not on the line.

    Raises:
        UserError: a flag or a value is wrong. `--help` prints and raises SystemExit(0) as usual.
    """
    options, _ = read_flags(options_class, argv)
    return options


def read_flags(
    options_class: type[OptionsT], argv: Sequence[str], program: str | None = None
) -> tuple[OptionsT, list[Given]]:
    """An instance of the dataclass, and the flags that were given, on the line or in `--config`.

    Raises:
        UserError: a name or a value is wrong. `--help` prints and raises SystemExit(0).
    """
    if any(argument in HELP for argument in argv):
        tyro.cli(options_class, prog=program, args=HELP[:1], use_underscores=True)
    forms = forms_of(options_class)
    if first := getattr(options_class, "FIRST", None):
        argv = first_named(argv, first, forms[first])
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
        for flag in found:
            value = getattr(options, flag.name)
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise UserError(f"{flag.shown} must be of 64 bits, not {cut(str(value))}")
        return options
    for flag in found:
        form = forms[flag.name]
        alone = dataclasses.make_dataclass("Alone", [(flag.name, form.hint)])
        if parsed(alone, flag.arguments(form)) is None:
            raise UserError(f"{flag.shown} must be {form.kind}, not {cut(' '.join(flag.values))}")
    raise UserError("the flags do not go together (--help lists them)")


def parsed(options_class: type[OptionsT], arguments: Sequence[str]) -> OptionsT | None:
    """What tyro makes of arguments; None where it refuses them, in a drawing nobody sees."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(options_class, args=arguments, use_underscores=True)
    except SystemExit:
        return None

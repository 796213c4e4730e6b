"""The installed command, `gpt2-tuning`: each task's steps, and what belongs to no task.

    gpt2-tuning train classification --model_size tiny

It finds what is meant and hands the flags on to it, so `--help` and a mistake answer at once.
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Union

import tyro

from gpt2_tuning import __version__, cli, flags, tasks
from gpt2_tuning.errors import UserError
from gpt2_tuning.paths import PROGRAM

STEPS = {
    "prepare": "turns the rows of a task into a data set",
    "train": "tunes a model on a task's data set",
    "test": "tries and scores a tuned model of a task",
}
COMMANDS = {
    "chat": "opens a page to talk to a tuned model beside its base",
    "serve": "answers over HTTP, in the words of OpenAI's API",
    "export": "writes a finished run for transformers, PEFT or TensorFlow alone",
    "adapters": "shows, mixes and merges adapters on disk",
    "plan": "says what fits into a device's memory",
    "certify": "shows that any layout of devices gives the same weights",
    "launch": "starts several workers of one training on this machine",
}
VERSION = "--version"
COMPLETION = "--tyro-print-completion"
SHELLS = ("bash", "zsh", "tcsh")
NEAR = 0.6
"""How alike what was written and what is meant are, from 0 to 1: there are few to choose among."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the first words name, with the flags that follow them; returns its exit code."""
    try:
        return dispatch(list(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        return cli.refused(error)


def dispatch(argv: list[str]) -> int:
    """What `main` does.

    Raises:
        UserError: there is no such command or task.
    """
    first, rest = (argv[0], argv[1:]) if argv else ("", [])
    if first in COMMANDS:
        command = importlib.import_module(f"gpt2_tuning.commands.{first}")
        return command.main(rest, f"{PROGRAM} {first}")
    if first in STEPS:
        return run_step(first, rest)
    if first in flags.HELP:
        return shown(overview())
    if first == VERSION:
        return shown(f"{PROGRAM} {__version__}")
    if first == COMPLETION:
        return complete(rest)
    if first in task_names():
        raise UserError(f"{first} is a task, which comes second: {PROGRAM} train {first} [flags]")
    known = [*STEPS, *COMMANDS]
    raise UserError(wrong("command", first, known, [*known, VERSION, *flags.HELP]))


def run_step(step: str, argv: list[str]) -> int:
    """Runs a step of the task that is named first; returns its exit code.

    Raises:
        UserError: there is no such task.
    """
    known = task_names()
    if argv and argv[0] in flags.HELP:
        return shown(tasks_of(step))
    if not argv or argv[0].startswith("-"):
        first = f" before {argv[0]}" if argv else ""
        raise UserError(f"{step} needs a task{first}: {listed(known)}")
    if argv[0] not in known:
        raise UserError(wrong("task", argv[0], known, known))
    module = importlib.import_module(f"gpt2_tuning.tasks.{argv[0]}.{step}")
    return module.main(argv[1:], f"{PROGRAM} {step} {argv[0]}")


def task_names() -> list[str]:
    """The tasks there are: a folder each."""
    return [module.name for module in pkgutil.iter_modules(tasks.__path__) if module.ispkg]


def wrong(kind: str, name: str, known: Sequence[str], near: Iterable[str]) -> str:
    """What is said of a command or a task that is none: what is near, and what there is."""
    if not name:
        return f"no {kind} is given: {listed(known)} (--help says what each does)"
    advice = flags.advice(name, near, cutoff=NEAR)
    return f"unknown {kind} {name}{advice} (there are {', '.join(known)})"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


def overview() -> str:
    """What `--help` says."""
    return f"""usage: {PROGRAM} STEP TASK [flags]
       {PROGRAM} COMMAND [flags]
       {PROGRAM} --help | {VERSION} | {COMPLETION} {"|".join(SHELLS)}

A task's steps; `{PROGRAM} STEP --help` says of each task what it does there:
{table(STEPS)}

Tasks: {", ".join(task_names())}

Other commands:
{table(COMMANDS)}

`--help` after a task or a command lists its flags."""


def tasks_of(step: str) -> str:
    """What `gpt2-tuning STEP --help` says: a line for each task."""
    lines = {name: options.__doc__ or "" for name, options in options_of(step).items()}
    return f"usage: {PROGRAM} {step} TASK [flags]\n\nTasks:\n{table(lines)}"


def options_of(step: str) -> dict[str, Any]:
    """The options of a step, by task."""
    return {
        name: importlib.import_module(f"gpt2_tuning.tasks.{name}.{step}").Options
        for name in task_names()
    }


def table(lines: Mapping[str, str]) -> str:
    """Names and what they are, aligned."""
    width = max(map(len, lines))
    return "\n".join(f"  {name:{width}}  {text}" for name, text in lines.items())


def shown(text: str) -> int:
    """Prints what was asked for; returns the exit code of success."""
    print(text)
    return 0


def complete(argv: list[str]) -> int:
    """Prints with what a shell completes our commands, tasks and flags, which tyro knows.

    Raises:
        UserError: the shell is none of SHELLS.
    """
    if len(argv) != 1 or argv[0] not in SHELLS:
        raise UserError(f"{COMPLETION} needs a shell: {listed(SHELLS)}")
    commands = {
        name: importlib.import_module(f"gpt2_tuning.commands.{name}").Options for name in COMMANDS
    }
    steps = {step: one_of(options_of(step)) for step in STEPS}
    known = one_of({**steps, **commands})
    tyro.cli(known, prog=PROGRAM, args=[COMPLETION, *argv], use_underscores=True)
    return 0


def one_of(parts: Mapping[str, Any]) -> Any:
    """A type of which tyro makes subcommands of these names."""
    named = (
        Annotated[Any, tyro.conf.subcommand(name=name, constructor=part)]
        for name, part in parts.items()
    )
    return Union[tuple(named)]  # noqa: UP007  # of as many as there are


if __name__ == "__main__":
    sys.exit(main())

"""Writes a finished run as something that others load: for transformers, PEFT or TensorFlow alone.

gpt2-tuning export experiments/runs/classification/mine --to hf --output mine
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import tyro

from gpt2_tuning import cli
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import atomic_directory, check_place
from gpt2_tuning.needs import Need, Needs
from gpt2_tuning.options.ranges import COUNTS, require_whole

NEW_TOKENS = 64
"""As many tokens does a SavedModel write where no flag says how many."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Writes a finished run as something that others load: export RUN [RUN ...] [flags]."""

    FIRST: ClassVar[str] = "run"
    """The flag that words before the first one are values of."""
    NEEDS: ClassVar[Needs] = {
        "max_new_tokens": [Need(lambda o: o.to == "savedmodel", "--to savedmodel")],
        "private": [Need(lambda o: o.push is not None, "--push NAME")],
    }

    to: Literal["hf", "adapter", "savedmodel"]
    """hf is a whole model for transformers; adapter is PEFT's; savedmodel is a graph for TensorFlow
    alone, from texts to labels or text, of one run or of several on one base."""
    output: Path
    """Where it goes: a new directory, or one that an earlier export wrote."""
    run: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A finished run; words before the first flag are runs too."""
    push: str | None = None
    """Uploads it to the Hugging Face Hub under this name, NAME or OWNER/NAME."""
    private: bool = False
    """Whether only you see what is pushed."""
    max_new_tokens: int | None = None
    """The most tokens that a SavedModel writes for a prompt. Default: 64."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        if not self.run:
            raise UserError("export needs a run: export RUN --to hf --output DIR")
        if len(self.run) > 1 and self.to != "savedmodel":
            raise UserError(f"--to {self.to} is of one run; several go into --to savedmodel")
        require_whole("max_new_tokens", 1, COUNTS, self)


def export(options: Options) -> None:
    """Writes the files and, where that is asked for, uploads them."""
    from gpt2_tuning.commands import export_files, export_hub, export_runs

    runs = [export_runs.finished(run) for run in options.run]
    if options.max_new_tokens is not None and all(run.classifies for run in runs):
        raise UserError("--max_new_tokens needs a run that writes: what is given labels texts")
    check_place(options.output, "--output")
    login = export_hub.checked_login(options.push) if options.push else None
    place = options.push or options.output.name
    with atomic_directory(options.output, export_files.foreign_in_export) as partial:
        if options.to == "hf":
            export_files.write_whole(runs[0], partial, place)
        elif options.to == "adapter":
            export_files.write_adapter(runs[0], partial, place)
        else:
            export_files.write_graph(runs, partial, place, options.max_new_tokens or NEW_TOKENS)
    print(f"{options.to}: {options.output}")
    if login is not None:
        print(f"pushed: {export_hub.push(login, options.output, options.private)}")


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(Options, export, argv, program or "gpt2-tuning export")


if __name__ == "__main__":
    sys.exit(main())

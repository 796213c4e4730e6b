"""Serves a tuned model, or a base, in the words of OpenAI's API.

gpt2-tuning serve runs/tone --adapter facts=runs/facts
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import tyro

from gpt2_tuning import cli, extras
from gpt2_tuning.errors import UserError
from gpt2_tuning.options.ranges import COUNTS, require, require_whole

MOST_SLOTS, MOST_WAITING = 4096, 1 << 20


@dataclasses.dataclass(frozen=True)
class Options:
    """Serves a run or a base: `gpt2-tuning serve RUN` means `gpt2-tuning serve --model RUN`."""

    FIRST: ClassVar[str] = "model"
    """The flag that words before the first one are values of."""
    model: str
    """A finished run, by its directory or name; or a base, by its directory, size or name on the
    Hub."""
    adapter: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=DIR: an adapter of the same base, a directory of PEFT's or a run, which is served as the
    model NAME; may be given several times."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 is all of this machine's."""
    port: int = 8000
    """The port to listen on; 0 is any that is free."""
    api_key: str | None = None
    """A key without which requests are refused."""
    slots: int = 16
    """Answers that are computed together."""
    queue: int = 256
    """Answers that may wait; whoever asks for more is told to come again."""
    max_tokens: int | None = None
    """The most new tokens of an answer. Default: as many as the model has positions for."""
    max_body: int = 1 << 20
    """The most bytes of a request."""
    timeout: float = 600.0
    """Seconds after which an answer that is not there is given up."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range, or the extra is not installed."""
        if not self.model.strip():
            raise UserError("--model is empty")
        adapters_of(self.adapter)
        require(0 <= self.port < 1 << 16, "port", "from 0 to 65535", self)
        require_whole("slots", 1, MOST_SLOTS, self)
        require_whole("queue", 1, MOST_WAITING, self)
        require_whole("max_tokens", 1, COUNTS, self)
        require_whole("max_body", 1, COUNTS, self)
        require(0 < self.timeout <= 86_400, "timeout", "above 0 and at most 86400", self)
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise UserError("--api_key must be of letters, digits and signs of ASCII")
        extras.check_installed("serve", "gpt2-tuning serve")


def adapters_of(given: Sequence[str]) -> dict[str, Path]:
    """What `--adapter NAME=DIR` says. Raises UserError where it is not of this form."""
    found: dict[str, Path] = {}
    for text in given:
        name, sign, directory = text.partition("=")
        if not (name.strip() and sign and directory and name.isprintable()):
            raise UserError(f"--adapter must be NAME=DIR, not {text!r}")
        if name in found:
            raise UserError(f"--adapter {name} is given twice")
        found[name] = Path(directory)
    return found


def serve(options: Options) -> None:
    """Answers until a signal comes."""
    from gpt2_tuning.serving import server
    from gpt2_tuning.serving.wanted import Limits

    server.serve(
        options.model,
        adapters_of(options.adapter),
        (options.host, options.port),
        options.slots,
        options.queue,
        Limits(options.max_tokens, options.max_body, options.timeout),
        options.api_key,
    )


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the command; returns its exit code."""
    return cli.run(Options, serve, argv, program or "gpt2-tuning serve")


if __name__ == "__main__":
    sys.exit(main())

"""Says what fits into a device's memory, before anything is tried.

python -m gpt2_tuning.commands.plan --model_size 355M --memory 16
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table

from gpt2_tuning import cli
from gpt2_tuning.config import GPT2Config, LoRAConfig
from gpt2_tuning.errors import UserError

GB = 1e9


@dataclasses.dataclass(frozen=True)
class Options:
    """What a training run would take, by what it is for, and the flags with which it fits."""

    model_size: str = "124M"
    """tiny, mini, 124M, 355M, 774M or 1.5B."""
    memory: float = 16.0
    """What there is on a device, in GB of 10^9 bytes."""
    seq_len: int = 1024
    """Longest row, in tokens."""
    batch_size: int = 8
    """Rows in one update, over all devices."""
    devices: int = 1
    """How many share a batch."""
    lora_rank: int = 8
    """Rank of the LoRA update; 0 tunes every weight."""
    lora_targets: tuple[str, ...] = ("attn.c_attn", "attn.c_proj")
    """Layers that LoRA adapts."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the computation."""
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    """The optimizer."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        for name in ("seq_len", "batch_size", "devices"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, not {getattr(self, name)}")
        if self.lora_rank < 0:
            raise UserError(f"--lora_rank must be 0 (full tuning) or more, not {self.lora_rank}")
        if self.memory <= 0:
            raise UserError(f"--memory must be above 0, not {self.memory}")
        if self.seq_len > GPT2Config.from_size(self.model_size).n_positions:
            raise UserError(f"--seq_len must be at most 1024, not {self.seq_len}")


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to run the same update."""

    precision: str
    accumulation: int
    rematerialize: bool
    optimizer: str

    def flags(self) -> str:
        """As train.py takes them; nothing where they are its defaults."""
        parts = {
            f"--precision {self.precision}": self.precision != "float32",
            f"--gradient_accumulation {self.accumulation}": self.accumulation > 1,
            "--rematerialize": self.rematerialize,
            f"--optimizer {self.optimizer}": self.optimizer != "adamw",
        }
        return " ".join(flag for flag, wanted in parts.items() if wanted) or "no further flag"


def ways(options: Options) -> Iterator[Way]:
    """Ways to run an update, what costs least time or accuracy first."""
    optimizers = [options.optimizer]
    if not options.lora_rank and options.optimizer == "adamw":
        optimizers.append("adafactor")
    half = ["bfloat16"] if options.precision == "float32" else []
    rows = -(-options.batch_size // options.devices)
    parts = [2**power for power in range(rows.bit_length()) if 2**power <= rows]
    for optimizer in optimizers:
        for precision in [options.precision, *half]:
            for rematerialize in (False, True):
                for accumulation in parts:
                    yield Way(precision, accumulation, rematerialize, optimizer)


def plan(options: Options) -> int:
    """Prints the table and the first way that fits; 1 where none does."""
    from gpt2_tuning.memory import Memory, Setting, memory_of, rows_at_a_time

    config = GPT2Config.from_size(options.model_size)
    lora = (
        LoRAConfig(options.lora_rank, targets=options.lora_targets) if options.lora_rank else None
    )

    def memory(way: Way) -> Memory:
        rows = rows_at_a_time(options.batch_size, way.accumulation, options.devices)
        return memory_of(
            Setting(
                config,
                lora,
                rows,
                options.seq_len,
                way.precision,
                way.optimizer,
                way.rematerialize,
            )
        )

    found = list(ways(options))
    fits = next((way for way in found if memory(way).total <= options.memory * GB), None)
    smallest = fits or min(found, key=lambda way: memory(way).total)
    kind = f"LoRA, rank {options.lora_rank}" if lora else "full tuning"
    shown = {"as asked": memory(found[0])}
    if smallest != found[0]:
        shown["with the flags below"] = memory(smallest)
    table = Table(f"{options.model_size}, {kind}, {options.batch_size} x {options.seq_len}")
    for title in shown:
        table.add_column(f"{title}, GB", justify="right")
    for field in dataclasses.fields(Memory):
        table.add_row(
            field.name, *(f"{getattr(found_, field.name) / GB:.2f}" for found_ in shown.values())
        )
    table.add_row("peak", *(f"{found_.total / GB:.2f}" for found_ in shown.values()))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    if fits is None:
        advice = "" if lora is None else "; a smaller model or --seq_len would"
        advice = "; LoRA (--lora_rank 8) may" if lora is None else advice
        console.print(f"Nothing fits into {options.memory:g} GB{advice}.")
        return 1
    console.print(f"Fits into {options.memory:g} GB with: {fits.flags()}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(Options, plan, argv)


if __name__ == "__main__":
    sys.exit(main())

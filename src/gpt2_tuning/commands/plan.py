"""Says what fits into a device's memory, before anything is tried.

gpt2-tuning plan --model_size 355M --card T4
"""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from rich.console import Console
from rich.table import Table

from gpt2_tuning import cli
from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import DEFAULT, check_targets, config_of_size, family_named
from gpt2_tuning.needs import Need, Needs
from gpt2_tuning.options import effects
from gpt2_tuning.options.lora import check_useful
from gpt2_tuning.options.ranges import COUNTS, ROWS, require_whole
from gpt2_tuning.options.training import Precision

if TYPE_CHECKING:  # it imports TensorFlow
    from gpt2_tuning.fitting import Update, Way
    from gpt2_tuning.memory import Memory

GB = 1e9
MEMORY = 16.0
"""GB, where neither a size nor a card is named."""
Card = Literal["P100", "V100", "T4", "A10", "A100", "A100-80GB", "L4", "L40S", "H100", "H200"]


class Kind(NamedTuple):
    """What decides on a card's memory."""

    mib: int
    """Its memory in MiB, as nvidia-smi shows it."""
    capability: tuple[int, int]
    """NVIDIA's compute capability."""


CARDS: dict[Card, Kind] = {
    "P100": Kind(16384, (6, 0)),
    "V100": Kind(16384, (7, 0)),
    "T4": Kind(15360, (7, 5)),
    "A10": Kind(23028, (8, 6)),
    "A100": Kind(40960, (8, 0)),
    "A100-80GB": Kind(81920, (8, 0)),
    "L4": Kind(23034, (8, 9)),
    "L40S": Kind(46068, (8, 9)),
    "H100": Kind(81559, (9, 0)),
    "H200": Kind(143771, (9, 0)),
}
NEWEST = (9, 0)
"""What a GPU is taken for of which only the size is known: TensorFlow leaves it least to use."""
ABOUT_A_GPU = (
    "An estimate: of tensors alone, fitted to two steps that were measured on an H200 (124M, LoRA, "
    "bfloat16); what TensorFlow's allocator has of the card is worked out too."
)
ABOUT_A_CPU = "An estimate: of the whole process, as it was measured on CPUs to within 14 %."


@dataclasses.dataclass(frozen=True)
class Device:
    """What a run would be computed on."""

    name: str
    memory: float
    """Bytes that a run may take."""
    gpu: bool
    capability: tuple[int, int] = NEWEST


@dataclasses.dataclass(frozen=True)
class Options:
    """What a training run would take, by what it is for, and the flags with which it fits."""

    NEEDS: ClassVar[Needs] = {
        "device": [Need(lambda o: o.card is None, "--card to be left out: a card is a GPU")],
        "lora_targets": [effects.LORA],
    }

    family: str = DEFAULT
    """Whose sizes: gpt2, gpt_neo, gpt_neox, llama, mistral, qwen2 or qwen3."""
    model_size: str = "124M"
    """tiny, mini, 124M, 355M, 774M or 1.5B; other families than gpt2 have their own."""
    memory: float | None = None
    """What there is on a device, in GB of 10^9 bytes. Default: 16, or what the card has."""
    card: Card | None = None
    """The GPU: its memory, and the precision that suits it."""
    device: Literal["cpu", "gpu"] = "cpu"
    """What --memory is of: a computer's memory, or a GPU's that --card does not know."""
    seq_len: int = 1024
    """Longest row, in tokens."""
    batch_size: int = 8
    """Rows in one update, over all devices."""
    devices: int = 1
    """How many share a batch."""
    lora_rank: int = 8
    """Rank of the LoRA update; 0 tunes every weight."""
    lora_targets: tuple[str, ...] = ()
    """Layers that LoRA adapts, as train.py's --lora_targets. Default: as there."""
    precision: Precision = "auto"
    """Type of the computation; auto is what train.py chooses on the device."""
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    """The optimizer."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        for name, most in (("seq_len", COUNTS), ("batch_size", ROWS), ("devices", ROWS)):
            require_whole(name, 1, most, self)
        if self.lora_rank < 0:
            raise UserError(f"--lora_rank must be 0 (full tuning) or more, not {self.lora_rank}")
        if self.memory is not None and not 0 < self.memory < math.inf:
            raise UserError(f"--memory must be above 0 and finite, not {self.memory}")
        if self.devices > self.batch_size:
            raise UserError(f"--devices {self.devices} cannot share a batch of {self.batch_size}")
        if self.memory is not None and self.card is not None:
            raise UserError("--memory and --card exclude each other: a card has its own")
        family = family_named(self.family)
        if self.lora_rank:
            check_targets(family, self.lora_targets)
        config = config_of_size(self.model_size, self.family)
        if self.lora:
            check_useful(self.lora, config)
        positions = config.decoder.positions
        if self.seq_len > positions:
            raise UserError(f"--seq_len must be at most {positions:,}, not {self.seq_len}")

    @property
    def lora(self) -> LoRAConfig | None:
        """The low-rank update; None tunes every weight."""
        targets = self.lora_targets or family_named(self.family).usual_targets
        return LoRAConfig(self.lora_rank, targets=targets) if self.lora_rank else None


def device_of(options: Options) -> Device:
    """The device, with what a run may take of its memory."""
    from gpt2_tuning.fitting import usable

    size = options.memory or MEMORY
    if options.card:
        return one(options.card)
    if options.device == "gpu":
        name, total, capability = f"one GPU of {size:g} GB", size * GB, NEWEST
    else:
        return Device(f"{size:g} GB", size * GB, gpu=False)
    left = usable(total, capability)
    name = f"{name}, of which a run has about {left / GB:.1f} GB"
    return Device(name, left, True, capability)


def one(card: Card) -> Device:
    """A card, with what a run may take of its memory."""
    from gpt2_tuning.fitting import MIB, usable

    mib, capability = CARDS[card]
    left = usable(float(mib * MIB), capability)
    name = f"one {card} of {mib / 1024:.0f} GiB, of which a run has about {left / GB:.1f} GB"
    return Device(name, left, True, capability)


def update_on(device: Device, options: Options) -> tuple["Update", "Way", "Way"]:
    """What is to be computed there, the way that is asked for, and the way of no flags."""
    from gpt2_tuning.fitting import Update, Way
    from gpt2_tuning.training.precision import Gpu, of_devices

    chosen, _ = of_devices([Gpu(device.name, device.capability)] if device.gpu else [])
    update = Update(
        config_of_size(options.model_size, options.family),
        options.lora,
        options.batch_size,
        options.seq_len,
        options.devices,
        device.gpu,
        chosen if device.gpu else "bfloat16",
    )
    precision = chosen if options.precision == "auto" else options.precision
    return update, Way(precision, optimizer=options.optimizer), Way(chosen)


def fits_into(device: Device, options: Options) -> bool:
    """Whether some way of computing it takes no more than the device has."""
    update, asked, _ = update_on(device, options)
    return any(update.memory(way).total <= device.memory for way in update.ways(asked))


def plan(options: Options) -> int:
    """Prints the table and the first way that fits; 1 where none does."""
    device, lora = device_of(options), options.lora
    update, asked, default = update_on(device, options)
    found = {way: update.memory(way) for way in update.ways(asked)}
    fits = next((way for way, memory in found.items() if memory.total <= device.memory), None)
    smallest = fits or min(found, key=lambda way: found[way].total)
    kind = f"LoRA, rank {options.lora_rank}" if lora else "full tuning"
    shown = {f"as asked, {asked.precision}": found[asked]}
    if smallest != asked:
        shown[f"with the flags below, {smallest.precision}"] = found[smallest]
    console = Console(highlight=False, soft_wrap=True)
    family = family_named(options.family).title
    size = f"{family} {options.model_size}"
    console.print(as_table(f"{size}, {kind}, {options.batch_size} x {options.seq_len}", shown))
    console.print(ABOUT_A_GPU if device.gpu else ABOUT_A_CPU)
    if fits is None:
        advice = (
            "; LoRA (--lora_rank 8) may" if lora is None else "; a smaller model or --seq_len would"
        )
        console.print(f"Nothing fits into {device.name}{advice}.")
        if cards := [card for card in CARDS if fits_into(one(card), options)]:
            console.print(f"It fits into one of these cards: {', '.join(cards)}.")
        return 1
    console.print(f"Fits into {device.name} with: {fits.flags(default) or 'no further flag'}")
    return 0


def as_table(title: str, shown: "Mapping[str, Memory]") -> Table:
    """GB by what they are for, a column for each way."""
    table = Table(title)
    for name in shown:
        table.add_column(f"{name}, GB", justify="right")
    for field in dataclasses.fields(next(iter(shown.values()))):
        row = [getattr(memory, field.name) / GB for memory in shown.values()]
        if any(row):
            table.add_row(field.name, *(f"{value:.2f}" for value in row))
    table.add_row("peak", *(f"{memory.total / GB:.2f}" for memory in shown.values()))
    return table


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(Options, plan, argv, program)


if __name__ == "__main__":
    sys.exit(main())

"""How many parameters a model has, and which of them training changes."""

import math
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from gpt2_tuning.models.gate import OWN
from gpt2_tuning.models.pretrained import PretrainedModel


class ParameterCount(NamedTuple):
    """Parameters of one part of a model."""

    trainable: int
    frozen: int


def count_parameters(model: PretrainedModel) -> dict[str, ParameterCount]:
    """The counts of `base`, `LoRA` and `head`, in this order; parts the model has not are left out.

    A language model's head is its token embedding and counts as the base's. An adapter that is not
    chosen counts as frozen: `fit` leaves it as it is.
    """
    part_of = {id(variable): "head" for variable in model.head_weights().values()}
    part_of |= {id(variable): "LoRA" for variable in model.lora_weights().values()}
    part_of |= {id(variable): "LoRA" for variable in model.start_weights().values()}
    kept = set()
    if model.gate is not None:
        for name, adapter in model.gate.added.items():
            part_of |= {id(variable): "LoRA" for variable in adapter.lora_weights().values()}
            part_of |= {id(variable): "head" for variable in adapter.head_weights().values()}
            if name not in model.gate.chosen:
                kept |= {id(variable) for variable in adapter.weights().values()}
        if model.gate.own and OWN not in model.gate.chosen:
            kept |= {id(variable) for variable in model.lora_weights().values()}
    counts = {part: ParameterCount(0, 0) for part in ("base", "LoRA", "head")}
    for variable in model.weights:
        part = part_of.get(id(variable), "base")
        trainable, frozen = counts[part]
        size = math.prod(variable.shape)
        if variable.trainable and id(variable) not in kept:
            counts[part] = ParameterCount(trainable + size, frozen)
        else:
            counts[part] = ParameterCount(trainable, frozen + size)
    return {part: count for part, count in counts.items() if sum(count)}


def print_counts(counts: dict[str, ParameterCount]) -> None:
    """Prints the counts as a table, with totals and the trainable share."""
    table = Table("part", show_footer=True)
    table.columns[0].footer = "total"
    trainable = sum(count.trainable for count in counts.values())
    frozen = sum(count.frozen for count in counts.values())
    table.add_column("trainable", f"{trainable:,}", justify="right")
    table.add_column("frozen", f"{frozen:,}", justify="right")
    for part, count in counts.items():
        table.add_row(part, f"{count.trainable:,}", f"{count.frozen:,}")
    console = Console()
    console.print(table)
    share = 100 * trainable / (trainable + frozen)
    console.print(f"{share:.2f} % of the parameters are trained.", highlight=False)

"""What a compiled step costs, told without running it: `python -m benchmarks.step_cost`.

A training step of LoRA and a turn of decoding are compiled whole by XLA, on a CPU as on a GPU, and
counted (hlo_cost.py): operations, bytes, the largest arrays. A GPU's XLA fuses otherwise, so that
of its bytes these are an estimate; operations of products are the same.
"""

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks import common
from benchmarks.hlo_cost import Cost, Module, module_of
from benchmarks.processes import ROOT
from benchmarks.table import aligned
from gpt2_tuning import cli
from gpt2_tuning.options.ranges import require

FIGURES: dict[str, tuple[str, float]] = {
    "instructions": ("instructions", 1),
    "kernels": ("kernels", 1),
    "product_flops": ("GFLOP of products", 1e9),
    "moved_bytes": ("MB moved", 1e6),
    "temporary_bytes": ("MB of temporary memory", 1e6),
}
"""The figures of a Cost with their titles, and what they are divided by in the table."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Counts what a training step of LoRA and a turn of decoding cost once compiled whole."""

    size: Literal["tiny", "124M", "355M", "774M"] = "124M"
    """Of a GPT-2 of random weights."""
    rows: int = 8
    """Rows of the batch, and prompts."""
    length: int = 256
    """Tokens of a row, half of them supervised; slots of a cache."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of the computation. On a CPU XLA multiplies bfloat16 in float32, which moves more."""
    programs: tuple[Literal["step", "step/loop", "decoding"], ...] = ("step", "decoding")
    """What is counted. `step/loop` has the blocks in a loop over stacked weights."""
    arrays: int = 10
    """How many of the largest arrays are told."""
    output: Path = ROOT / "benchmarks" / "work" / "step_cost.json"
    """Where the figures go."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        for name in ("rows", "arrays"):
            require(getattr(self, name) >= 1, name, "at least 1", self)
        require(2 <= self.length <= 1024, "length", "from 2 to 1,024", self)


def measure(options: Options) -> int:
    """Counts each program, prints the tables and writes the figures."""
    costs: dict[str, Cost] = {}
    for name in options.programs:
        costs[name] = PROGRAMS[name](options).cost(options.arrays)
        write(costs, options)
    print(as_table(costs))
    for program, cost in costs.items():
        print(f"\n{of_arrays(program, cost)}")
        for line in cost.unknown:
            print(f"{program}: {line}")
    return 0


def write(costs: dict[str, Cost], options: Options) -> None:
    """Writes the figures of the programs so far."""
    asked = {name: getattr(options, name) for name in ("size", "rows", "length", "precision")}
    programs = {name: dataclasses.asdict(cost) for name, cost in costs.items()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**asked, "programs": programs}, indent=1) + "\n"
    options.output.write_text(text, encoding="utf-8")


def compiled_step(options: Options, loop: bool = False) -> Module:
    """The module of a training step, its update included."""
    from benchmarks import ours

    with choosing_gpu(loop):
        model = model_of(options, lora=True)
        model.freeze_all_but_lora()
        steps = ours.step_functions(model)
        batch = ours.shared_batch(options.rows, options.length, options.length // 2)
        return module_of(steps._train.traced, steps.tensors(batch))


def compiled_decoding(options: Options) -> Module:
    """The module of decoding, whose loop counts as one turn: how many it takes is data.

    In a turn a token of every row is read, and the next is chosen.
    """
    import tensorflow as tf

    from gpt2_tuning.inference.choosing import Choices, RowValues
    from gpt2_tuning.inference.compiled_decoding import CompiledDecoder, with_room
    from gpt2_tuning.inference.decoders import decoder_of

    with choosing_gpu():
        model = model_of(options)
        decoder = decoder_of(model, model.config.vocab_size, [common.END_OF_TEXT])
        assert isinstance(decoder, CompiledDecoder)
        prompts = common.token_ids(options.rows, options.length - 1).tolist()
        values = RowValues.of([Choices()] * options.rows)
        state = decoder.start(decoder.weights(), prompts, range(options.rows), values)
        state = with_room(state, 1)
        return module_of(decoder.add, decoder.weights(), state, tf.constant(1))


def choosing_gpu(loop: bool = False) -> contextlib.AbstractContextManager[None]:
    """Inside the block all is traced as for a GPU."""
    from gpt2_tuning.models.device_choices import GPU, choosing

    return choosing(dataclasses.replace(GPU, blocks_in_a_loop=loop))


def model_of(options: Options, lora: bool = False) -> Any:
    """A GPT-2 of random weights, with LoRA of rank 8 on request."""
    from gpt2_tuning.config import LoRAConfig
    from gpt2_tuning.families.gpt2 import GPT2Config
    from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel

    config = GPT2Config.from_size(options.size)
    adapter = LoRAConfig(8, dropout=0.0) if lora else None
    return GPT2LanguageModel(config, lora=adapter, dtype=options.precision).built_now()


PROGRAMS: dict[str, Callable[[Options], Module]] = {
    "step": compiled_step,
    "step/loop": functools.partial(compiled_step, loop=True),
    "decoding": compiled_decoding,
}


def as_table(costs: dict[str, Cost]) -> str:
    """A line for each program."""
    lines = []
    for name, cost in costs.items():
        values = [getattr(cost, figure) / unit for figure, (_, unit) in FIGURES.items()]
        lines.append(
            [name, *(f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values)]
        )
    return aligned(["program", *(title for title, _ in FIGURES.values())], lines)


def of_arrays(program: str, cost: Cost) -> str:
    """The largest arrays of a program."""
    lines = [[array.name, array.shape, f"{array.bytes / 1e6:.3f}"] for array in cost.largest]
    return aligned([f"largest arrays of {program}", "shape", "MB"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    return cli.run(Options, measure, argv)


if __name__ == "__main__":
    sys.exit(main())

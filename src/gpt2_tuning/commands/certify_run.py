"""One layout's part of the certificate: trains each case on this process's devices, and writes it.

`certify` starts this module once a layout, since devices are divided once in a process's life.
"""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gpt2_tuning import cli

Task = Literal["classification", "entailment", "instruction"]
Kind = Literal["lora", "full"]

MAX_GRAD_NORM = 0.2
"""Below the norm of every gradient here, so that every step is clipped; and low, so that a gradient
that should be 0, as that of a key's bias, is soon lost in AdamW's epsilon."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Trains the cases and writes their weights and sums."""

    output: Path
    """Where <task>-<kind>-<accumulation>-<worker>.safetensors go."""
    strategy: Literal["one", "mirrored", "multi_worker"] = "one"
    """The devices."""
    logical_devices: int | None = None
    """As how many devices the CPU appears."""
    packed: bool = False
    """Bring several examples into a row."""
    accumulations: tuple[int, ...] = (1,)
    """Each case is trained once with each of these."""
    tasks: tuple[Task, ...] = ("classification", "entailment", "instruction")
    """What is learnt."""
    kinds: tuple[Kind, ...] = ("lora", "full")
    """What is tuned."""


def train(options: Options) -> None:
    """Trains every case and writes a file for each."""
    import tensorflow as tf

    from gpt2_tuning.cluster import Cluster
    from gpt2_tuning.commands import certify_case
    from gpt2_tuning.training import steps
    from gpt2_tuning.training.strategy import make_strategy, wait_for_all

    # The bound is for float32, which a GPU would round to TensorFloat-32.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    strategy = make_strategy(options.strategy, options.logical_devices)
    worker = Cluster.from_environment().index if options.strategy == "multi_worker" else 0
    for task in options.tasks:
        for kind in options.kinds:
            for accumulation in options.accumulations:
                path = options.output / f"{task}-{kind}-{accumulation}-{worker}.safetensors"
                batches = certify_case.batches_of(task, options.packed)
                steps_of = functools.partial(
                    steps.StepFunctions, max_grad_norm=MAX_GRAD_NORM, accumulation=accumulation
                )
                certify_case.run_case(task, kind, batches, strategy, steps_of, path)
    wait_for_all(strategy)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return cli.run(Options, train, argv)


if __name__ == "__main__":
    sys.exit(main())

"""One case of compile_time.py, in a process of its own: `python -m benchmarks.compile_step JSON`.

A step of LoRA, rank 8, on a GPT-2 of random weights, compiled whole by XLA on any
device.
"""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from gpt2_tuning.startup import importing_tensorflow

with importing_tensorflow():
    pass

import numpy as np
import tensorflow as tf

from benchmarks import ours
from benchmarks.compile_time import ANSWER
from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.device_choices import GPU, choosing
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.training import steps as steps_module
from gpt2_tuning.training.steps import StepFunctions
from gpt2_tuning.training.strategy import make_strategy
from gpt2_tuning.training.traces import AnyLength
from gpt2_tuning.training.watching import peak_memory_mb

CHOSEN = contextlib.ExitStack()
"""What was chosen for the rest of the process."""
TIMED = (3, 10)
"""The median of so many times, each of so many steps."""


def measured(settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds to the end of the first step, by the clock and of cores, and of one after that."""
    strategy = make_strategy("auto")
    device = ours.about()["device"]
    compile_whole(settings["static"], settings["loop"])
    with strategy.scope():
        steps = step_functions(settings)
    length = settings["length"]
    batch = ours.shared_batch(settings["rows"], length, length // 2)
    first, first_cpu = timed(lambda: steps.train(batch).numpy())
    step, step_cpu = step_seconds(steps, batch)
    figures = {
        "device": device,
        "first_step_s": first,
        "step_ms": 1e3 * step,
        # Of all cores: on a machine that others use too they tell more.
        "first_step_cpu_s": first_cpu,
        "step_cpu_ms": 1e3 * step_cpu,
        "peak_mb": peak_memory_mb(),
    }
    return {**figures, **counted(steps, batch)} if settings["instructions"] else figures


def counted(steps: StepFunctions, batch) -> dict[str, int]:
    """How many instructions XLA is given, and how many it leaves, those within others included."""
    texts = steps._train.traced.experimental_get_compiler_ir(steps.tensors(batch))
    stages = {"hlo": "hlo", "optimised": "optimized_hlo"}
    return {name: texts(stage=stage).count(" = ") for name, stage in stages.items()}


def compile_whole(static: bool, loop: bool = False) -> None:
    """Steps made from now on are compiled whole, on a CPU too.

    Args:
        static: whether their trace knows the sizes of a batch; else its number of rows alone.
        loop: whether blocks are a loop over stacked weights.
    """
    CHOSEN.enter_context(choosing(dataclasses.replace(GPU, blocks_in_a_loop=loop)))
    if not static:
        setattr(steps_module, "EachShape", compiled_for_any_length)  # noqa: B010 - for mypy's peace


def compiled_for_any_length(function, compiled: bool) -> AnyLength:
    """As EachShape, in a trace that knows no length."""
    return AnyLength(tf.function(function, jit_compile=compiled, autograph=False))


def step_functions(settings: dict[str, Any]) -> StepFunctions:
    """The steps as train.py has them."""
    width = settings["width"]
    sizes = {"n_layer": settings["layers"], "n_embd": width, "n_head": width // 64}
    config = GPT2Config.from_size("124M", **sizes)
    lora = LoRAConfig(8, dropout=0.0)
    model = GPT2LanguageModel(config, lora=lora, dtype=settings["precision"]).built_now()
    model.freeze_all_but_lora()
    return ours.step_functions(model)


def step_seconds(steps: StepFunctions, batch) -> tuple[float, float]:
    """The median of a step that is compiled, by the clock and of all cores."""
    rounds, count = TIMED

    def some() -> None:
        results = [steps.train(batch) for _ in range(count)]
        np.asarray(results[-1])

    clock, cpu = zip(*(timed(some) for _ in range(rounds)), strict=True)
    return float(np.median(clock)) / count, float(np.median(cpu)) / count


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """How long it takes, by the clock and of all cores."""
    start, used = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - start, time.process_time() - used


if __name__ == "__main__":
    print(ANSWER + json.dumps(measured(json.loads(sys.argv[1]))))

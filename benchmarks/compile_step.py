"""One case of compile_time.py, in a process of its own: `python -m benchmarks.compile_step JSON`.

A step of LoRA, rank 8, on a GPT-2 of 124M's width and random weights, compiled whole by XLA on any
device.
"""

import contextlib
import json
import sys
import time
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

CHOSEN = contextlib.ExitStack()
"""What was chosen for the rest of the process."""
TIMED = (3, 10)
"""The median of so many times, each of so many steps."""


def measured(settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds to the end of the first step, and what a step takes then."""
    strategy = make_strategy("auto")
    device = ours.about()["device"]
    compile_whole(settings["static"])
    with strategy.scope():
        steps = step_functions(settings)
    length = settings["length"]
    batch = ours.shared_batch(settings["rows"], length, length // 2)
    start = time.perf_counter()
    steps.train(batch).numpy()
    first = time.perf_counter() - start
    return {
        "device": device,
        "first_step_s": first,
        "step_ms": 1e3 * step_seconds(steps, batch),
    }


def compile_whole(static: bool) -> None:
    """Steps made from now on are compiled whole, on a CPU too.

    Their trace knows the sizes of a batch, or (not `static`) its number of rows alone.
    """
    CHOSEN.enter_context(choosing(GPU))
    if not static:
        setattr(steps_module, "EachShape", compiled_for_any_length)  # noqa: B010 - for mypy's peace


def compiled_for_any_length(function, compiled: bool) -> AnyLength:
    """As EachShape, in a trace that knows no length."""
    return AnyLength(tf.function(function, jit_compile=compiled, autograph=False))


def step_functions(settings: dict[str, Any]) -> StepFunctions:
    """The steps as train.py has them."""
    config = GPT2Config.from_size("124M", n_layer=settings["layers"])
    lora = LoRAConfig(8, dropout=0.0)
    model = GPT2LanguageModel(config, lora=lora, dtype=settings["precision"]).built_now()
    model.freeze_all_but_lora()
    return ours.step_functions(model)


def step_seconds(steps: StepFunctions, batch) -> float:
    """The median time of a step that is compiled."""
    rounds, count = TIMED
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        results = [steps.train(batch) for _ in range(count)]
        np.asarray(results[-1])
        times.append((time.perf_counter() - start) / count)
    return float(np.median(times))


if __name__ == "__main__":
    print(ANSWER + json.dumps(measured(json.loads(sys.argv[1]))))

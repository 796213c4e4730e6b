"""Our side of the comparison: `python -m benchmarks.ours SPEC` measures one case.

Variants: `float32` computes in it where the case is one of bfloat16, `default` as the case says;
`loop` has the blocks in a loop over stacked weights, `atonce` all of attention's scores at once,
however long rows are; `packed` brings several rows into one, as training does on a GPU.
"""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt2_tuning.startup import importing_tensorflow, without_triton

with importing_tensorflow():
    without_triton()  # as the scripts do
    import keras
    import tensorflow as tf

import numpy as np

from benchmarks import common, worker
from benchmarks.common import Spec
from benchmarks.worker import Ready
from gpt2_tuning.data.batch_arrays import (
    Batch,
    PlannedBatch,
    classification_batch,
    language_model_batch,
)
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.packed_examples import PackedExamples
from gpt2_tuning.data.packing import PackedSource
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.inference.generation import generate
from gpt2_tuning.inference.sampling import Greedy, Sampler, TopP
from gpt2_tuning.models.device_choices import DeviceChoices, choosing, device_choices
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.training.base_model import make_model, with_family
from gpt2_tuning.training.feeding import feed
from gpt2_tuning.training.layout import packed_rows
from gpt2_tuning.training.objective import objective_of
from gpt2_tuning.training.optimizer import make_optimizer
from gpt2_tuning.training.steps import StepFunctions
from gpt2_tuning.training.strategy import make_strategy
from gpt2_tuning.training.watching import peak_memory_mb

CHOSEN = contextlib.ExitStack()
"""What was chosen for the rest of the process."""
LONGEST = 1024
"""Tokens of a packed row of a language model."""


def choices_of(spec: Spec) -> DeviceChoices:
    """This device's, as the variant changes them."""
    choices = device_choices()
    if "loop" in spec.words:
        choices = dataclasses.replace(choices, blocks_in_a_loop=True)
    if "atonce" in spec.words:
        choices = dataclasses.replace(choices, attention_blocks_from=None)
    return choices


def as_varied(kind: Callable[[Spec], Ready]) -> Callable[[Spec], Ready]:
    """A case's function, for the rest of the process under the choices of the variant."""

    def get_ready(spec: Spec) -> Ready:
        CHOSEN.enter_context(choosing(choices_of(spec)))
        return kind(spec)

    return get_ready


def training_model(spec: Spec):
    """The model as train.py makes it, with LoRA's own dropout off, which not every peer has."""
    with make_strategy("auto").scope():
        return model_of(spec)


def model_of(spec: Spec):
    """The same, in whatever scope it is made."""
    settings = spec.settings
    lora = settings["lora"]
    options = with_family(
        TrainOptions(
            pretrained=spec.base,
            precision=spec.precision,
            lora_rank=lora["rank"] if settings["tuning"] == "lora" else 0,
            lora_alpha=lora["alpha"],
            lora_dropout=0.0,
        )
    )
    classes = settings.get("classes", 0)
    names = [str(number) for number in range(classes)] or None
    metadata = Metadata("benchmark", {}, "", 1024, [], names, None, 0, {}, common.END_OF_TEXT)
    if classes:
        return make_model(GPT2Classifier, options, metadata, label_names=names)
    return make_model(LanguageModel, options, metadata)


def step_functions(model) -> StepFunctions:
    """The steps as train.py has them."""
    strategy = make_strategy("auto")
    with strategy.scope():
        optimizer = make_optimizer("adamw", common.LEARNING_RATE, common.WEIGHT_DECAY, 10**6, 0.0)
        optimizer.build(model.trainable_variables)
    return StepFunctions(objective_of(model), strategy, optimizer, common.MAX_GRAD_NORM)


def shared_batch(batch: int, length: int, prompt: int) -> Batch:
    """The batch that all workers train on."""
    ids = common.token_ids(batch, length)
    prompts = np.full(batch, prompt, np.int32)
    records = Records.of(ids.tolist(), common.END_OF_TEXT, prompt_length=prompts)
    return language_model_batch(records, PlannedBatch(np.arange(batch), length), batch)


def batch_of(settings: dict[str, Any]) -> Batch:
    """The shared batch of a case."""
    return shared_batch(settings["batch"], settings["length"], settings["prompt"])


def step(spec: Spec) -> Ready:
    """One training step on the shared batch, over and over."""
    model = training_model(spec)
    steps, batch = step_functions(model), batch_of(spec.settings)
    loss, _, weight = np.asarray(steps.evaluate(batch))
    trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)

    def run() -> None:
        steps.train(batch).numpy()

    return worker.steps(spec, run, peak_memory_mb, float(loss / weight), trained)


def start(spec: Spec) -> Ready:
    """From the command to the end of the first step."""
    steps = step_functions(training_model(spec))
    return worker.started(spec, lambda: steps.train(batch_of(spec.settings)).numpy())


def source_of(spec: Spec) -> BatchSource:
    """Batches of the real rows, in buckets of like length or packed."""
    rows, size = common.read_rows(spec), spec.settings["batch"]
    packed = "packed" in spec.words
    if spec.settings["classes"]:
        records = labelled(rows)
        if packed:
            return PackedExamples(records, size)
        return BatchSource(records, size, classification_batch)
    ids = [row.tolist() for row in rows.ids]
    records = Records.of(ids, common.END_OF_TEXT, prompt_length=rows.labels)
    if packed:
        return packed_rows(records, size, LONGEST)
    return BatchSource(records, size, language_model_batch)


def labelled(rows: common.Rows) -> Records:
    """Rows with a class each."""
    ids = [row.tolist() for row in rows.ids]
    return Records.of(ids, common.END_OF_TEXT, label=rows.labels)


def run_epoch(steps: StepFunctions, source: BatchSource, epoch: int) -> None:
    """All steps of an epoch, to the end of the last one."""
    first, last = epoch * source.steps, (epoch + 1) * source.steps
    fed = feed(steps, source, 0, first, last)
    results = [steps.train(batch, tensors) for _, batch, tensors in fed]
    np.asarray(results[-1])


def epoch(spec: Spec) -> Ready:
    """Epochs over real rows that are tokenised already."""
    steps, source = step_functions(training_model(spec)), source_of(spec)
    run = functools.partial(run_epoch, steps, source)
    return worker.epochs(run, len(source.records), peak_memory_mb)


def prepare(spec: Spec) -> Ready:
    """From the raw file to TFRecords, as prep_dataset.py does it."""
    from gpt2_tuning.tasks.classification.prepare import Options
    from gpt2_tuning.tasks.classification.prepare import prepare as prepare_rows

    assert spec.data
    file, output = Path(spec.data), spec.work / "prepared-ours"
    rows = len(file.read_text(encoding="utf-8").splitlines())

    def run() -> None:
        length = spec.settings["length"]
        prepare_rows(Options(train_file=file, output_dir=output, seq_len=length))

    return worker.preparations(run, rows)


def generation(spec: Spec) -> Ready:
    """New tokens for prompts that are tokenised already."""
    settings = spec.settings
    model = LanguageModel.from_pretrained(spec.base, dtype=settings["precision"])
    model.tokenizer = GPT2Tokenizer()
    prompts = common.token_ids(settings["batch"], settings["prompt"]).tolist()
    samplers: dict[str, Sampler] = {"greedy": Greedy(), "top_p": TopP(settings["top_p"])}

    def run(sampler: str, count: int) -> list[tuple[int, ...]]:
        done = generate(model, prompts, count, samplers[sampler], batch_size=settings["batch"])
        return [continuation.token_ids for continuation in done]

    return worker.generations(spec, run, peak_memory_mb)


def scaling(spec: Spec) -> Ready:
    """A step's seconds against the length of the rows, or their number."""
    settings = spec.settings
    steps = step_functions(training_model(spec))
    points: dict[str, Callable[[], object]] = {}
    for point in settings["points"]:
        shape = {**settings, settings["axis"]: point}
        batch = shared_batch(shape["batch"], shape["length"], shape["length"] // 2)
        name = f"{settings['axis']} {point}: s a step"
        points[name] = functools.partial(lambda batch: steps.train(batch).numpy(), batch)
    return curve(points)


def scaling_rows(spec: Spec) -> Ready:
    """An epoch's seconds against the number of rows."""
    whole = common.read_rows(spec)
    steps = step_functions(training_model(spec))
    points: dict[str, Callable[[], object]] = {}
    for count in spec.settings["points"]:
        if count <= len(whole):
            source = BatchSource(labelled(whole.first(count)), spec.settings["batch"])
            points[f"rows {count}: s an epoch"] = functools.partial(run_epoch, steps, source, 0)
    return curve(points)


def curve(points: dict[str, Callable[[], object]]) -> Ready:
    """The seconds of each point, after all of them have been done once."""
    for run in points.values():
        run()
    return Ready(lambda _: {name: worker.seconds_of(run) for name, run in points.items()})


def padding(spec: Spec) -> Ready:
    """What share of the computed tokens is padding, by how rows are brought together."""
    source = source_of(spec)
    lengths, size = source.records.lengths, spec.settings["batch"]
    shuffled = np.random.default_rng(0).permutation(lengths)
    parts = np.split(shuffled, range(size, len(shuffled), size))
    computed = {
        "to the longest row of all": len(lengths) * lengths.max(),
        "to the longest row of a random batch": sum(len(part) * part.max() for part in parts),
        "in our buckets": sum(batch.computed_tokens for batch in source.epoch(0, 0)),
    }
    if not spec.settings["classes"]:
        packed = PackedSource(source.records, size)
        computed["packed"] = sum(batch.computed_tokens for batch in packed.epoch(0, 0))
    shares = {name: float(1 - lengths.sum() / tokens) for name, tokens in computed.items()}
    return Ready(figures={f"padding, {name}": share for name, share in shares.items()})


def about() -> dict[str, Any]:
    """What it ran on."""
    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    gpus = [found.get("device_name", "GPU") for found in details]
    return {
        "device": ", ".join(gpus) or "CPU",
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }


KINDS = {
    "step": step,
    "start": start,
    "epoch": epoch,
    "prepare": prepare,
    "generate": generation,
    "scaling": scaling,
    "scaling_rows": scaling_rows,
    "padding": padding,
}

if __name__ == "__main__":
    worker.serve({name: as_varied(kind) for name, kind in KINDS.items()}, about)
    sys.exit(0)

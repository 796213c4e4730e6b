"""PyTorch, transformers and PEFT: `python -m benchmarks.hf SPEC` measures one case.

Variants: `weights` holds frozen weights in bfloat16 and LoRA's in float32, as PEFT does with a
model loaded in bfloat16; `autocast` holds all in float32; `float32` computes in it where others
compute in bfloat16, which is the faster on a CPU without bfloat16 units; `compile` is
torch.compile; `grouped` draws rows of like length together, as Trainer's group_by_length; `cores`
prepares with a process a core.
"""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import LengthGroupedSampler

from benchmarks import common, worker
from benchmarks.common import Spec
from benchmarks.hf_training import DEVICE, Trainer, check_speed, peak_mb, synchronized
from benchmarks.worker import Ready

CORES = common.cores()


def shared_batch(settings) -> dict[str, torch.Tensor]:
    """The batch that all workers train on."""
    ids = torch.tensor(common.token_ids(settings["batch"], settings["length"]), dtype=torch.long)
    labels = ids.clone()
    labels[:, : settings["prompt"]] = -100
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return {name: tensor.to(DEVICE) for name, tensor in batch.items()}


def in_bfloat16(spec: Spec) -> bool:
    """Whether training computes in it."""
    return bool(spec.words & {"weights", "autocast"})


def check_step(spec: Spec) -> None:
    """Raises TooSlow where not even a step would be done in time."""
    if in_bfloat16(spec):
        check_speed(spec, spec.settings["batch"] * spec.settings["length"], passes=2)


def step(spec: Spec) -> Ready:
    """One training step on the shared batch, over and over."""
    check_step(spec)
    trainer, batch = Trainer(spec), shared_batch(spec.settings)
    loss = trainer.loss_without_dropout(batch)
    run = functools.partial(synchronized, trainer.step, batch)
    trained = sum(weight.numel() for weight in trainer.weights)
    return worker.steps(spec, run, peak_mb, loss, trained)


def start(spec: Spec) -> Ready:
    """From the command to the end of the first step."""
    check_step(spec)
    trainer, batch = Trainer(spec), shared_batch(spec.settings)
    return worker.started(spec, functools.partial(synchronized, trainer.step, batch))


def collated(examples, classes: int) -> dict[str, torch.Tensor]:
    """Rows padded to the longest of the batch."""
    rows = [ids for ids, _ in examples]
    ids, mask = common.padded(rows, max(map(len, rows)))
    batch = {"input_ids": torch.tensor(ids).long(), "attention_mask": torch.tensor(mask).long()}
    if classes:
        batch["labels"] = torch.tensor([label for _, label in examples]).long()
    else:
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for row, (_, prompt) in enumerate(examples):
            batch["labels"][row, :prompt] = -100
    return {name: tensor.to(DEVICE) for name, tensor in batch.items()}


def epoch(spec: Spec) -> Ready:
    """Epochs over real rows that are tokenised already."""
    torch.manual_seed(0)
    settings, rows = spec.settings, common.read_rows(spec)
    lengths = [len(ids) for ids in rows.ids]
    if in_bfloat16(spec):
        check_speed(spec, sum(lengths), passes=2)
    trainer = Trainer(spec)
    grouped = "grouped" in spec.words
    sampler = LengthGroupedSampler(settings["batch"], lengths=lengths) if grouped else None
    loader = DataLoader(
        list(zip(rows.ids, rows.labels.tolist(), strict=True)),
        batch_size=settings["batch"],
        sampler=sampler,
        shuffle=None if sampler else True,
        collate_fn=functools.partial(collated, classes=settings["classes"]),
    )

    def run(_: int) -> None:
        for batch in loader:
            trainer.step(batch)
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return worker.epochs(run, len(rows), peak_mb)


def prepare(spec: Spec) -> Ready:
    """From the raw file to a tokenised data set on disk, with datasets and a fast tokenizer."""
    import datasets

    datasets.disable_progress_bars()
    datasets.disable_caching()
    assert spec.data
    tokenizer = transformers.AutoTokenizer.from_pretrained(spec.work / common.TOKENIZER)
    lines = Path(spec.data).read_text(encoding="utf-8").splitlines()
    names = sorted({json.loads(line)["label"] for line in lines})
    cache, output = spec.work / "datasets-cache", spec.work / "prepared-hf"

    def tokenized(rows):
        encoded = tokenizer(rows["text"], truncation=True, max_length=spec.settings["length"])
        return {**encoded, "labels": [names.index(label) for label in rows["label"]]}

    def run() -> None:
        shutil.rmtree(cache, ignore_errors=True)
        rows = datasets.load_dataset(
            "json", data_files=spec.data, split="train", cache_dir=str(cache)
        )
        workers = CORES if "cores" in spec.words else None
        rows = rows.map(tokenized, batched=True, num_proc=workers, remove_columns=rows.column_names)
        rows.save_to_disk(output)

    return worker.preparations(run, len(lines))


def generation(spec: Spec) -> Ready:
    """New tokens for prompts that are tokenised already."""
    settings = spec.settings
    batch, prompt = settings["batch"], settings["prompt"]
    if settings["precision"] == "bfloat16":
        # Warming up takes each prompt three times, and greedy's and top-p's new tokens.
        check_speed(spec, batch * (3 * prompt + 2 * settings["new"]), passes=1)
    dtype = getattr(torch, settings["precision"])
    kind = transformers.AutoModelForCausalLM
    model = kind.from_pretrained(spec.base, dtype=dtype).to(DEVICE).eval()
    model.generation_config.eos_token_id = None  # all rows are of full length
    model.generation_config.pad_token_id = common.END_OF_TEXT
    ids = torch.tensor(common.token_ids(batch, prompt)).long().to(DEVICE)
    arguments: dict[str, Any] = {"attention_mask": torch.ones_like(ids)}
    if "compile" in spec.words:
        arguments["cache_implementation"] = "static"
        if DEVICE == "cpu":  # on a GPU generate compiles by itself for a static cache
            model.forward = torch.compile(model.forward)
    samplers: dict[str, dict[str, Any]] = {
        "greedy": {"do_sample": False},
        "top_p": {"do_sample": True, "top_p": settings["top_p"], "top_k": 0},
    }

    def run(sampler: str, count: int) -> list[list[int]]:
        done = model.generate(ids, max_new_tokens=count, **samplers[sampler], **arguments)
        return done[:, prompt:].tolist()

    return worker.generations(spec, run, peak_mb)


def about() -> dict[str, Any]:
    """What it ran on."""
    modules = (torch, transformers, peft)
    return {
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU",
        "versions": {module.__name__: module.__version__ for module in modules},
    }


KINDS = {
    "step": step,
    "start": start,
    "epoch": epoch,
    "prepare": prepare,
    "generate": generation,
}

if __name__ == "__main__":
    torch.set_num_threads(CORES)
    if DEVICE == "cuda":
        torch.set_float32_matmul_precision("high")  # TensorFloat-32, as TensorFlow has it
    worker.serve(KINDS, about)

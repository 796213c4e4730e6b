"""PyTorch, transformers and PEFT: `python -m benchmarks.hf SPEC` measures one case.

Variants: `weights` holds frozen weights in bfloat16 and LoRA's in float32, as PEFT does with a
model loaded in bfloat16; `autocast` holds all in float32; `compile` is torch.compile; `grouped`
draws rows of like length together, as Trainer's group_by_length; `cores` prepares with a process a
core.
"""

import contextlib
import functools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import LengthGroupedSampler

from benchmarks import common
from benchmarks.common import Spec

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CORES = common.cores()
TARGETS = r".*\.attn\.(c_attn|c_proj)"
"""The same layers as ours; the bare suffix c_proj would hit the MLP's too."""


def training_model(spec: Spec) -> torch.nn.Module:
    """The model to tune, with PEFT's LoRA or whole."""
    settings, classes = spec.settings, spec.settings.get("classes", 0)
    dtype = torch.bfloat16 if "weights" in spec.words else torch.float32
    kind, task = transformers.GPT2LMHeadModel, "CAUSAL_LM"
    arguments: dict[str, Any] = {}
    if classes:
        kind, task = transformers.GPT2ForSequenceClassification, "SEQ_CLS"
        arguments = {"num_labels": classes, "pad_token_id": common.END_OF_TEXT}
    model = kind.from_pretrained(spec.base, dtype=dtype, use_cache=False, **arguments)
    if settings["tuning"] == "lora":
        lora = settings["lora"]
        config = peft.LoraConfig(
            task_type=task,
            r=lora["rank"],
            lora_alpha=lora["alpha"],
            lora_dropout=0.0,
            target_modules=TARGETS,
            fan_in_fan_out=True,
        )
        model = peft.get_peft_model(model, config)
    return model.to(DEVICE)


class Trainer:
    """The loop that transformers documents for training without its Trainer."""

    def __init__(self, spec: Spec):
        self.bare = training_model(spec)
        self.model = torch.compile(self.bare) if "compile" in spec.words else self.bare
        self.autocast = "autocast" in spec.words
        self.weights = [weight for weight in self.bare.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.weights, common.LEARNING_RATE, weight_decay=common.WEIGHT_DECAY, fused=True
        )

    def loss(self, model, batch):
        """The mean over the supervised tokens, or rows."""
        context: Any = contextlib.nullcontext()
        if self.autocast:
            context = torch.autocast(DEVICE, dtype=torch.bfloat16)
        with context:
            return model(**batch).loss

    def step(self, batch) -> None:
        """One update."""
        self.bare.train()
        self.loss(self.model, batch).backward()
        torch.nn.utils.clip_grad_norm_(self.weights, common.MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss_without_dropout(self, batch) -> float:
        """Of the weights as they are."""
        self.bare.eval()
        with torch.no_grad():
            return self.loss(self.bare, batch).item()


def synchronized(action: Callable[..., object], *arguments) -> None:
    """Runs the action to its end, on a GPU too."""
    action(*arguments)
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def peak_mb() -> float:
    """Of the GPU, or of the process without one."""
    return torch.cuda.max_memory_allocated() / 2**20 if DEVICE == "cuda" else common.peak_mb()


def shared_batch(settings) -> dict[str, torch.Tensor]:
    """The batch that all workers train on."""
    ids = torch.tensor(common.token_ids(settings["batch"], settings["length"]), dtype=torch.long)
    labels = ids.clone()
    labels[:, : settings["prompt"]] = -100
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return {name: tensor.to(DEVICE) for name, tensor in batch.items()}


def step(spec: Spec) -> dict[str, Any]:
    """One training step on the shared batch, over and over."""
    settings = spec.settings
    trainer, batch = Trainer(spec), shared_batch(settings)
    loss = trainer.loss_without_dropout(batch)
    run = functools.partial(synchronized, trainer.step, batch)
    seconds = common.seconds_of(run, spec.inner)
    tokens = settings["batch"] * settings["length"]
    figures = {
        "tokens_per_second": [tokens / value for value in seconds],
        "peak_mb": [peak_mb()],
    }
    trained = sum(weight.numel() for weight in trainer.weights)
    return {"figures": figures, "guard": {"loss": loss}, "trained": trained}


def start(spec: Spec) -> dict[str, Any]:
    """From the command to the end of the first step."""
    synchronized(Trainer(spec).step, shared_batch(spec.settings))
    return {"figures": {"start_seconds": [time.time() - spec.launched]}}


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


def epoch(spec: Spec) -> dict[str, Any]:
    """Epochs over real rows that are tokenised already."""
    torch.manual_seed(0)
    settings, rows, trainer = spec.settings, common.read_rows(spec), Trainer(spec)
    lengths = [len(ids) for ids in rows.ids]
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

    figures = common.epoch_figures(run, len(rows), spec.inner)
    return {"figures": {**figures, "peak_mb": [peak_mb()]}}


def prepare(spec: Spec) -> dict[str, Any]:
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

    seconds = common.seconds_of(run, spec.inner, warm_up=1)
    return {"figures": {"rows_per_second": [len(lines) / value for value in seconds]}}


def generation(spec: Spec) -> dict[str, Any]:
    """New tokens for prompts that are tokenised already."""
    settings = spec.settings
    batch, new = settings["batch"], settings["new"]
    dtype = getattr(torch, settings["precision"])
    model = transformers.GPT2LMHeadModel.from_pretrained(spec.base, dtype=dtype).to(DEVICE).eval()
    model.generation_config.eos_token_id = None  # all rows are of full length
    model.generation_config.pad_token_id = common.END_OF_TEXT
    ids = torch.tensor(common.token_ids(batch, settings["prompt"])).long().to(DEVICE)
    arguments: dict[str, Any] = {"attention_mask": torch.ones_like(ids)}
    if "compile" in spec.words:
        arguments["cache_implementation"] = "static"
        model.forward = torch.compile(model.forward)

    def run(count: int, **sampling):
        return model.generate(ids, max_new_tokens=count, **sampling, **arguments)

    def times(count: int, **sampling) -> list[float]:
        action = functools.partial(synchronized, functools.partial(run, count, **sampling))
        return common.seconds_of(action, spec.inner, warm_up=1)

    greedy = {"do_sample": False}
    nucleus = {"do_sample": True, "top_p": settings["top_p"], "top_k": 0}
    figures = {
        "tokens_per_second": [batch * new / value for value in times(new, **greedy)],
        "first_token_seconds": times(1, **greedy),
        "top_p_tokens_per_second": [batch * new / value for value in times(new, **nucleus)],
        "peak_mb": [peak_mb()],
    }
    tokens = run(new, **greedy)[:, settings["prompt"] :].tolist()
    return {"figures": figures, "guard": {"tokens": tokens}}


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
    common.serve(KINDS, about)

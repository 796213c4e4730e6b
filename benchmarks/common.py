"""What all workers share: what they are asked for, the batches, the random base weights.

It runs in the peers' environment too, so it needs nothing but numpy and safetensors.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

SHAPE = {"n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
"""GPT-2 124M."""
DROPOUT = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), 0.1)
END_OF_TEXT = 50256
LEARNING_RATE, WEIGHT_DECAY, MAX_GRAD_NORM = 2e-4, 0.01, 1.0
BASE, TOKENIZER = "base", "tokenizer"
"""Directories of the working directory: the weights and the tokenizer that all load."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a worker is asked for, on its command line as JSON."""

    kind: str
    variant: str
    settings: dict[str, Any]
    work: Path
    """Where the base weights are, and where the worker may write."""
    timeout: float
    """Seconds that the driver waits for an answer."""
    launched: float
    """time.time() when the process was started."""
    data: str | None = None
    """The raw rows, or the tokenised ones, of a case of real data."""

    @property
    def words(self) -> set[str]:
        """The parts of the variant's name."""
        return set(self.variant.split("-"))

    @property
    def precision(self) -> Literal["float32", "bfloat16"]:
        """The case's, or float32 where the variant asks for it."""
        return "float32" if "float32" in self.words else self.settings["precision"]

    @property
    def base(self) -> str:
        """The directory of the weights, in Hugging Face's layout."""
        return str(self.work / BASE)


def peak_mb() -> float:
    """The most memory that this process has held so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def token_ids(rows: int, length: int, seed: int = 0) -> np.ndarray:
    """Random tokens of the shared batch: int32 [rows, length], never 50256."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, END_OF_TEXT, (rows, length), dtype=np.int32)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Tokenised rows of real data."""

    ids: list[np.ndarray]
    """int32 [length] each."""
    labels: np.ndarray
    """int32 [rows]: the class, or how many tokens at the beginning are not supervised."""

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, count: int) -> "Rows":
        """The first `count` rows."""
        return Rows(self.ids[:count], self.labels[:count])


def read_rows(spec: Spec) -> Rows:
    """The rows that the case is measured on."""
    with np.load(spec.data or "") as arrays:
        ids = np.split(arrays["tokens"], np.cumsum(arrays["lengths"])[:-1])
        return Rows(ids, arrays["labels"]).first(spec.settings["rows"])


def write_rows(file: Path, rows: Rows) -> None:
    """Writes what `read_rows` reads."""
    lengths = np.array([len(row) for row in rows.ids])
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, tokens=np.concatenate(rows.ids), lengths=lengths, labels=rows.labels)


def write_base(directory: Path) -> None:
    """Random weights of a GPT-2 124M in Hugging Face's layout, the same on every machine."""
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "model.safetensors"
    if not file.exists():
        partial = file.with_suffix(".partial")
        save_file(dict(base_weights()), str(partial), metadata={"format": "pt"})
        partial.replace(file)
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **SHAPE, **DROPOUT}
    (directory / "config.json").write_text(json.dumps(config))


def base_weights() -> Iterator[tuple[str, np.ndarray]]:
    """The weights by name; biases and LayerNorms have GPT-2's initial values."""
    generator, width = np.random.default_rng(0), SHAPE["n_embd"]

    def normal(*shape: int, spread: float = 0.02) -> np.ndarray:
        return spread * generator.standard_normal(shape, dtype=np.float32)

    yield "wte.weight", normal(SHAPE["vocab_size"], width)
    yield "wpe.weight", normal(SHAPE["n_positions"], width)
    small = 0.02 / (2 * SHAPE["n_layer"]) ** 0.5
    norms = [f"h.{layer}.ln_{part}" for layer in range(SHAPE["n_layer"]) for part in (1, 2)]
    for name in (*norms, "ln_f"):
        yield f"{name}.weight", np.ones(width, np.float32)
        yield f"{name}.bias", np.zeros(width, np.float32)
    for layer in range(SHAPE["n_layer"]):
        for name, inputs, outputs, spread in (
            ("attn.c_attn", width, 3 * width, 0.02),
            ("attn.c_proj", width, width, small),
            ("mlp.c_fc", width, 4 * width, 0.02),
            ("mlp.c_proj", 4 * width, width, small),
        ):
            yield f"h.{layer}.{name}.weight", normal(inputs, outputs, spread=spread)
            yield f"h.{layer}.{name}.bias", np.zeros(outputs, np.float32)


def padded(rows: list[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows filled with 50256 to `length`, and their mask: both int32 [rows, length]."""
    ids = np.full((len(rows), length), END_OF_TEXT, np.int32)
    mask = np.zeros((len(rows), length), np.int32)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return ids, mask

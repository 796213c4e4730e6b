"""What all workers share: what they are asked for, and the batches.

It runs in the peers' environment too, so it needs nothing but numpy.
"""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np

END_OF_TEXT = 50256
LEARNING_RATE, WEIGHT_DECAY, MAX_GRAD_NORM = 2e-4, 0.01, 1.0
GPT2, LLAMA = "gpt2", "llama"
BASES = {GPT2: "base", LLAMA: "base-llama"}
"""Directories of the working directory: the weights that all load, of each family."""
TOKENIZER = "tokenizer"
"""The same of the tokenizer."""


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
    def family(self) -> str:
        """The model's."""
        return self.settings.get("family", GPT2)

    @property
    def base(self) -> str:
        """The directory of the weights, in Hugging Face's layout."""
        return str(self.work / BASES[self.family])


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


def padded(rows: list[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows filled with 50256 to `length`, and their mask: both int32 [rows, length]."""
    ids = np.full((len(rows), length), END_OF_TEXT, np.int32)
    mask = np.zeros((len(rows), length), np.int32)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return ids, mask

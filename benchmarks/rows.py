"""The real data of the epochs: rows as our own library tokenises them, for all workers the same."""

import csv
import json
from pathlib import Path

import numpy as np

from benchmarks.common import Rows, write_rows
from gpt2_tuning.data.examples import Dropped, instruction_example, joined_pair
from gpt2_tuning.data.prompts import load_template, prompt_tokens
from gpt2_tuning.data.tokenizer import GPT2Tokenizer

FILES = {
    "emotion": "emotion/train.jsonl",
    "rte": "rte/train.tsv",
    "alpaca": "alpaca/instruction_data.json",
}
"""Where each is below --data."""
SEQ_LEN = {"emotion": 128, "rte": 384, "alpaca": 1024}


def tokenised(name: str, file: Path, output: Path) -> Path:
    """Writes the rows of a data set in an order drawn once, unless they are there; the file."""
    if not output.exists():
        rows = {"emotion": emotion, "rte": rte, "alpaca": alpaca}[name](file)
        order = np.random.default_rng(0).permutation(len(rows))
        write_rows(output, Rows([rows.ids[row] for row in order], rows.labels[order]))
    return output


def classes_of(labels: list[str]) -> np.ndarray:
    """The number of each label in the order of their names."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int32)


def arrays(rows: list[list[int]]) -> list[np.ndarray]:
    """Token ids as int32."""
    return [np.asarray(row, np.int32) for row in rows]


def emotion(file: Path) -> Rows:
    """Single texts with a class."""
    found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    ids = GPT2Tokenizer().encode_batch([row["text"] for row in found])
    ids = [row[: SEQ_LEN["emotion"]] for row in ids]
    return Rows(arrays(ids), classes_of([row["label"] for row in found]))


def rte(file: Path) -> Rows:
    """Pairs with a class, joined by the separator."""
    lines = file.read_text(encoding="utf-8").splitlines()
    found = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    tokenizer = GPT2Tokenizer()
    first, second = (
        tokenizer.encode_batch([row[column] for row in found])
        for column in ("sentence1", "sentence2")
    )
    pairs = [
        joined_pair(a, b, SEQ_LEN["rte"], tokenizer.separator)
        for a, b in zip(first, second, strict=True)
    ]
    return Rows(arrays(pairs), classes_of([row["label"] for row in found]))


def alpaca(file: Path) -> Rows:
    """Instructions; what is not supervised is the prompt."""
    found = json.loads(file.read_text(encoding="utf-8"))
    template, tokenizer = load_template("alpaca"), GPT2Tokenizer()
    prompts = [template.render(row["instruction"], row["input"]) for row in found]
    responses = tokenizer.encode_batch([row["output"].strip() for row in found])
    examples = [
        instruction_example(prompt, response, SEQ_LEN["alpaca"], tokenizer.end)
        for prompt, response in zip(prompt_tokens(prompts, tokenizer), responses, strict=True)
        if response
    ]
    kept = [example for example in examples if not isinstance(example, Dropped)]
    lengths = np.array([example.extras["prompt_length"] for example in kept], np.int32)
    return Rows(arrays([list(example.token_ids) for example in kept]), lengths)

"""What `make fuzz` runs: the scripts on small files of every kind that they read.

All lies in a directory of its own, in which the scripts run with paths of that directory alone;
what they write goes to `out`.
"""

import collections
import csv
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chaos_content import unmeasured

OUT = Path("out")
KEPT = ("--output_dir", "out/run", "--batch_size", "4")
LONGER = ("--max_updates", "3", "--validate_every", "1")
PREPARE = ("--output_dir", "out/set", "--seq_len", "32")
LABEL = ("--run_dir", "run", "--strategy", "one")
ANSWER = ("--output", "out/answers.jsonl", "--batch_size", "4")
WRITE = ("--run_dir", "lora", "--max_new_tokens", "2", "--strategy", "one")
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "vocab.json")


@dataclasses.dataclass(frozen=True)
class Case:
    """A script with its flags, and the files of which one is spoilt before it runs."""

    name: str
    script: str
    flags: tuple[str, ...]
    files: tuple[str, ...]
    """By patterns."""
    content: Callable[[], object]
    """What the script left, by which it is known."""
    copies: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What is copied to `out` first, since the script writes there."""
    weight: float = 1.0
    """How often it is chosen."""

    @property
    def stage(self) -> str:
        """`prep`, `train` or `test`."""
        return self.script.rpartition(".")[2].removesuffix("_dataset")


def examples() -> collections.Counter[tuple[Any, ...]]:
    """The examples of the prepared data, in whichever split."""
    return collections.Counter(prepared())


def prepared() -> list[tuple[Any, ...]]:
    """The examples of the prepared data, split by split: tokens and the class's name."""
    from gpt2_tuning.data.metadata import METADATA_FILE, read_metadata
    from gpt2_tuning.data.tfrecords import read_records

    task = json.loads((OUT / "set" / METADATA_FILE).read_text())["task"]
    metadata = read_metadata(OUT / "set", task)
    found = []
    for split in metadata.splits:
        records = read_records(OUT / "set", metadata, split)
        labels = records.columns.get("label")
        for row in range(len(records)):
            name = "" if labels is None else (metadata.label_names or [])[labels[row]]
            found.append((*records.row(row).tolist(), name))
    return found


def words() -> collections.Counter[str]:
    """The words of prepared plain text, wherever they are: what is before one moves it."""
    from gpt2_tuning.data.tokenizer import default_tokenizer

    tokens = [token for example in prepared() for token in example[:-1]]
    return collections.Counter(default_tokenizer().decode(tokens, True).split())


def answers() -> collections.Counter[tuple[str, str]]:
    """The answers of a file: texts with their labels."""
    rows = map(json.loads, (OUT / "answers.jsonl").read_text().splitlines())
    return collections.Counter((str(row.get("text")), str(row.get("prediction"))) for row in rows)


def nothing() -> object:
    """What cannot be told from files; what is shown is compared in any case."""
    return None


def scores() -> object:
    """The scores of the test split."""
    return json.loads((OUT / "run" / "test.json").read_text())


def trained() -> object:
    """The figures of a training, which follow from all weights."""
    with (OUT / "run" / "metrics.csv").open(encoding="utf-8") as file:
        return [unmeasured(row) for row in csv.DictReader(file)]


def prepare(task: str, *files: str, flags: tuple[str, ...] = (), **more: Any) -> Case:
    """The preparation of a file, which is the first one named."""
    script = f"{task}_tuning.prep_dataset"
    flags = ("--train_file", files[0], *PREPARE, *flags)
    content = words if task == "text" else examples
    return Case(f"prepare {files[0]}", script, flags, files, content, **more)


CASES = [
    *(
        prepare("classification", f"rows.{kind}", weight=1.5)
        for kind in ("jsonl", "json", "csv", "tsv", "parquet", "xlsx", "jsonl.gz", "csv.zst")
    ),
    prepare("entailment", "pairs.jsonl"),
    prepare("entailment", "pairs.tsv"),
    prepare("instruction", "ask.jsonl", weight=1.5),
    prepare("instruction", "ask.json", "template.txt", flags=("--template", "template.txt")),
    prepare("instruction", "talk.jsonl", "chat.jinja", flags=("--chat_template", "chat.jinja")),
    prepare("text", "book.txt", weight=1.5),
    prepare("text", "utf16.txt", flags=("--separator", "\\n\\n")),
    prepare("text", "book.txt.gz"),
    Case(
        "recipe",
        "classification_tuning.prep_dataset",
        ("--config", "recipe.yaml", "--output_dir", "out/set"),
        ("recipe.yaml",),
        examples,
        weight=1.5,
    ),
    Case(
        "older data",
        "classification_tuning.prep_dataset",
        ("--train_file", "rows.jsonl", *PREPARE),
        ("out/set/metadata.json",),
        examples,
        {"data": "out/set"},
    ),
    Case(
        "label",
        "classification_tuning.test",
        (*LABEL, "--text", "i feel fine", "--text", "no"),
        tuple(f"run/{name}" for name in ("options.yaml", "metadata.json", "weights.json")),
        nothing,
        weight=3,
    ),
    Case(
        "label unrecorded",
        "classification_tuning.test",
        ("--run_dir", "unrecorded", "--strategy", "one", "--text", "i feel fine"),
        tuple(f"unrecorded/model/{name}" for name in MODEL_FILES),
        nothing,
        weight=2,
    ),
    *(
        Case(
            f"label {file}",
            "classification_tuning.test",
            (*LABEL, *ANSWER, "--input", file),
            (file,),
            answers,
        )
        for file in ("rows.jsonl", "rows.csv", "rows.json", "rows.parquet")
    ),
    Case(
        "resume answers",
        "classification_tuning.test",
        (*LABEL, *ANSWER, "--input", "rows.jsonl", "--resume"),
        ("out/answers.jsonl.partial-*",),
        answers,
        {"answered": "out"},
    ),
    Case(
        "evaluate",
        "classification_tuning.test",
        ("--run_dir", "out/run", "--strategy", "one", "--evaluate"),
        ("data/metadata.json", "data/test.tfrecord.gz", "out/run/README.md", "out/run/test.json"),
        scores,
        {"run": "out/run"},
    ),
    Case(
        "write",
        "instruction_tuning.test",
        (*WRITE, "--prompt", "count to three"),
        (
            *("lora/adapter/adapter_config.json", "lora/adapter/adapter_model.safetensors"),
            *("base/config.json", "base/model.safetensors", "lora/options.yaml"),
        ),
        nothing,
        weight=3,
    ),
    Case(
        "train",
        "classification_tuning.train",
        (*KEPT, "--max_updates", "1", "--dataset_dir", "data", "--pretrained", "sharded"),
        (
            *("data/metadata.json", "data/train.tfrecord.gz", "data/validation.tfrecord.gz"),
            *(
                "sharded/config.json",
                "sharded/model.safetensors.index.json",
                "sharded/a.safetensors",
            ),
        ),
        trained,
        weight=1.5,
    ),
    Case(
        "weights",
        "classification_tuning.train",
        (
            *(*KEPT, "--max_updates", "1", "--dataset_dir", "data", "--pretrained", "base"),
            *("--class_weights", "weights.json"),
        ),
        ("weights.json",),
        trained,
        weight=0.5,
    ),
    Case(
        "resume",
        "classification_tuning.train",
        (*KEPT, *LONGER, "--dataset_dir", "data", "--pretrained", "base", "--resume"),
        tuple(
            f"out/run/{name}"
            for name in (
                *("options.yaml", "metadata.json", "metrics.csv"),
                *("checkpoints/step-*2/progress.json", "checkpoints/step-*2/variables.safetensors"),
                "checkpoints/best-*",
            )
        ),
        trained,
        {"begun": "out/run"},
        weight=1.5,
    ),
    Case(
        "overwrite",
        "classification_tuning.train",
        (
            *(*KEPT, "--max_updates", "1", "--dataset_dir", "data", "--pretrained", "base"),
            "--overwrite",
        ),
        ("out/run/options.yaml", "out/run/metadata.json"),
        trained,
        {"begun": "out/run"},
        weight=0.5,
    ),
]

"""What `make fuzz` runs: the scripts on small files of every kind that they read.

All lies in a directory of its own, in which the scripts run with paths of that directory alone;
what they write goes to `out`.
"""

import collections
import csv
import dataclasses
import gzip
import json
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from chaos_content import unmeasured

OUT = Path("out")
LABELS = ["no", "yes"]
PAIR_LABELS = ["entailment", "not_entailment"]
ROWS = 24
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
    prepare("text", "book.txt", weight=1.5),
    prepare("text", "utf16.txt", flags=("--separator", "\\n\\n")),
    prepare("text", "book.txt.gz"),
    Case(
        "recipe",
        "classification_tuning.prep_dataset",
        ("--config", "recipe.yaml"),
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
        weight=2,
    ),
    Case(
        "resume",
        "classification_tuning.train",
        (*KEPT, *LONGER, "--dataset_dir", "data", "--pretrained", "base", "--resume"),
        tuple(
            f"out/run/{name}"
            for name in (
                *("options.yaml", "metadata.json", "metrics.csv"),
                *("checkpoints/step-*/progress.json", "checkpoints/step-*/variables.safetensors"),
                "checkpoints/best-*",
            )
        ),
        trained,
        {"begun": "out/run"},
        weight=2,
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
    ),
]


def make_all(train: bool) -> None:
    """Writes all files here; a run that is begun where `train` is set."""
    OUT.mkdir()
    make_rows()
    make_models()
    make_runs(train)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()


def make_rows() -> None:
    """Writes rows in all kinds of files, texts among them."""
    import openpyxl
    import pyarrow as pa
    import pyarrow.parquet

    rows = [
        {"text": f"i feel number {n}, and {n * 7 % 10} more", "label": LABELS[n % 2]}
        for n in range(ROWS)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    Path("rows.jsonl").write_text(lines)
    Path("rows.json").write_text(json.dumps(rows))
    for suffix, between in (("csv", ","), ("tsv", "\t")):
        with Path(f"rows.{suffix}").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=between)
            writer.writeheader()
            writer.writerows(rows)
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), "rows.parquet")
    Path("rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    with pa.CompressedOutputStream("rows.csv.zst", "zstd") as stream:
        stream.write(Path("rows.csv").read_bytes())
    book = openpyxl.Workbook()
    for cells in (list(rows[0]), *(list(row.values()) for row in rows)):
        book.active.append(cells)
    book.save("rows.xlsx")
    pairs = [
        {"premise": f"{n} cats sleep", "hypothesis": "one does", "label": PAIR_LABELS[n % 2]}
        for n in range(ROWS)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    table = ["\t".join(pairs[0]), *("\t".join(row.values()) for row in pairs)]
    Path("pairs.tsv").write_text("\n".join(table) + "\n")
    asked = [
        {"instruction": f"count to {n}", "context": "x " * (n % 3), "response": f"{n} {n}"}
        for n in range(ROWS)
    ]
    Path("ask.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    Path("ask.json").write_text(json.dumps({"data": asked}))
    Path("template.txt").write_text("Q: {instruction}\n{context}\nA: ")
    text = "".join(f"Line {n} of a book,\nwhich goes on.\n\n" for n in range(60))
    Path("book.txt").write_text(text)
    Path("utf16.txt").write_text(text, encoding="utf-16")
    Path("book.txt.gz").write_bytes(gzip.compress(text.encode()))
    flags = {"train_file": "rows.jsonl", "output_dir": "out/set", "seq_len": 32, "seed": 0}
    Path("recipe.yaml").write_text(json.dumps(flags))


def make_models() -> None:
    """Writes prepared data, bases, and runs made without training."""
    from answer_runs import run_of
    from lora_models import small_model

    import classification_tuning.prep_dataset
    import instruction_tuning.prep_dataset
    from gpt2_tuning.families.gpt2 import GPT2Config
    from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
    from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
    from gpt2_tuning.models.gpt2_model import GPT2Model

    flags = ["--seq_len", "32", "--output_dir"]
    files = ["--train_file", "rows.jsonl"]
    assert classification_tuning.prep_dataset.main([*files, *flags, "data"]) == 0
    files = ["--train_file", "ask.jsonl"]
    assert instruction_tuning.prep_dataset.main([*files, *flags, "asked"]) == 0
    config = GPT2Config(n_layer=1, n_embd=8, n_head=2, n_positions=64)
    small_model(GPT2Model, config).save_pretrained(Path("base"))
    model = small_model(GPT2Classifier, config, label_names=LABELS)
    run = run_of(Path("run"), model, Path("data"))
    (run / "README.md").write_text("# A card\n")
    (run / "test.json").write_text("{}")
    shutil.copytree("run", "unrecorded")
    Path("unrecorded/weights.json").unlink()
    shutil.copytree("base", "sharded")
    Path("sharded/model.safetensors").rename("sharded/a.safetensors")
    content = Path("sharded/a.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    index = {"weight_map": dict.fromkeys(header.keys() - {"__metadata__"}, "a.safetensors")}
    Path("sharded/model.safetensors.index.json").write_text(json.dumps(index))
    lora = {"rank": 2, "alpha": 4}
    adapter = small_model(GPT2LanguageModel, config, lora)
    adapter.save_adapter(Path("lora/adapter"))
    shutil.copy("asked/metadata.json", "lora")
    settings = {"dataset_dir": "asked", "pretrained": "base", "lora_rank": 2, "lora_alpha": 4.0}
    Path("lora/options.yaml").write_text(json.dumps(settings))


def make_runs(train: bool) -> None:
    """Answers half a file; trains for an update where that is wanted."""
    import classification_tuning.test
    import classification_tuning.train
    from gpt2_tuning.inference.answer_sinks import PartialFile
    from gpt2_tuning.training.tuner import Tuner

    def stop_once_validated(tuner: Tuner) -> int:
        return signal.SIGTERM * bool(tuner.progress.history)

    if train:
        flags = [*KEPT, *LONGER, "--dataset_dir", "data", "--pretrained", "base"]
        with mock.patch.object(Tuner, "asked_to_stop", stop_once_validated):
            assert classification_tuning.train.main(flags) == 128 + signal.SIGTERM
        (OUT / "run").rename("begun")
    append = PartialFile.append

    def stop_after_one(file: PartialFile, lines: Sequence[str]) -> None:
        append(file, lines)
        raise KeyboardInterrupt

    with mock.patch.object(PartialFile, "append", stop_after_one):
        assert classification_tuning.test.main([*LABEL, *ANSWER, "--input", "rows.jsonl"]) == 130
    OUT.rename("answered")

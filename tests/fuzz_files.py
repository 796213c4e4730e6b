"""The files that `make fuzz` spoils: small ones of every kind that the scripts read."""

import csv
import gzip
import json
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from fuzz_cases import ANSWER, KEPT, LABEL, LONGER, OUT

LABELS = ["no", "yes"]
PAIR_LABELS = ["entailment", "not_entailment"]
ROWS = 24


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
    said = [
        [{"role": "user", "content": f"count to {n}"}, {"role": "assistant", "content": f"{n} {n}"}]
        for n in range(ROWS)
    ]
    Path("talk.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in said))
    Path("chat.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}"
    )
    Path("weights.json").write_text(json.dumps(dict(zip(LABELS, (0.5, 2.0), strict=True))))
    text = "".join(f"Line {n} of a book,\nwhich goes on.\n\n" for n in range(60))
    Path("book.txt").write_text(text)
    Path("utf16.txt").write_text(text, encoding="utf-16")
    Path("book.txt.gz").write_bytes(gzip.compress(text.encode()))
    flags = {"train_file": "rows.jsonl", "text_column": "text", "seq_len": 32, "seed": 0}
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

import csv
import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from script_runs import DATASET_FILES as FILES
from script_runs import listing, read, refused

from gpt2_tuning import paths
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.data.prompts import TEMPLATES, Template
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.families.gpt2 import END_OF_TEXT
from gpt2_tuning.tasks.instruction.prepare import SAMPLE_FILES
from instruction_tuning import prep_dataset

SPLITS = ["train", "validation", "test"]


def prepare(output_dir, *flags):
    return prep_dataset.main(["--output_dir", str(output_dir), *map(str, flags)])


def prepared(directory, split="train"):
    """Each example's prompt and response as text, the end of text shown."""
    metadata = read_metadata(directory, "instruction")
    records = read_records(directory, metadata, split)
    found = []
    for row in range(len(records)):
        ids, prompt = records.row(row).tolist(), records.columns["prompt_length"][row]
        assert ids.count(END_OF_TEXT) == 1
        found.append(tuple(map(GPT2Tokenizer().decode, (ids[:prompt], ids[prompt:]))))
    return found


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def numbered(count, context=""):
    return [
        {"instruction": f"Say {i}.", "context": context, "response": f"It is {i}."}
        for i in range(count)
    ]


def test_sample_is_prepared_whole_and_reported(tmp_path, capsys):
    assert prepare(tmp_path / "set", "--dataset", "sample") == 0
    assert listing(tmp_path) == ["set"]
    assert listing(tmp_path / "set") == FILES
    metadata = read(tmp_path / "set")
    assert (metadata["task"], metadata["seq_len"]) == ("instruction", 1024)
    assert metadata["columns"] == ["prompt_length"]
    assert metadata["label_names"] is None
    assert metadata["template"] == {"name": "dolly", "text": TEMPLATES["dolly"].text}
    assert [split["examples"] for split in metadata["splits"].values()] == [240, 30, 30]
    for split in metadata["splits"].values():
        assert split["dropped"] == split["truncated"] == split["duplicates_across"] == 0
        assert split["supervised_share"] == round(split["supervised_tokens"] / split["tokens"], 4)
    shown = capsys.readouterr()
    assert "supervised tokens" in shown.out
    assert "python instruction_tuning/train.py --dataset_dir" in shown.out
    assert shown.err == ""
    rows = [json.loads(line) for line in SAMPLE_FILES["sample"].read_text("utf-8").splitlines()]
    expected = {
        (
            TEMPLATES["dolly"].prompt(row["instruction"], row["context"]),
            row["response"] + "<|endoftext|>",
        )
        for row in rows
    }
    found = [example for split in SPLITS for example in prepared(tmp_path / "set", split)]
    assert len(found) == 300
    assert set(found) == expected


def test_default_output_dir_is_the_tasks(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(paths, "repository_top", lambda: tmp_path)
    assert prep_dataset.main(["--dataset", "sample", "--limit", "3"]) == 0
    assert listing(tmp_path / "tfrecords" / "instruction") == FILES
    assert capsys.readouterr().out.endswith("Next: python instruction_tuning/train.py\n")


def test_preparing_twice_is_byte_identical(tmp_path):
    for name in ("one", "two"):
        assert prepare(tmp_path / name, "--dataset", "sample", "--limit", 20) == 0
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def write_as(path, rows):
    """The rows in the format that the file's name says."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        write_jsonl(path, rows)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(
                file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ","
            )
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "tsv", "parquet"])
def test_alpacas_columns_are_found_in_every_format_and_others_ignored(suffix, tmp_path):
    rows = [
        {"id": f"{i}", "output": f"o{i}", "input": ["", "some"][i % 2], "instruction": f"i{i}"}
        for i in range(10)
    ]
    path = write_as(tmp_path / f"rows.{suffix}", rows)
    assert prepare(tmp_path / "set", "--train_file", path, "--template", "alpaca") == 0
    prompt = TEMPLATES["alpaca"].prompt
    expected = {
        (prompt(row["instruction"], row["input"]), row["output"] + "<|endoftext|>") for row in rows
    }
    assert {x for split in SPLITS for x in prepared(tmp_path / "set", split)} == expected


def test_columns_are_named_by_flags_and_context_may_be_missing(tmp_path):
    rows = [{"q": f"Q{i}", "a": f"A{i}", "facts": f"F{i}"} for i in range(10)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    flags = ["--train_file", path, "--instruction_column", "q", "--response_column", "a"]
    assert prepare(tmp_path / "plain", *flags) == 0
    assert all("Context" not in prompt for prompt, _ in prepared(tmp_path / "plain"))
    assert prepare(tmp_path / "facts", *flags, "--context_column", "facts") == 0
    for prompt, response in prepared(tmp_path / "facts"):
        number = response.removeprefix("A").removesuffix("<|endoftext|>")
        assert prompt == TEMPLATES["dolly"].prompt(f"Q{number}", f"F{number}")


def test_rows_of_json_may_lack_their_context(tmp_path):
    rows = [{"instruction": f"i{i}", "response": "r"} for i in range(9)]
    rows[0]["context"] = "c"
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert prepare(tmp_path / "set", "--train_file", path) == 0
    prompts = [prompt for split in SPLITS for prompt, _ in prepared(tmp_path / "set", split)]
    assert sum("### Context" in prompt for prompt in prompts) == 1


def test_own_template_is_kept_in_metadata_and_used(tmp_path, capsys):
    template = tmp_path / "mine.txt"
    template.write_text("Q: {instruction}{?context} ({context}){/context}\nA:{response}\n")
    path = write_jsonl(tmp_path / "rows.jsonl", numbered(10, "{braces}"))
    assert prepare(tmp_path / "set", "--train_file", path, "--template", template) == 0
    kept = Template.from_metadata(read(tmp_path / "set")["template"])
    assert kept == Template("mine.txt", template.read_text())
    for prompt, response in prepared(tmp_path / "set"):
        number = response.removeprefix("It is ").removesuffix(".<|endoftext|>")
        assert prompt == kept.prompt(f"Say {number}.", "{braces}")
    template.write_text("{instruction} {response}")
    capsys.readouterr()
    assert prepare(tmp_path / "set", "--train_file", path, "--template", template) == 0
    assert "no {context}: column context is not used" in capsys.readouterr().out
    assert all("braces" not in prompt for prompt, _ in prepared(tmp_path / "set"))


def test_text_that_looks_like_a_response_header_breaks_nothing(tmp_path):
    hard = "{instruction} ### Response:\nNo <|endoftext|> {context} {}"
    rows = [{"instruction": f"{hard}{i}", "context": hard, "response": hard} for i in range(9)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert prepare(tmp_path / "set", "--train_file", path) == 0
    for prompt, response in prepared(tmp_path / "set"):
        assert prompt.startswith(f"### Instruction:\n{hard}")
        assert prompt.endswith(f"\n\n### Context:\n{hard}\n\n### Response:\n")
        assert response == hard + "<|endoftext|>"


def test_what_cannot_be_learnt_is_dropped_and_counted_by_reason(tmp_path, capsys):
    rows = numbered(4)
    rows += [{"instruction": "Say.", "context": "", "response": blank} for blank in ("", " \n")]
    rows += [{"instruction": " ", "context": "", "response": "x"}]
    rows += [{"instruction": "Say.", "context": "", "response": "word " * 100}]
    rows += [{"instruction": "Tell.", "context": "fact " * 100, "response": "yes"}]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    write_jsonl(tmp_path / "other.jsonl", numbered(2))
    files = ["--train_file", path]
    for flag in ("--validation_file", "--test_file"):
        files += [flag, tmp_path / "other.jsonl"]
    assert prepare(tmp_path / "set", *files, "--seq_len", 40) == 0
    train = read(tmp_path / "set")["splits"]["train"]
    assert (train["rows"], train["examples"], train["dropped"], train["truncated"]) == (9, 5, 4, 1)
    assert train["dropped_reasons"] == {"empty response": 2, "no instruction": 1, "too long": 1}
    assert read(tmp_path / "set")["splits"]["test"]["duplicates_across"] == 2
    out = capsys.readouterr().out
    for line in ("empty response, dropped", "no instruction, dropped", "too long, dropped"):
        assert line in out
    prompt, response = prepared(tmp_path / "set")[-1]
    kept = prompt.removeprefix("### Instruction:\nTell.\n\n### Context:\n")
    kept = kept.removesuffix("\n\n### Response:\n")
    assert kept.startswith("fact fact")
    assert set(kept.split()) == {"fact"}
    assert response == "yes<|endoftext|>"
    assert len(GPT2Tokenizer().encode(prompt)) + 2 == 40


def test_equal_prompts_stay_on_one_side_of_a_cut_whatever_their_responses(tmp_path):
    rows = [{"instruction": f"i{i % 20}", "input": "c", "output": f"o{i}"} for i in range(200)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert prepare(tmp_path / "set", "--train_file", path) == 0
    sides = [{prompt for prompt, _ in prepared(tmp_path / "set", split)} for split in SPLITS]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 20


def test_show_prints_the_three_parts_with_their_counts(tmp_path, capsys):
    path = write_jsonl(tmp_path / "rows.jsonl", numbered(10))
    flags = ["--train_file", path, "--seq_len", 30, "--show", 2]
    assert prepare(tmp_path / "set", *flags) == 0
    out = capsys.readouterr().out
    assert out.count("--- supervised ---\nIt is ") == 2
    assert out.count("--- prompt ---\n### Instruction:\nSay ") == 2
    assert "example 2 of 8 in train: 13 prompt + 5 supervised + 12 padding tokens" in out
    assert out.count(".⟦end of text⟧\n--- padding ---\n⟦end of text⟧ x 12\n") == 2
    assert "<|endoftext|>" not in out


def test_end_of_text_written_in_letters_is_counted_and_shown_apart_from_the_token(
    cases, tmp_path, capsys
):
    path = cases / "instruction_columns" / "alpaca_eos.jsonl"
    for name in ("one", "two"):
        assert prepare(tmp_path / name, "--train_file", path, "--show", 1) == 0
        out = " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "one" / "metadata.json").read_bytes() == (
        tmp_path / "two" / "metadata.json"
    ).read_bytes()
    splits = read(tmp_path / "one")["splits"]
    assert [split["end_of_text_written"] for split in splits.values()] == [48, 6, 6]
    assert "texts with <|endoftext|> │ 48 │ 6 │ 6 │" in out
    assert "<|endoftext|> written in a text is learnt as those letters" in out
    assert "remove it from the texts" in out
    assert "stone, number 0.<|endoftext|>⟦end of text⟧ --- padding" in out


def test_line_ends_of_windows_within_cells_give_the_tokens_of_unix_ones(cases, tmp_path):
    for name in ("crlf", "lf"):
        path = cases / "crlf_cell" / f"{name}.csv"
        assert prepare(tmp_path / name, "--train_file", path) == 0
    for name in FILES[1:]:
        assert (tmp_path / "crlf" / name).read_bytes() == (tmp_path / "lf" / name).read_bytes()
    prints = {read(tmp_path / name)["dataset"]["fingerprint"] for name in ("crlf", "lf")}
    assert len(prints) == 1
    assert all("\r" not in "".join(pair) for pair in prepared(tmp_path / "crlf"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train_file", "{good}", "--seq_len", "1025"], "--seq_len must be between 1 and 1024"),
        (["--train_file", "{good}", "--show", "-1"], "--show must be 0 or more"),
        (["--train_file", "{good}", "--template", "none"], "no such template: none: give dolly, a"),
        (
            ["--train_file", "{good}", "--template", "{bad}"],
            "{response} must come once, at the end",
        ),
        (["--train_file", "{good}", "--response_column", "text"], "no column 'text'; its columns"),
        (["--train_file", "{good}", "--context_column", "text"], "no column 'text'; its columns"),
        (["--train_file", "{good}", "--context_column", "response"], "need a column each"),
        (
            ["--train_file", "{odd}"],
            "odd.jsonl has no column 'instruction', 'prompt' or 'question'; its columns: q, a",
        ),
        (
            ["--train_file", "{odd}", "--instruction_column", "q"],
            "no column 'response', 'output', 'completion' or 'answer'",
        ),
        (["--train_file", "{blank}"], "no row of train is left (dropped: 9 empty response)"),
        (
            ["--train_file", "{good}", "--seq_len", "8"],
            "no row of train is left (dropped: 7 too lo",
        ),
        (["--train_file", "{lists}"], "column 'context' holds a list, not text"),
        (["--train_file", "none.csv"], "no such file: none.csv"),
        (["--train_file", "{bad}"], "unknown format bad.txt"),
    ],
)
def test_bad_input_is_one_clear_line_and_writes_nothing(flags, message, tmp_path, capsys):
    rows = tmp_path / "rows"
    rows.mkdir()
    files = {
        "good": write_jsonl(rows / "good.jsonl", numbered(9)),
        "odd": write_jsonl(rows / "odd.jsonl", [{"q": f"{i}", "a": "x"} for i in range(9)]),
        "blank": write_jsonl(
            rows / "blank.jsonl", [{**row, "response": ""} for row in numbered(11)]
        ),
        "lists": write_jsonl(rows / "lists.jsonl", [{**row, "context": []} for row in numbered(9)]),
        "bad": rows / "bad.txt",
    }
    files["bad"].write_text("{instruction}")
    flags = [str(files.get(flag.strip("{}"), flag)) for flag in flags]
    flags = ["--output_dir", tmp_path / "set", *flags]
    assert message in refused(prep_dataset.main, capsys, *flags, silent=True)
    assert listing(tmp_path) == ["rows"]


def test_foreign_output_dir_is_refused_before_any_work(tmp_path, capsys, monkeypatch):
    (tmp_path / "thesis.txt").write_text("mine")
    monkeypatch.setattr("gpt2_tuning.data.opened_rows.open_rows", lambda *_, **__: 1 / 0)
    assert prepare(tmp_path, "--dataset", "sample") == 2
    assert "not a prepared data set" in capsys.readouterr().err
    assert listing(tmp_path) == ["thesis.txt"]


def test_default_dataset_is_dolly_from_the_hub(tmp_path, monkeypatch, datasets):
    rows = datasets.Dataset.from_list([{**row, "category": "c"} for row in numbered(20, "x")])
    asked = []

    def load_dataset(name, config):
        asked.append(name)
        return datasets.DatasetDict({"train": rows})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert prepare(tmp_path / "set") == 0
    assert asked == ["databricks/databricks-dolly-15k"]
    metadata = read(tmp_path / "set")
    assert metadata["dataset"]["name"] == asked[0]
    assert [split["examples"] for split in metadata["splits"].values()] == [16, 2, 2]


@pytest.mark.parametrize(
    ("file", "examples"), [("dolly/sample.jsonl", 110), ("alpaca/instruction_data.json", 900)]
)
def test_real_rows_are_prepared_without_loss_or_leak(file, examples, real_data, tmp_path):
    assert prepare(tmp_path / "set", "--train_file", real_data / file, "--template", "alpaca") == 0
    splits = read(tmp_path / "set")["splits"]
    assert sum(split["rows"] for split in splits.values()) == examples
    assert sum(split["examples"] + split["dropped"] for split in splits.values()) == examples
    assert sum(split["dropped"] for split in splits.values()) <= 1
    assert splits["validation"]["duplicates_across"] == splits["test"]["duplicates_across"] == 0

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from script_runs import DATASET_FILES as FILES
from script_runs import listing, read, refused

from classification_tuning import prep_dataset
from gpt2_tuning import paths
from gpt2_tuning.tasks.classification.prepare import SAMPLE_FILE

TOP = Path(__file__).parents[1]


def prepare(output_dir, *flags):
    return prep_dataset.main(["--output_dir", str(output_dir), *map(str, flags)])


def train_rows(directory):
    from gpt2_tuning.data.metadata import read_metadata
    from gpt2_tuning.data.tfrecords import read_records
    from gpt2_tuning.data.tokenizer import GPT2Tokenizer

    metadata = read_metadata(directory, "classification")
    assert metadata.label_names
    records = read_records(directory, metadata, "train")
    return [
        (
            GPT2Tokenizer().decode(records.row(i).tolist()),
            metadata.label_names[records.columns["label"][i]],
        )
        for i in range(len(records))
    ]


def write_csv(path, rows, header="text,label"):
    path.write_text("".join(f"{line}\n" for line in [header, *rows]))
    return path


def test_sample_is_prepared_whole_and_reported(tmp_path, capsys):
    assert prepare(tmp_path / "set", "--dataset", "sample") == 0
    assert listing(tmp_path) == ["set"]
    assert listing(tmp_path / "set") == FILES
    metadata = read(tmp_path / "set")
    assert (metadata["task"], metadata["seq_len"]) == ("classification", 128)
    assert (metadata["dataset"]["name"], metadata["dataset"]["source"]) == ("sample", "sample")
    assert [split["examples"] for split in metadata["splits"].values()] == [480, 60, 60]
    assert [split["duplicates_across"] for split in metadata["splits"].values()] == [0, 0, 0]
    sample = {
        (row["text"], row["label"])
        for row in map(json.loads, SAMPLE_FILE.read_text("utf-8").splitlines())
    }
    assert set(train_rows(tmp_path / "set")) <= sample
    shown = capsys.readouterr()
    assert "480" in shown.out
    assert "python classification_tuning/train.py --dataset_dir" in shown.out
    assert shown.err == ""


def test_default_output_dir_is_the_tasks(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(paths, "repository_top", lambda: tmp_path)
    assert prep_dataset.main(["--dataset", "sample", "--limit", "3"]) == 0
    assert listing(tmp_path / "tfrecords" / "classification") == FILES
    assert capsys.readouterr().out.endswith("Next: python classification_tuning/train.py\n")


def test_preparing_twice_is_byte_identical_and_limit_takes_that_many_rows(tmp_path):
    for name in ("one", "two"):
        assert prepare(tmp_path / name, "--dataset", "sample", "--limit", 7) == 0
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert [split["rows"] for split in read(tmp_path / "one")["splits"].values()] == [7, 7, 7]


def test_empty_texts_are_dropped_and_long_ones_cut_and_both_counted(tmp_path, capsys):
    rows = ["one two three four five,a", ",b", "   ,a", "one two,b"]
    path = write_csv(tmp_path / "rows.csv", rows)
    others = ["--validation_file", path, "--test_file", path]
    assert prepare(tmp_path / "set", "--train_file", path, *others, "--seq_len", 3) == 0
    train = read(tmp_path / "set")["splits"]["train"]
    assert (train["rows"], train["examples"], train["dropped"], train["truncated"]) == (4, 2, 2, 1)
    assert read(tmp_path / "set")["splits"]["test"]["duplicates_across"] == 2
    assert train_rows(tmp_path / "set") == [("one two three", "a"), ("one two", "b")]
    assert "empty, dropped" in capsys.readouterr().out


def test_columns_are_chosen_by_flag_and_integers_may_be_classes(tmp_path):
    path = write_csv(
        tmp_path / "rows.csv", [f"{i % 3 * 5},{i},body {i}" for i in range(9)], "c,i,t"
    )
    flags = ["--train_file", path, "--text_column", "t", "--label_column", "c"]
    assert prepare(tmp_path / "set", *flags) == 0
    assert read(tmp_path / "set")["label_names"] == ["0", "5", "10"]
    assert all(
        int(text.split()[1]) % 3 * 5 == int(label) for text, label in train_rows(tmp_path / "set")
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train_file", "{good}", "--seq_len", "1025"], "--seq_len must be between 1 and 1024"),
        (["--train_file", "{good}", "--seq_len", "0"], "--seq_len must be between 1 and 1024"),
        (["--train_file", "{good}", "--limit", "0"], "--limit must be at least 1"),
        (["--train_file", "{good}", "--dataset", "sample"], "exclude each other"),
        (["--train_file", "none.csv"], "no such file: none.csv"),
        (["--train_file", "{empty}"], "empty file"),
        (["--train_file", "{good}", "--text_column", "body"], "its columns: text, label, score"),
        (["--train_file", "{good}", "--label_column", "klass"], "no column 'klass'; its columns"),
        (["--train_file", "{good}", "--label_column", "score"], "labels must be names or integers"),
        (["--train_file", "{good}", "--validation_file", "{other}"], "label 'z' in row 1 of valid"),
        (["--train_file", "{blank}"], "no row of train holds any text"),
        (["--train_file", "{good}", "--seqlen", "8"], "--seqlen"),
    ],
)
def test_bad_input_is_one_clear_line_and_writes_nothing(flags, message, tmp_path, capsys):
    rows = tmp_path / "rows"
    rows.mkdir()
    files = {
        "good": write_csv(
            rows / "good.csv", [f"t{i},{'ab'[i % 2]},{i}.5" for i in range(9)], "text,label,score"
        ),
        "other": write_csv(rows / "other.csv", ["x,z,1.5"], "text,label,score"),
        "blank": write_csv(rows / "blank.csv", [" ,a", "  ,b", "   ,a"]),
        "empty": rows / "empty.csv",
    }
    files["empty"].touch()
    flags = ["--output_dir", tmp_path / "set", *[flag.format(**files) for flag in flags]]
    assert message in refused(prep_dataset.main, capsys, *flags, silent=True)
    assert listing(tmp_path) == ["rows"]


@pytest.mark.parametrize(
    ("file", "names", "trimmed"),
    [
        ("label_blank/rows.csv", ["bad", "good"], 9),
        ("label_float/rows.csv", ["0", "1"], 0),
        ("label_float/rows.jsonl", ["0", "1"], 0),
        ("label_float/rows.parquet", ["0", "1"], 0),
        ("label_bool/rows.csv", ["false", "true"], 0),
    ],
)
def test_labels_that_mean_the_same_are_one_class(file, names, trimmed, cases, tmp_path, capsys):
    assert prepare(tmp_path / "set", "--train_file", cases / file) == 0
    metadata = read(tmp_path / "set")
    assert metadata["label_names"] == names
    assert [len(split["labels"]) for split in metadata["splits"].values()] == [2, 2, 2]
    counts = [split["labels_trimmed"] for split in metadata["splits"].values()]
    assert sum(counts) == trimmed
    shown = capsys.readouterr().out
    assert ("labels trimmed of blanks" in shown) == bool(trimmed)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("label_nan/empty.csv", "row 6 of train has no label (column 'label'): give it one"),
        ("label_nan/nan.csv", "row 6 of train has no label (column 'label' holds 'nan')"),
        ("label_nan/nan.jsonl", "row 6 of train has no label (column 'label')"),
        ("label_nan/nan_num.csv", "row 6 of train has no label (column 'label' holds 'nan')"),
        ("label_bool/mixed.jsonl", "'label' holds a number in row 1 and true or false in row 2"),
        ("label_bool/intstr.jsonl", "'label' holds a number in row 1 and text in row 2: give"),
        ("one_class/rows.csv", "all rows of train have the label 'good' (column 'label')"),
        ("dup_columns/rows.csv", "dup_columns/rows.csv has 2 columns called 'text'"),
    ],
)
def test_rows_whose_labels_or_columns_are_unclear_are_refused(
    file, message, cases, tmp_path, capsys
):
    flags = ["--output_dir", tmp_path / "set", "--train_file", cases / file]
    assert message in refused(prep_dataset.main, capsys, *flags, silent=True)
    assert listing(tmp_path) == []


def test_foreign_output_dir_is_refused_before_any_work(tmp_path, capsys, monkeypatch):
    (tmp_path / "thesis.txt").write_text("mine")
    monkeypatch.setattr("gpt2_tuning.data.opened_rows.open_rows", lambda *_, **__: 1 / 0)
    assert prepare(tmp_path, "--dataset", "sample") == 2
    assert "not a prepared data set" in capsys.readouterr().err
    assert listing(tmp_path) == ["thesis.txt"]


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "terminated\n")],
)
def test_interrupted_preparation_leaves_no_data_set(
    tmp_path, capsys, monkeypatch, plain_handlers, number, code, line
):
    from gpt2_tuning.data import examples

    calls = iter(range(1000))
    real = examples.text_example

    def interrupted(*arguments):
        if next(calls) == 100:
            os.kill(os.getpid(), number)
        return real(*arguments)

    monkeypatch.setattr(examples, "text_example", interrupted)
    assert prepare(tmp_path / "set", "--dataset", "sample") == code
    assert listing(tmp_path) == []
    assert capsys.readouterr().err == line


def test_script_on_a_full_disk_says_so_in_one_line_and_leaves_no_data_set(tmp_path):
    # A limit on the size of files fails a write as a full disk does, in a process of its own.
    limited = (
        "import resource, runpy, sys;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000));"
        "sys.argv[0] = 'classification_tuning/prep_dataset.py';"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    flags = ["--dataset", "sample", "--output_dir", str(tmp_path / "set")]
    done = subprocess.run(
        [sys.executable, "-c", limited, *flags],
        cwd=TOP / "src",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(TOP / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"cannot write train.tfrecord.gz in {tmp_path}" in done.stderr
    assert listing(tmp_path) == []


def test_real_rte_loses_no_row_to_its_quotes(real_data, tmp_path):
    flags = ["--train_file", real_data / "rte" / "train.tsv", "--text_column", "sentence2"]
    assert prepare(tmp_path / "set", *flags) == 0
    metadata = read(tmp_path / "set")
    assert sum(split["examples"] for split in metadata["splits"].values()) == 2490
    assert metadata["label_names"] == ["entailment", "not_entailment"]


def test_real_emotion_is_prepared_as_it_is(real_data, tmp_path):
    files = [
        "--train_file",
        real_data / "emotion" / "train.jsonl",
        "--validation_file",
        real_data / "emotion" / "validation.jsonl",
    ]
    assert prepare(tmp_path / "set", *files) == 0
    splits = read(tmp_path / "set")["splits"]
    assert [split["examples"] for split in splits.values()] == [14400, 2000, 1600]
    assert all(split["truncated"] == split["dropped"] == 0 for split in splits.values())

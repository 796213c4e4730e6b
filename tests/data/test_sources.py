import collections
import dataclasses
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from gpt2_tuning import paths
from gpt2_tuning.data.opened_rows import open_rows
from gpt2_tuning.data.sources import read_source, split_origins
from gpt2_tuning.errors import UserError
from gpt2_tuning.options.preparation import PrepareOptions

END_TEXT = "<|endoftext|>"
NO_COUNTS = {"end_of_text_written": 0, "labels_trimmed": 0}
SAMPLE_FILE = paths.ASSETS / "emotion_sample.jsonl"


def load(options, text_columns=("text",), label_column="label", sample_file=SAMPLE_FILE):
    opened = open_rows(options, "someone/something", sample_file)
    return read_source(opened, options, END_TEXT, text_columns, label_column)


def write_rows(path, count, prefix="text"):
    rows = [{"text": f"{prefix} {row}", "label": "ab"[row % 2]} for row in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(source):
    """Per split, each row's text with the name of its label."""
    return {
        split: [
            (text, source.label_names[label])
            for text, label in zip(rows["text"], rows["label"], strict=True)
        ]
        for split, rows in source.splits.items()
    }


def test_missing_splits_are_cut_from_train_and_said_to_be(tmp_path):
    source = load(PrepareOptions(train_file=write_rows(tmp_path / "rows.jsonl", 100)))
    assert {split: len(rows) for split, rows in source.splits.items()} == {
        "train": 80, "validation": 10, "test": 10,
    }  # fmt: skip
    assert split_origins(source) == {
        "train": {"origin": "given", "rows": 80, **NO_COUNTS},
        "validation": {"origin": "cut from train", "rows": 10, "share": 0.1, **NO_COUNTS},
        "test": {"origin": "cut from train", "rows": 10, "share": 0.1, **NO_COUNTS},
    }
    assert (source.name, source.kind) == ("rows.jsonl", "files")
    assert source.label_names == ["a", "b"]
    assert len({row for rows in pairs(source).values() for row in rows}) == 100


def test_given_splits_are_used_as_they_are(tmp_path):
    options = PrepareOptions(
        train_file=write_rows(tmp_path / "a.jsonl", 20),
        validation_file=write_rows(tmp_path / "b.jsonl", 4, "other"),
        test_file=write_rows(tmp_path / "c.jsonl", 2, "third"),
    )
    source = load(options)
    assert [len(rows) for rows in source.splits.values()] == [20, 4, 2]
    assert list(source.splits) == ["train", "validation", "test"]
    assert set(source.origins.values()) == {"given"}
    assert source.name == "a.jsonl, b.jsonl, c.jsonl"
    assert pairs(source)["validation"][1] == ("other 1", "b")


def test_splits_are_in_order_when_only_test_is_given(tmp_path):
    options = PrepareOptions(
        train_file=write_rows(tmp_path / "a.jsonl", 20),
        test_file=write_rows(tmp_path / "c.jsonl", 2, "third"),
    )
    source = load(options)
    assert [len(rows) for rows in source.splits.values()] == [18, 2, 2]
    assert list(source.origins) == ["train", "validation", "test"]


def test_class_is_known_wherever_the_cut_puts_its_only_row(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\none,a\ntwo,b\nthree,c\n")
    source = load(PrepareOptions(train_file=path))
    assert source.label_names == ["a", "b", "c"]
    assert [len(rows) for rows in source.splits.values()] == [1, 1, 1]


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_limit_takes_that_many_rows_of_each_split_and_keeps_all_classes(limit):
    source = load(PrepareOptions(dataset="sample", limit=limit))
    sizes = [len(rows) for rows in source.splits.values()]
    assert sizes == [min(limit, size) for size in (480, 60, 60)]
    assert len(source.label_names) == 6


def test_limited_rows_are_the_same_each_time_and_come_from_the_same_splits():
    whole = pairs(load(PrepareOptions(dataset="sample")))
    some = pairs(load(PrepareOptions(dataset="sample", limit=12)))
    assert some == pairs(load(PrepareOptions(dataset="sample", limit=12)))
    for split, rows in some.items():
        assert set(rows) <= set(whole[split])
        assert len({label for _, label in rows}) == 6


def test_same_seed_same_fingerprint_and_another_seed_another_cut():
    first, again = (load(PrepareOptions(dataset="sample", seed=3)) for _ in range(2))
    other = load(PrepareOptions(dataset="sample", seed=4))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert pairs(first) == pairs(again) != pairs(other)
    assert (first.name, first.kind) == ("sample", "sample")


def test_fingerprint_is_independent_of_format_place_time_and_other_columns(tmp_path):
    rows = [("a, b", 3), ("c", 10), ("d", 3), ("NA", 10)]
    (tmp_path / "deep").mkdir()
    as_json = tmp_path / "deep" / "rows.json"
    as_json.write_text(json.dumps([{"id": 1, "label": n, "text": t} for t, n in rows]))
    as_tsv = tmp_path / "other.tsv"
    as_tsv.write_text("text\tlabel\n" + "".join(f"{t}\t{n}\n" for t, n in rows))
    as_parquet = tmp_path / "rows.parquet"
    columns = {"label": [n for _, n in rows], "text": [t for t, _ in rows]}
    pyarrow.parquet.write_table(pa.table(columns), as_parquet)
    prints = {load(PrepareOptions(train_file=f)).fingerprint for f in (as_json, as_tsv, as_parquet)}
    assert len(prints) == 1
    as_tsv.write_text(as_tsv.read_text().replace("c\t", "C\t"))
    assert load(PrepareOptions(train_file=as_tsv)).fingerprint not in prints


def test_rows_without_labels_are_cut_too(tmp_path):
    source = load(PrepareOptions(dataset="sample"), label_column=None)
    assert source.label_names is None
    assert source.splits["train"].column_names == ["text"]
    assert [len(rows) for rows in source.splits.values()] == [480, 60, 60]


def test_local_files_leave_nothing_behind(tmp_path, monkeypatch, datasets):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    load(PrepareOptions(dataset="sample", limit=5))
    assert not (tmp_path / "cache").exists()
    assert not list((tmp_path / "temporary").iterdir())


def hub(monkeypatch, answer):
    datasets = pytest.importorskip("datasets")

    def load_dataset(name, config):
        calls.append((name, config))
        if isinstance(answer, Exception):
            raise answer
        return datasets.DatasetDict(answer)

    calls: list[tuple] = []
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def hub_rows(count):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["z", "a"])}
    )
    columns = {"text": [f"t{i}" for i in range(count)], "label": [i % 2 for i in range(count)]}
    rows = datasets.Dataset.from_dict(columns, features=features)
    return rows.add_column("other", list(range(count)))


def test_hub_splits_are_used_and_those_of_other_names_ignored(monkeypatch):
    answer = {"test": hub_rows(3), "unlabelled": hub_rows(9), "train": hub_rows(40)}
    calls = hub(monkeypatch, answer)
    source = load(PrepareOptions(dataset="a/b", dataset_config="c"))
    assert calls == [("a/b", "c")]
    assert (source.name, source.kind, source.label_names) == ("a/b/c", "hub", ["z", "a"])
    assert [len(rows) for rows in source.splits.values()] == [36, 4, 3]
    assert source.origins["validation"] == "cut from train"
    assert {tuple(rows.column_names) for rows in source.splits.values()} == {("text", "label")}


def test_default_dataset_is_used_when_no_flag_names_one(monkeypatch):
    calls = hub(monkeypatch, {"train": hub_rows(10)})
    assert load(PrepareOptions()).name == "someone/something"
    assert calls == [("someone/something", None)]


@pytest.mark.parametrize(
    "make",
    [
        lambda _: ConnectionError("Couldn't reach 'a/b' on the Hub"),
        lambda datasets: datasets.exceptions.DatasetNotFoundError("There is no a/b on the Hub"),
        lambda _: ValueError("Config name is missing"),
    ],
)
def test_hub_data_that_cannot_be_had_names_what_was_tried_and_the_way_out(
    make, monkeypatch, datasets
):
    failure = make(datasets)
    hub(monkeypatch, failure)
    with pytest.raises(UserError) as error:
        load(PrepareOptions(dataset="a/b"))
    assert str(failure) in str(error.value)
    for part in ("a/b", "--dataset sample", "--train_file"):
        assert part in str(error.value)


def test_hub_data_of_the_wrong_shape_is_one_clear_line(monkeypatch):
    hub(monkeypatch, {"all": hub_rows(3)})
    with pytest.raises(UserError, match="a/b has no train split; its splits: all"):
        load(PrepareOptions(dataset="a/b"))
    hub(monkeypatch, {"train": hub_rows(3)})
    with pytest.raises(
        UserError, match=r"a/b, split train, has no column 'body'; its columns: text,"
    ):
        load(PrepareOptions(dataset="a/b"), text_columns=["body"])
    with pytest.raises(
        UserError, match=r"a/b, split train, row 1: column 'label' holds a number .0., not text"
    ):
        load(PrepareOptions(dataset="a/b"), text_columns=["label"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"dataset": "a/b", "train_file": Path("x.csv")}, "--dataset and --train_file exclude"),
        ({"validation_file": Path("x.csv")}, "--validation_file needs --train_file"),
        ({"dataset": "sample", "test_file": Path("x.csv")}, "--test_file needs --train_file"),
        ({"dataset": "sample", "dataset_config": "c"}, "--dataset_config belongs to"),
        ({"dataset": "sample", "limit": 0}, "--limit must be at least 1, not 0"),
        ({"dataset": "rows.csv"}, "give the file rows.csv to --train_file"),
        ({"train_file": Path("none.csv")}, "no such file: none.csv"),
    ],
)
def test_flags_that_make_no_sense_are_one_clear_line(flags, message):
    with pytest.raises(UserError, match=message):
        load(dataclasses.replace(PrepareOptions(), **flags))


def test_label_of_validation_that_train_lacks_is_named(tmp_path):
    validation = write_rows(tmp_path / "b.jsonl", 2)
    validation.write_text(validation.read_text().replace('"b"', '"zorn"'))
    options = PrepareOptions(
        train_file=write_rows(tmp_path / "a.jsonl", 10), validation_file=validation
    )
    with pytest.raises(UserError, match="label 'zorn' in row 2 of validation does not occur in tr"):
        load(options)


def test_column_that_is_both_text_and_label_is_refused(tmp_path):
    options = PrepareOptions(train_file=write_rows(tmp_path / "rows.jsonl", 9))
    for columns in (["label"], ["text", "text"]):
        with pytest.raises(UserError, match="texts and label need a column each, not "):
            load(options, text_columns=columns)


def test_counts_of_a_split_are_those_of_its_own_rows(tmp_path):
    rows = [
        {
            "text": f"text {row}" + "<|endoftext|>" * (row % 3 == 0),
            "label": "ab"[row % 2] + " " * (row % 5 == 0),
        }
        for row in range(200)
    ]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    other = tmp_path / "other.json"
    other.write_text(json.dumps(rows[:1] * 3))
    source = load(PrepareOptions(train_file=path, test_file=other, limit=150))
    assert len(source.splits["train"]) == 150
    for split in ("train", "validation"):
        numbers = [int(text[5:].split("<")[0]) for text, _ in pairs(source)[split]]
        assert source.counts[split] == {
            "end_of_text_written": sum(number % 3 == 0 for number in numbers),
            "labels_trimmed": sum(number % 5 == 0 for number in numbers),
        }
    assert source.counts["test"] == {"end_of_text_written": 3, "labels_trimmed": 3}


def test_windows_line_ends_of_the_hub_are_read_as_unix_ones(monkeypatch, datasets):
    texts = {"unix": "a\nb", "windows": "a\r\nb"}
    found = {}
    for name, text in texts.items():
        rows = [{"text": f"{row}{text}", "label": row % 2} for row in range(20)]
        hub(monkeypatch, {"train": datasets.Dataset.from_list(rows)})
        found[name] = load(PrepareOptions(dataset="a/b"))
    assert pairs(found["unix"]) == pairs(found["windows"])
    assert found["unix"].fingerprint == found["windows"].fingerprint


def test_real_emotion_rows_are_cut_without_loss_leak_or_skew(real_data):
    source = load(PrepareOptions(train_file=real_data / "emotion" / "train.jsonl"))
    rows = pairs(source)
    sizes = {split: len(found) for split, found in rows.items()}
    assert sizes == {"train": 12800, "validation": 1600, "test": 1600}
    texts = {split: {text for text, _ in found} for split, found in rows.items()}
    assert not texts["train"] & (texts["validation"] | texts["test"])
    assert not texts["validation"] & texts["test"]
    whole = collections.Counter(label for found in rows.values() for _, label in found)
    for split in ("validation", "test"):
        found = collections.Counter(label for _, label in rows[split])
        assert all(abs(found[name] - whole[name] / 10) <= 2 for name in whole)

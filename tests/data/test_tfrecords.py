import errno
import gzip
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tuning.config import END_OF_TEXT
from gpt2_tuning.data import tfrecords
from gpt2_tuning.data.examples import Example
from gpt2_tuning.data.metadata import Metadata, read_metadata
from gpt2_tuning.data.tfrecords import check_output_dir, read_records, serialized, write_dataset
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError

SEQ_LEN = 6
ROWS: dict[str, list] = {
    "train": [([1, 2, 3], 0), ([END_OF_TEXT, 5, END_OF_TEXT], 1), ([7] * 6, 0), None, ([8], 1)],
    "validation": [([4, END_OF_TEXT], 1)],
    "test": [([0], 0), None],
}
FILES = ["metadata.json", "test.tfrecord.gz", "train.tfrecord.gz", "validation.tfrecord.gz"]


def header(**changes):
    fields = {
        "task": "classification",
        "dataset": {"name": "rows.csv", "source": "files", "fingerprint": "f" * 64},
        "tokenizer_sha256": GPT2Tokenizer().sha256,
        "seq_len": SEQ_LEN,
        "columns": ["label"],
        "label_names": ["no", "yes"],
        "template": None,
        "split_seed": 0,
        "splits": {name: {"origin": "given", "rows": len(rows)} for name, rows in ROWS.items()},
    }
    return Metadata(**{**fields, **changes})


def examples(rows):
    return [row and Example(row[0], {"label": row[1]}) for row in rows]


def write(directory, rows=ROWS, **changes):
    return write_dataset(
        directory, header(**changes), {split: examples(found) for split, found in rows.items()}
    )


def listing(directory):
    return sorted(path.name for path in directory.iterdir())


def alter_metadata(directory, change):
    """Edits metadata.json; where a record file was edited too, its sha256 is brought up to date."""
    path = directory / "metadata.json"
    content = json.loads(path.read_text())
    change(content)
    for split in content.get("splits", {}).values():
        for file in split["files"]:
            if (directory / file["name"]).is_file():
                data = (directory / file["name"]).read_bytes()
                file["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(content))


def read_split(directory, split="train"):
    return read_records(directory, read_metadata(directory, "classification"), split)


def test_what_was_written_is_read_back_without_padding(tmp_path):
    metadata = write(tmp_path / "set")
    assert read_metadata(tmp_path / "set", "classification") == metadata
    records = read_split(tmp_path / "set")
    assert len(records) == 4
    assert [records.row(row).tolist() for row in range(4)] == [
        [1, 2, 3], [END_OF_TEXT, 5, END_OF_TEXT], [7] * 6, [8],
    ]  # fmt: skip
    assert records.tokens.tolist() == [1, 2, 3, END_OF_TEXT, 5, END_OF_TEXT, *[7] * 6, 8]
    assert records.offsets.tolist() == [0, 3, 6, 12, 13]
    assert records.lengths.tolist() == [3, 3, 6, 1]
    assert records.columns["label"].tolist() == [0, 1, 0, 1]
    assert records.tokens.dtype == records.columns["label"].dtype == np.int32
    assert records.offsets.dtype == records.lengths.dtype == np.int64
    assert records.row(0).dtype == np.int32


def test_many_rows_come_back_in_order(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(rng.integers(0, 50257, rng.integers(1, 7)).tolist(), 0) for _ in range(2500)]
    write(tmp_path / "set", {**ROWS, "train": rows})
    records = read_split(tmp_path / "set")
    assert [records.row(row).tolist() for row in range(2500)] == [ids for ids, _ in rows]


def test_record_is_a_padded_tf_train_example_with_its_length():
    message = tf.train.Example.FromString(
        serialized(Example([5, END_OF_TEXT], {"label": 1}), 4, ["label"])
    )
    found = {name: list(f.int64_list.value) for name, f in message.features.feature.items()}
    assert found == {"token_ids": [5, *[END_OF_TEXT] * 3], "length": [2], "label": [1]}


def test_record_has_the_same_bytes_whatever_the_order_of_its_columns():
    names = [f"column_{number}" for number in range(20)]
    extras = dict.fromkeys(names, 1)
    reverse = dict.fromkeys(reversed(names), 1)
    assert serialized(Example([5], extras), 2, names) == serialized(Example([5], reverse), 2, names)


@pytest.mark.parametrize("example", [([], {"label": 0}), ([1] * 5, {"label": 0}), ([1], {})])
def test_example_that_does_not_fit_the_set_is_a_defect(example):
    with pytest.raises(ValueError, match="not a row of this set"):
        serialized(Example(*example), 4, ["label"])


def test_exact_files_and_metadata_are_written(tmp_path):
    write(tmp_path / "set")
    assert listing(tmp_path) == ["set"]
    assert listing(tmp_path / "set") == FILES
    content = json.loads((tmp_path / "set" / "metadata.json").read_text())
    train = (tmp_path / "set" / "train.tfrecord.gz").read_bytes()
    assert next(iter(content)) == "schema_version"
    assert set(content) == {
        "schema_version", "task", "dataset", "tokenizer_sha256", "seq_len", "pad_token_id",
        "columns", "label_names", "template", "split_seed", "splits",
    }  # fmt: skip
    assert content["splits"]["train"] == {
        "origin": "given",
        "rows": 5,
        "files": [{"name": "train.tfrecord.gz", "sha256": hashlib.sha256(train).hexdigest()}],
        "examples": 4,
        "dropped": 1,
        "truncated": 0,
        "duplicates_within": 0,
        "duplicates_across": 0,
        "supervised_tokens": 0,
        "dropped_reasons": {"empty": 1},
        "tokens": 13,
        "lengths": {"p5": 1, "p25": 1, "p50": 3, "p75": 3, "p95": 6, "max": 6},
        "labels": {"no": 2, "yes": 2},
    }


def test_two_preparations_are_byte_identical(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    data = (tmp_path / "one" / "train.tfrecord.gz").read_bytes()
    assert data[:4] == b"\x1f\x8b\x08\x00"  # no name, comment or extra field
    assert data[4:8] == b"\x00" * 4  # no time


def test_examples_are_streamed_not_collected(tmp_path):
    alive = 0
    most = 0

    class Ids(list):
        def __init__(self, ids):
            nonlocal alive, most
            super().__init__(ids)
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

    rows = {split: (Example(Ids([1, 2]), {"label": 0}) for _ in range(500)) for split in ROWS}
    write_dataset(tmp_path / "set", header(), rows)
    assert most < 10


@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")]
)
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("split", ["train", "test"])
def test_failed_preparation_leaves_no_data_set_and_the_older_one_valid(
    failure, older, split, tmp_path, monkeypatch
):
    if older:
        write(tmp_path / "set", {**ROWS, "train": [([9, 9], 1)]})
    real = tfrecords.serialized

    def failing(example, *rest):
        if example.token_ids == ([7] * 6 if split == "train" else [0]):
            raise failure
        return real(example, *rest)

    monkeypatch.setattr(tfrecords, "serialized", failing)
    with pytest.raises(type(failure)):
        write(tmp_path / "set")
    assert listing(tmp_path) == (["set"] if older else [])
    if older:
        assert read_split(tmp_path / "set").tokens.tolist() == [9, 9]


def test_failure_while_metadata_is_written_leaves_no_data_set(tmp_path, monkeypatch):
    def failing(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "set")
    assert listing(tmp_path) == []


def test_tensorflows_own_write_error_becomes_an_os_error(tmp_path, monkeypatch):
    class Full:
        def __init__(self, *_):
            raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.io, "TFRecordWriter", Full)
    with pytest.raises(OSError, match=r"cannot write train.tfrecord.gz in .*: No space left"):
        write(tmp_path / "set")
    assert listing(tmp_path) == []


def test_older_data_set_is_valid_until_the_last_moment_then_replaced_whole(tmp_path):
    write(tmp_path / "set", {**ROWS, "train": [([9, 9], 1)]})

    def rows():
        yield Example([1], {"label": 0})
        assert read_split(tmp_path / "set").tokens.tolist() == [9, 9]
        yield Example([2], {"label": 0})

    given = {"train": rows(), "test": examples(ROWS["test"])}
    write_dataset(tmp_path / "set", header(), given)
    assert listing(tmp_path) == ["set"]
    assert listing(tmp_path / "set") == ["metadata.json", "test.tfrecord.gz", "train.tfrecord.gz"]
    assert read_split(tmp_path / "set").tokens.tolist() == [1, 2]


def test_data_set_goes_where_a_symbolic_link_points(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "set").symlink_to(tmp_path / "disk")
    write(tmp_path / "set")
    assert (tmp_path / "set").is_symlink()
    assert listing(tmp_path / "disk") == FILES


def test_split_of_which_no_row_is_left_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no row of validation holds any text"):
        write(tmp_path / "set", {**ROWS, "validation": [None, None]})
    assert listing(tmp_path) == []


def test_output_dir_may_be_new_empty_or_an_older_data_set_of_any_version(tmp_path):
    check_output_dir(tmp_path / "deep" / "new")
    assert listing(tmp_path) == []
    check_output_dir(tmp_path)
    write(tmp_path / "set")
    check_output_dir(tmp_path / "set")
    alter_metadata(tmp_path / "set", lambda content: content.update(schema_version=0, more=1))
    check_output_dir(tmp_path / "set")


@pytest.mark.parametrize("name", ["notes.txt", "metadata.json"])
def test_output_dir_with_foreign_files_is_refused_and_untouched(name, tmp_path):
    (tmp_path / name).write_text('{"mine": true}')
    with pytest.raises(UserError, match="holds files that are not a prepared data set"):
        check_output_dir(tmp_path)
    with pytest.raises(UserError, match="holds files that are not a prepared data set"):
        write(tmp_path)
    assert listing(tmp_path) == [name]


def test_foreign_file_beside_a_data_set_is_refused(tmp_path):
    write(tmp_path / "set")
    (tmp_path / "set" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files that are not"):
        check_output_dir(tmp_path / "set")


def test_output_dir_that_is_or_lies_under_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        check_output_dir(tmp_path / "file")
    with pytest.raises(UserError, match="cannot write to"):
        check_output_dir(tmp_path / "file" / "set")


def test_output_dir_whose_parent_is_not_writable_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UserError, match=f"cannot write to {tmp_path}: give another --output_dir"):
        check_output_dir(tmp_path / "deep" / "set")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(schema_version=0), "schema_version 0, not 1"),
        (lambda c: c.update(task="entailment"), "task 'entailment', not 'classification'"),
        (lambda c: c.update(tokenizer_sha256="0"), "tokenizer_sha256 '0', not '1ce16"),
        (lambda c: c.update(pad_token_id=0), "pad_token_id 0, not 50256"),
        (lambda c: c.pop("schema_version"), "was not written by gpt2-tuning"),
        (lambda c: c.pop("splits"), "was not written by gpt2-tuning"),
        (lambda c: c.pop("seq_len"), "incomplete or altered"),
        (lambda c: c.update(more=1), "incomplete or altered"),
        (lambda c: c["splits"]["train"]["files"][0].update(name="../x"), "incomplete or altered"),
    ],
)
def test_foreign_or_old_metadata_is_one_clear_line_with_the_command(change, message, tmp_path):
    write(tmp_path / "set")
    alter_metadata(tmp_path / "set", change)
    with pytest.raises(UserError, match=message) as error:
        read_metadata(tmp_path / "set", "classification")
    assert "python classification_tuning/prep_dataset.py" in str(error.value)


def test_directory_without_usable_metadata_is_not_a_data_set(tmp_path):
    with pytest.raises(UserError, match="no such directory"):
        read_metadata(tmp_path / "none", "classification")
    with pytest.raises(UserError, match="is not a prepared data set"):
        read_metadata(tmp_path, "classification")
    for content in ("", "{", "[]", "\udcff"):
        (tmp_path / "metadata.json").write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(UserError, match="was not written by gpt2-tuning"):
            read_metadata(tmp_path, "classification")


def test_record_file_whose_sha256_differs_is_named(tmp_path):
    write(tmp_path / "set")
    file = tmp_path / "set" / "train.tfrecord.gz"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(
        UserError, match=r"train\.tfrecord\.gz was changed or damaged.*prep_dataset"
    ):
        read_split(tmp_path / "set")
    file.unlink()
    with pytest.raises(UserError, match=r"train\.tfrecord\.gz is missing"):
        read_split(tmp_path / "set")


def test_split_that_is_not_there_is_named(tmp_path):
    write(tmp_path / "set")
    with pytest.raises(UserError, match="has no holdout split"):
        read_split(tmp_path / "set", "holdout")


def cut_short(data):
    return data[: len(data) // 2]


def cut_between_records(data):
    return gzip.compress(gzip.decompress(data)[: len(gzip.decompress(data)) // 4])


def flip_a_bit(data):
    plain = bytearray(gzip.decompress(data))
    plain[30] ^= 1
    return gzip.compress(bytes(plain))


@pytest.mark.parametrize("damage", [cut_short, cut_between_records, flip_a_bit, lambda data: b"x"])
def test_damaged_record_file_is_named_even_when_its_sha256_fits(damage, tmp_path):
    write(tmp_path / "set")
    file = tmp_path / "set" / "train.tfrecord.gz"
    file.write_bytes(damage(file.read_bytes()))
    alter_metadata(tmp_path / "set", lambda content: None)
    with pytest.raises(UserError, match=r"train\.tfrecord\.gz"):
        read_split(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["splits"]["train"].update(examples=5), "does not hold the 5 examples"),
        (lambda c: c.update(seq_len=5), r"train\.tfrecord\.gz is damaged"),
        (lambda c: c.update(columns=["prompt_length"]), r"train\.tfrecord\.gz is damaged"),
    ],
)
def test_records_that_disagree_with_the_metadata_are_refused(change, message, tmp_path):
    write(tmp_path / "set")
    alter_metadata(tmp_path / "set", change)
    with pytest.raises(UserError, match=message):
        read_split(tmp_path / "set")


@pytest.mark.parametrize(
    ("ids", "length", "message"),
    [([1, 2], 0, "length is outside"), ([1, 2], 7, "length is outside"), ([50257], 1, "token id")],
)
def test_impossible_values_are_refused(ids, length, message, tmp_path, monkeypatch):
    real = tfrecords.serialized

    def wrong(example, *rest):
        record = tf.train.Example.FromString(real(example, *rest))
        record.features.feature["token_ids"].int64_list.value[: len(ids)] = ids
        record.features.feature["length"].int64_list.value[:] = [length]
        return record.SerializeToString()

    monkeypatch.setattr(tfrecords, "serialized", wrong)
    write(tmp_path / "set")
    with pytest.raises(UserError, match=message):
        read_split(tmp_path / "set")


def test_metadata_survives_being_copied_to_a_run_directory(tmp_path):
    metadata = write(tmp_path / "set", label_names=["nein", "jä"])
    (tmp_path / "run").mkdir()
    text = (tmp_path / "set" / "metadata.json").read_text(encoding="utf-8")
    (tmp_path / "run" / "metadata.json").write_text(text, encoding="utf-8")
    assert read_metadata(tmp_path / "run", "classification") == metadata

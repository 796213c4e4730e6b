import gzip
import hashlib
import json

import numpy as np
import pytest
import tensorflow as tf
from prepared_sets import ROWS, read_split, write

from gpt2_tuning.config import END_OF_TEXT
from gpt2_tuning.data import writing
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.data.wire import serialized
from gpt2_tuning.errors import UserError


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
    def wrong(examples, *rest):
        records = []
        for record in map(tf.train.Example.FromString, serialized(examples, *rest)):
            record.features.feature["token_ids"].int64_list.value[: len(ids)] = ids
            record.features.feature["length"].int64_list.value[:] = [length]
            records.append(record.SerializeToString())
        return records

    monkeypatch.setattr(writing, "serialized", wrong)
    write(tmp_path / "set")
    with pytest.raises(UserError, match=message):
        read_split(tmp_path / "set")


def test_metadata_survives_being_copied_to_a_run_directory(tmp_path):
    metadata = write(tmp_path / "set", label_names=["nein", "jä"])
    (tmp_path / "run").mkdir()
    text = (tmp_path / "set" / "metadata.json").read_text(encoding="utf-8")
    (tmp_path / "run" / "metadata.json").write_text(text, encoding="utf-8")
    assert read_metadata(tmp_path / "run", "classification") == metadata

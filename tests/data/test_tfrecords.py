import gzip
import hashlib
import json

import numpy as np
import pytest
import tensorflow as tf
from prepared_sets import ROWS, header, read_split, write

from gpt2_tuning.data import tfrecords, writing
from gpt2_tuning.data.examples import Example
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.data.wire import serialized
from gpt2_tuning.data.writing import write_dataset
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import END_OF_TEXT


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


def as_language_data(content):
    content.update(columns=["prompt_length"], label_names=None)
    for split in content["splits"].values():
        del split["labels"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["splits"]["train"].update(examples=5), "does not hold the 5 examples"),
        (lambda c: c.update(seq_len=5), r"train\.tfrecord\.gz is damaged"),
        (as_language_data, r"train\.tfrecord\.gz is damaged"),
    ],
)
def test_records_that_disagree_with_the_metadata_are_refused(change, message, tmp_path):
    write(tmp_path / "set")
    alter_metadata(tmp_path / "set", change)
    with pytest.raises(UserError, match=message):
        read_split(tmp_path / "set")


def write_wrong(directory, monkeypatch, row=0, ids=(), rows=ROWS, **values):
    """A data set whose train split has other token ids or values in one row."""

    def wrong(examples, *rest):
        records = list(map(tf.train.Example.FromString, serialized(examples, *rest)))
        if len(records) == 4:
            features = records[row].features.feature
            features["token_ids"].int64_list.value[: len(ids)] = ids
            for name, value in values.items():
                features[name].int64_list.value[:] = [value]
        return [record.SerializeToString() for record in records]

    monkeypatch.setattr(writing, "serialized", wrong)
    write(directory, rows)


@pytest.mark.parametrize(
    ("row", "ids", "values", "message"),
    [
        (0, [], {"length": 0}, r"row 1 has the length 0, outside 1\.\.6"),
        (1, [], {"length": 7}, r"row 2 has the length 7, outside 1\.\.6"),
        (3, [], {"length": 2**32 + 1}, r"row 4 has the length 4294967297, outside 1\.\.6"),
        (2, [1, 50257], {}, r"row 3 has the token id 50257, outside 0\.\.50256"),
        (2, [-1], {}, r"row 3 has the token id -1, outside"),
        (3, [2**32], {}, r"row 4 has the token id 4294967296, outside"),
        (1, [], {"label": 2}, r"row 2 has the label 2, outside 0\.\.1"),
        (1, [], {"label": -1}, r"row 2 has the label -1, outside 0\.\.1"),
        (3, [], {"label": 2**32}, r"row 4 has the label 4294967296, outside 0\.\.1"),
    ],
)
def test_impossible_values_are_refused_with_their_row(
    row, ids, values, message, tmp_path, monkeypatch
):
    write_wrong(tmp_path / "set", monkeypatch, row, ids, **values)
    with pytest.raises(
        UserError, match=rf"train\.tfrecord\.gz is damaged: {message}.*prep_dataset"
    ):
        read_split(tmp_path / "set")


def test_row_of_an_impossible_value_is_counted_through_all_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecords, "READ_BATCH", 3)
    write_wrong(tmp_path / "set", monkeypatch, 3, label=5)
    with pytest.raises(UserError, match="row 4 has the label 5"):
        read_split(tmp_path / "set")


@pytest.mark.parametrize("prompt_length", [0, 3])
def test_prompt_leaves_a_token_to_learn(prompt_length, tmp_path):
    fields = {"task": "text", "columns": ["prompt_length"], "label_names": None}
    rows = [Example([1, 2, 3], {"prompt_length": 2}), Example([1, 2], {"prompt_length": 1})]
    directory = tmp_path / "set"
    write_dataset(directory, header(**fields), {"train": rows})
    found = read_records(directory, read_metadata(directory, "text"), "train")
    assert found.columns["prompt_length"].tolist() == [2, 1]
    rows.append(Example([4, 5, 6], {"prompt_length": prompt_length}))
    write_dataset(directory, header(**fields), {"train": rows})
    message = rf"row 3 has the prompt_length {prompt_length}, outside 1\.\.2: .*text_tuning/prep"
    with pytest.raises(UserError, match=message):
        read_records(directory, read_metadata(directory, "text"), "train")


def test_class_that_the_names_leave_out_is_refused_at_load(tmp_path):
    write(
        tmp_path / "set", label_names=["no", "perhaps", "yes"], rows={**ROWS, "train": [([1], 2)]}
    )

    def shorten(content):
        content["label_names"].remove("yes")
        for split in content["splits"].values():
            del split["labels"]["yes"]

    alter_metadata(tmp_path / "set", shorten)
    with pytest.raises(UserError, match=r"row 1 has the label 2, outside 0\.\.1"):
        read_split(tmp_path / "set")


def test_metadata_survives_being_copied_to_a_run_directory(tmp_path):
    metadata = write(tmp_path / "set", label_names=["nein", "jä"])
    (tmp_path / "run").mkdir()
    text = (tmp_path / "set" / "metadata.json").read_text(encoding="utf-8")
    (tmp_path / "run" / "metadata.json").write_text(text, encoding="utf-8")
    assert read_metadata(tmp_path / "run", "classification") == metadata


def test_of_a_long_split_no_more_is_read_than_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecords, "READ_BATCH", 2)
    write(tmp_path / "set")
    metadata = read_metadata(tmp_path / "set", "classification")
    whole = read_records(tmp_path / "set", metadata, "train")
    for most, read in ((1, 2), (2, 2), (3, 4), (9, 4)):
        found = read_records(tmp_path / "set", metadata, "train", most=most)
        assert len(found) == read
        assert all((found.row(i) == whole.row(i)).all() for i in range(read))

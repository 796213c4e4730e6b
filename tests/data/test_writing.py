import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
import tensorflow as tf
from prepared_sets import FILES, ROWS, examples, header, listing, read_split, write

from gpt2_tuning.data import writing
from gpt2_tuning.data.examples import Example
from gpt2_tuning.data.wire import serialized
from gpt2_tuning.data.writing import check_output_dir, write_dataset
from gpt2_tuning.errors import UserError


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


def test_examples_are_streamed_not_collected(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "BATCH", 4)
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

    def failing(examples, *rest):
        if ([7] * 6 if split == "train" else [0]) in [example.token_ids for example in examples]:
            raise failure
        return serialized(examples, *rest)

    monkeypatch.setattr(writing, "serialized", failing)
    with pytest.raises(type(failure)):
        write(tmp_path / "set")
    assert listing(tmp_path) == (["set"] if older else [])
    if older:
        assert read_split(tmp_path / "set").tokens.tolist() == [9, 9]


def test_failure_while_metadata_is_written_leaves_no_data_set(tmp_path, monkeypatch):
    def failing(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", failing)
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
    file = tmp_path / "set" / "metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 0, "more": 1}))
    check_output_dir(tmp_path / "set")


FOREIGN = "is not a prepared data set and nothing else, as it holds"


@pytest.mark.parametrize("name", ["notes.txt", "metadata.json"])
def test_output_dir_with_foreign_files_is_refused_and_untouched(name, tmp_path):
    (tmp_path / name).write_text('{"mine": true}')
    with pytest.raises(UserError, match=f"{FOREIGN} {name}"):
        check_output_dir(tmp_path)
    with pytest.raises(UserError, match=f"{FOREIGN} {name}"):
        write(tmp_path)
    assert listing(tmp_path) == [name]


def test_metadata_does_not_say_what_may_be_removed(tmp_path):
    """Whoever wrote it: only files of our names that it lists are ours."""
    write(tmp_path / "set")
    file = tmp_path / "set" / "metadata.json"
    content = json.loads(file.read_text())
    content["splits"]["train"]["files"].append({"name": "notes.txt", "sha256": ""})
    file.write_text(json.dumps(content))
    (tmp_path / "set" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=f"{FOREIGN} notes.txt"):
        write(tmp_path / "set")
    (tmp_path / "set" / "notes.txt").unlink()
    del content["splits"]["test"]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{FOREIGN} test.tfrecord.gz"):
        write(tmp_path / "set")
    assert listing(tmp_path / "set") == FILES


def test_foreign_file_beside_a_data_set_is_refused(tmp_path):
    write(tmp_path / "set")
    (tmp_path / "set" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=f"{FOREIGN} notes.txt"):
        check_output_dir(tmp_path / "set")


def test_foreign_file_that_came_while_a_data_set_was_written_stays(tmp_path):
    write(tmp_path / "set")
    before = (tmp_path / "set" / "metadata.json").read_bytes()

    def late():
        (tmp_path / "set" / "notes.txt").write_text("mine")
        yield from examples(ROWS["test"])

    rows = {"train": examples(ROWS["train"]), "validation": examples(ROWS["validation"])}
    with pytest.raises(UserError, match=r"set holds notes\.txt, which would be removed"):
        write_dataset(tmp_path / "set", header(seq_len=8), {**rows, "test": late()})
    assert listing(tmp_path) == ["set"]
    assert listing(tmp_path / "set") == sorted([*FILES, "notes.txt"])
    assert (tmp_path / "set" / "metadata.json").read_bytes() == before


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

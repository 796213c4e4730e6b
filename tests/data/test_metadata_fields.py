"""A metadata.json that was altered by hand is refused by its field, never with a traceback."""

import json

import pytest
from prepared_sets import read_split, write

from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.errors import UserError

ANYTHING: list = [
    None,
    True,
    0,
    -1,
    1.5,
    "x",
    "",
    [],
    ["x"],
    [1],
    [[]],
    {},
    {"x": 1},
    {"name": None},
]
"""A value of each kind that JSON has."""


def altered(directory, *path, value):
    """Puts a value into metadata.json, at the end of a path of keys."""
    file = directory / "metadata.json"
    content = json.loads(file.read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(content))


def refusal(directory):
    with pytest.raises(UserError) as error:
        read_metadata(directory, "classification")
    assert "\n" not in str(error.value)
    assert "python classification_tuning/prep_dataset.py" in str(error.value)
    return str(error.value)


def said(directory):
    """What is said of a data set that cannot be read; nothing where it can."""
    try:
        read_split(directory)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["dataset"], "rows", "dataset must be texts, with a name, a source and a fingerprint"),
        (["dataset"], {"name": "a", "source": "b"}, "dataset must be texts, with a name"),
        (["dataset", "name"], 5, "dataset must be texts, with a name"),
        (["seq_len"], "6", "seq_len must be a whole number from 1 to 1048576, not '6'"),
        (["seq_len"], 0, "seq_len must be a whole number from 1 to 1048576, not 0"),
        (["seq_len"], 1048577, "seq_len must be a whole number from 1 to 1048576, not 1048577"),
        (["seq_len"], True, "seq_len must be a whole number from 1 to 1048576, not True"),
        (["columns"], "label", "columns must be ['label'] or ['prompt_length'] or ['prompt_l"),
        (["columns"], ["label", "other"], "columns must be ['label'] or ['prompt_length']"),
        (["columns"], ["prompt_length"], "label_names must be what goes with the columns ['prom"),
        (["label_names"], None, "label_names must be what goes with the columns ['label'], not No"),
        (["label_names"], ["no"], "label_names must be null or a list of two or more different n"),
        (["label_names"], ["no", "no"], "label_names must be null or a list of two or more diffe"),
        (["label_names"], ["no", " "], "label_names must be null or a list of two or more differ"),
        (["label_names"], ["no", 1], "label_names must be null or a list of two or more different"),
        (["label_names"], "no", "label_names must be null or a list of two or more different name"),
        (["label_names"], ["no", "yes", "x"], "splits.train.labels must be a number for each of "),
        (["label_names"], ["no", "ja"], "splits.train.labels must be a number for each of no, ja"),
        (["template"], "x", "template must be null or texts, with a name and a text, not 'x'"),
        (["template"], {"name": "x"}, "template must be null or texts, with a name and a text"),
        (["split_seed"], "0", "split_seed must be a whole number, not '0'"),
        (["splits", "test", "examples"], "1", "splits.test.examples must be a whole number, 1 or"),
        (["splits", "test", "examples"], 0, "splits.test.examples must be a whole number, 1 or m"),
        (["splits", "test", "dropped"], None, "splits.test.dropped must be a whole number, 0 or"),
        (["splits", "test", "files"], [], "splits.test.files must be a list of one file or more"),
        (["splits", "test", "files", 0, "sha256"], 1, "splits.test.files must be a list of one fi"),
        (["splits", "test", "labels"], {"no": 1}, "splits.test.labels must be a number for each"),
        (["splits", "test", "labels", "no"], "1", "splits.test.labels.no must be a whole number"),
    ],
)
def test_field_with_what_it_cannot_hold_is_named(path, value, message, tmp_path):
    write(tmp_path / "set")
    altered(tmp_path / "set", *path, value=value)
    assert message in refusal(tmp_path / "set")


def test_labels_without_classes_are_refused(tmp_path):
    write(tmp_path / "set")
    altered(tmp_path / "set", "columns", value=["prompt_length"])
    altered(tmp_path / "set", "label_names", value=None)
    assert "splits.train.labels must be left out without classes" in refusal(tmp_path / "set")


@pytest.mark.parametrize(
    "path",
    [
        *[
            [field]
            for field in (
                "schema_version", "task", "dataset", "tokenizer_sha256", "seq_len", "columns",
                "label_names", "template", "split_seed", "splits", "pad_token_id",
            )
        ],
        ["splits", "train"],
        *[["splits", "train", name] for name in ("files", "examples", "labels", "tokens")],
        ["splits", "train", "files", 0],
        ["splits", "train", "files", 0, "name"],
        ["dataset", "fingerprint"],
    ],
    ids=lambda path: ".".join(map(str, path)),
)  # fmt: skip
def test_no_value_of_any_kind_ends_in_a_traceback(path, tmp_path):
    write(tmp_path / "set")
    file = tmp_path / "set" / "metadata.json"
    text = file.read_text()
    for value in ANYTHING:
        altered(tmp_path / "set", *path, value=value)
        assert "\n" not in said(tmp_path / "set")
        file.write_text(text)

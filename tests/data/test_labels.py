import pyarrow as pa
import pytest

from gpt2_tuning.data.labels import read_labels
from gpt2_tuning.data.rows import Rows
from gpt2_tuning.errors import UserError


def splits_of(class_names=None, **labels):
    named = {"label": class_names} if class_names else {}
    return {split: Rows(pa.table({"label": values}), named) for split, values in labels.items()}


def names_and_labels(splits):
    names, labels = read_labels(splits, "label")
    return names, {split: values.tolist() for split, values in labels.items()}


def test_strings_are_sorted():
    splits = splits_of(train=["joy", "anger", "joy"], test=["anger"])
    assert names_and_labels(splits) == (["anger", "joy"], {"train": [1, 0, 1], "test": [0]})


def test_integers_become_names_in_numeric_order():
    names, labels = names_and_labels(splits_of(train=[10, 2, -1, 2], test=[10]))
    assert names == ["-1", "2", "10"]
    assert labels == {"train": [2, 1, 0, 1], "test": [2]}


def test_booleans_are_false_and_true():
    assert names_and_labels(splits_of(train=[True, False])) == (
        ["false", "true"],
        {"train": [1, 0]},
    )


def test_class_labels_keep_their_names_and_order():
    assert names_and_labels(splits_of(["z", "a", "m"], train=[2, 0])) == (
        ["z", "a", "m"],
        {"train": [2, 0]},
    )


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (splits_of(train=[0.5, 1.0]), "'label' of train holds float64: labels must be names or i"),
        (splits_of(train=[["a"], ["b"]]), "'label' of train holds lists: labels must be"),
        (splits_of(train=["a", None]), "row 2 of train has no label"),
        (splits_of(train=["a"], test=["a", None]), "row 2 of test has no label"),
        (splits_of(train=[None]), "row 1 of train has no label"),
        (splits_of(["a"], train=[0, -1, None]), "row 2 of train has no label .* holds -1"),
        (splits_of(["a"], train=[0, None, -1]), r"row 2 of train has no label \(column 'label'\)"),
        (splits_of(["a"], train=[0, -1]), "row 2 of train has no label"),
        (
            splits_of(train=["b", "a"], validation=["a", "a", "c"]),
            "label 'c' in row 3 of validation does not occur in train, which has a, b",
        ),
        (splits_of(train=["a"], test=["a", "d", "c"]), "label 'd' in row 2 of test"),
    ],
)
def test_label_that_cannot_be_used_is_one_clear_line(splits, message):
    with pytest.raises(UserError, match=message):
        read_labels(splits, "label")


def test_minus_one_is_a_class_unless_the_task_says_otherwise():
    splits = splits_of(train=[0, -1, 1])
    assert names_and_labels(splits)[0] == ["-1", "0", "1"]
    with pytest.raises(UserError, match=r"row 2 of train has no label .* holds -1"):
        read_labels(splits, "label", signed=False)

import numpy as np
import pyarrow as pa
import pytest

from gpt2_tuning.data.labels import read_labels, shown_name
from gpt2_tuning.data.rows import Rows
from gpt2_tuning.errors import UserError


def splits_of(class_names=None, **labels):
    named = {"label": class_names} if class_names else {}
    return {split: Rows(pa.table({"label": values}), named) for split, values in labels.items()}


def names_and_labels(splits):
    labels = read_labels(splits, "label")
    return labels.names, {split: values.tolist() for split, values in labels.numbers.items()}


def cells(*values):
    """The label column of a CSV file."""
    return {"train": Rows(pa.table({"label": list(values)}), untyped=True)}


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
        (
            splits_of(train=[1.0, 0.5]),
            "'label' of train holds 0.5 in row 2: labels must be names or integers",
        ),
        (
            splits_of(train=[1.0, float("inf")]),
            "'label' of train holds inf in row 2: labels must be names or integers",
        ),
        (splits_of(train=pa.array([1, 2], pa.decimal128(3))), "holds decimal128.*: labels must be"),
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
        (splits_of(train=["a b", "c"], test=["d"]), 'which has "a b", c'),
        (splits_of(train=["a", "a "]), "all rows of train have the label 'a' .* two classes or"),
        (splits_of(["x"], train=[0]), "all rows of train have the label 'x'"),
        (splits_of(["x", "y"], train=[0, 2]), "holds 2 in row 2, but .* names 2 classes, 0 to 1"),
        (splits_of(["x", "y"], train=[0, -2]), "holds -2 in row 2, but"),
        (splits_of(["x", "y", "x "], train=[0]), "classes 'x' and 'x ' are one but for blanks"),
        (splits_of(["x", " "], train=[0]), "gives a class the name ' '"),
        (cells("1", "2.5"), "'label' of train holds 2.5 in row 2: labels must be names or integ"),
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


@pytest.mark.parametrize("missing", ["", "  ", "nan", "NaN", " NAN ", None])
@pytest.mark.parametrize("others", [["good", "bad"], ["0", "1"], ["1.0", "0.0"], ["true", "no"]])
@pytest.mark.parametrize("untyped", [False, True])
def test_text_that_says_there_is_no_label_is_no_class(missing, others, untyped):
    splits = {"train": Rows(pa.table({"label": [*others, missing]}), untyped=untyped)}
    shown = rf" holds {missing!r}" if missing and missing.strip() else ""
    with pytest.raises(
        UserError, match=rf"row 3 of train has no label \(column 'label'{shown}\): "
    ):
        read_labels(splits, "label")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_not_a_number_is_no_label(kind):
    splits = splits_of(train=np.array([0.0, 1.0, float("nan")], kind))
    with pytest.raises(
        UserError, match=r"row 3 of train has no label \(column 'label' holds nan\)"
    ):
        read_labels(splits, "label")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_whole_floats_are_the_integers_they_mean(kind):
    splits = splits_of(train=np.array([10.0, 2.0, -1.0, -0.0], kind), test=pa.array([2]))
    assert names_and_labels(splits) == (
        ["-1", "0", "2", "10"],
        {"train": [3, 2, 0, 1], "test": [2]},
    )
    with pytest.raises(UserError, match=r"row 3 of train has no label .* holds -1\)"):
        read_labels(splits, "label", signed=False)


def test_blanks_around_strings_are_cut_and_the_rows_marked():
    splits = splits_of(train=["good", "good ", "\tbad", "very good", "bad"], test=[" good"])
    assert names_and_labels(splits) == (
        ["bad", "good", "very good"],
        {"train": [1, 1, 0, 2, 0], "test": [1]},
    )
    trimmed = read_labels(splits, "label").trimmed
    assert trimmed["train"].tolist() == [False, True, True, False, False]
    assert trimmed["test"].tolist() == [True]
    assert not read_labels(splits_of(train=[1, 0]), "label").trimmed["train"].any()


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (["1", "-2", "10"], ["-2", "1", "10"]),
        ([" 1", "-2 ", "10"], ["-2", "1", "10"]),
        (["1.0", "2", "10."], ["1", "2", "10"]),
        (["True", "false", "TRUE"], ["false", "true"]),
        (["1", "x", "10"], ["1", "10", "x"]),
        (["1.0", "x", "1"], ["1", "1.0", "x"]),
        (["01", "02", "03"], ["01", "02", "03"]),
        (["inf", "1", "10"], ["1", "10", "inf"]),
    ],
)
def test_labels_of_a_format_without_types_get_the_one_type_that_fits_all(written, names):
    assert read_labels(cells(*written), "label").names == names


def test_strings_of_a_format_with_types_stay_strings():
    assert read_labels(splits_of(train=["10", "9", "1.0"]), "label").names == ["1.0", "10", "9"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("joy", "joy"),
        ("not_entailment", "not_entailment"),
        ("très", "très"),
        ("very good", '"very good"'),
        (" x", '" x"'),
        ("x\u00a0", '"x\u00a0"'),
        ("a\nb", r'"a\nb"'),
    ],
)
def test_class_names_with_blanks_are_shown_in_quotes(name, shown):
    assert shown_name(name) == shown


def test_blanks_around_names_that_the_data_set_gives_are_cut_and_the_rows_marked():
    labels = read_labels(splits_of([" neg", "pos"], train=[0, 1, 0]), "label")
    assert labels.names == ["neg", "pos"]
    assert labels.numbers["train"].tolist() == [0, 1, 0]
    assert labels.trimmed["train"].tolist() == [True, False, True]


def test_floats_too_large_to_be_whole_for_certain_are_no_classes():
    with pytest.raises(
        UserError, match=r"holds 1e\+300 in row 2: labels must be names or integers"
    ):
        read_labels(splits_of(train=[1.0, 1e300]), "label")

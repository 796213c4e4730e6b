import numpy as np
import pyarrow as pa
import pytest

from gpt2_tuning.data.rows import Rows


def numbered(count):
    return Rows.of(text=[f"t{row}" for row in range(count)], n=list(range(count)))


def test_columns_come_back_as_they_were_given():
    rows = Rows.of(text=["a", None, ""], n=[1, 2, None])
    assert len(rows) == 3
    assert rows.column_names == ["text", "n"]
    assert (rows["text"], rows["n"]) == (["a", None, ""], [1, 2, None])


@pytest.mark.parametrize("size", [1, 3, 4, 100])
@pytest.mark.parametrize("numbers", [None, [0], [9], [0, 1, 2, 3], [1, 4, 5, 8, 9]])
def test_batches_are_the_rows_in_order_whatever_their_size(numbers, size):
    rows = numbered(10) if numbers is None else numbered(10).select(numbers)
    batches = list(rows.batches(size=size))
    found = [pair for batch in batches for pair in zip(batch["text"], batch["n"], strict=True)]
    assert found == [(f"t{row}", row) for row in (range(10) if numbers is None else numbers)]
    assert all(len(batch["n"]) == size for batch in batches[:-1])


def test_batches_hold_the_columns_asked_for():
    assert list(next(numbered(3).batches(["n"]))) == ["n"]


def test_rows_of_several_chunks_are_selected_by_their_numbers():
    table = pa.concat_tables([numbered(4).table, numbered(4).table])
    assert Rows(table).select([3, 4, 7])["n"] == [3, 0, 3]


def test_selection_of_a_selection_counts_within_it():
    some = numbered(10).select([1, 3, 5, 7])
    assert len(some) == 4
    assert some.select([0, 3])["n"] == [1, 7]
    assert numbered(3).select([])["n"] == []


@pytest.mark.parametrize("numbers", [[2, 1], [1, 1]])
def test_rows_cannot_be_repeated_or_reordered(numbers):
    with pytest.raises(ValueError, match="in their order"):
        numbered(3).select(numbers)


def test_column_that_is_replaced_has_the_new_class_names_alone():
    rows = numbered(2).with_column("n", [1, 0], ["no", "yes"])
    assert (rows["n"], rows.class_names) == ([1, 0], {"n": ["no", "yes"]})
    assert rows.with_column("n", ["x", "y"]).class_names == {}
    assert rows.select([1]).class_names == rows.class_names
    with pytest.raises(ValueError, match="all rows of a table"):
        rows.select([1]).with_column("n", [1])


def test_renamed_column_keeps_its_values():
    assert numbered(2).renamed("text", "body")["body"] == ["t0", "t1"]


def test_rows_that_hold_a_text_are_found_in_any_of_the_columns():
    rows = Rows.of(
        a=["x.y", None, "", "xzy"], b=[None, "x.y", "", "b"], c=[None] * 4, d=["x.y"] * 4
    )
    assert rows.holding("x.y", ["a", "b", "c"]).tolist() == [True, True, False, False]
    assert rows.select([1, 3]).holding("x.y", ["a", "b"]).tolist() == [True, False]


def test_values_for_the_table_are_cut_down_to_the_chosen_rows():
    values = np.arange(10)
    assert numbered(10).own(values).tolist() == list(range(10))
    assert numbered(10).select([2, 5, 7]).select([1, 2]).own(values).tolist() == [5, 7]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a"], "string"),
        (pa.array(["a"], pa.large_string()), "large_string"),
        ([1], "int64"),
        ([0.5], "float64"),
        ([True], "bool"),
        ([None], "null"),
        ([["a"]], "lists"),
        ([{"a": 1}], "lists"),
    ],
)
def test_kind_is_the_type_that_people_know(values, kind):
    assert Rows.of(column=values).kind("column") == kind

import collections

import pytest

from gpt2_tuning.data.rows import Rows
from gpt2_tuning.data.splits import cut_rows, fingerprint, limited_rows, mixed_order, row_digests
from gpt2_tuning.errors import UserError

BOTH = ["validation", "test"]


def texts(count):
    return [f"text {row}".encode() for row in range(count)]


def test_cut_gives_every_row_to_one_split_and_a_tenth_to_each_missing_one():
    parts = cut_rows(texts(200), None, BOTH, seed=0)
    assert list(parts) == ["train", "validation", "test"]
    assert [len(part) for part in parts.values()] == [160, 20, 20]
    assert sorted(row for part in parts.values() for row in part) == list(range(200))
    assert all(part == sorted(part) for part in parts.values())


def test_cut_is_the_same_for_the_same_seed_only():
    assert cut_rows(texts(200), None, BOTH, seed=1) == cut_rows(texts(200), None, BOTH, seed=1)
    assert cut_rows(texts(200), None, BOTH, seed=1) != cut_rows(texts(200), None, BOTH, seed=2)


def test_cut_depends_on_content_not_on_the_order_of_rows():
    rows = texts(50)
    forward = {rows[row] for row in cut_rows(rows, None, ["test"], seed=0)["test"]}
    backward = {rows[::-1][row] for row in cut_rows(rows[::-1], None, ["test"], seed=0)["test"]}
    assert forward == backward


def test_cut_keeps_the_proportion_of_labels():
    labels = [0] * 700 + [1] * 200 + [2] * 100
    parts = cut_rows(texts(1000), labels, BOTH, seed=0)
    for split in BOTH:
        assert collections.Counter(labels[row] for row in parts[split]) == {0: 70, 1: 20, 2: 10}


def test_cut_never_puts_the_same_text_on_both_sides():
    rows = [f"text {row % 60}".encode() for row in range(200)]
    labels = [row % 7 for row in range(200)]  # the same text with several labels
    parts = cut_rows(rows, labels, BOTH, seed=0)
    sides = [{rows[row] for row in part} for part in parts.values()]
    assert all(sides)
    assert sum(map(len, sides)) == 60


def test_cut_leaves_train_a_row_of_every_label_when_it_can():
    for seed in range(20):
        parts = cut_rows(texts(4), [0, 0, 0, 1], BOTH, seed=seed)
        assert {(0 if row < 3 else 1) for row in parts["train"]} == {0, 1}


@pytest.mark.parametrize("count", range(3, 25))
def test_tiny_sets_have_at_least_one_row_in_each_split(count):
    for labels in (None, [row % 3 for row in range(count)]):
        parts = cut_rows(texts(count), labels, BOTH, seed=0)
        assert sum(map(len, parts.values())) == count
        assert min(map(len, parts.values())) >= 1


def test_set_of_few_texts_repeated_often_is_cut_between_texts():
    parts = cut_rows([b"a"] * 50 + [b"b"] * 30 + [b"c"] * 20, None, BOTH, seed=0)
    assert [len(part) for part in parts.values()] == [50, 20, 30]


@pytest.mark.parametrize("rows", [texts(2), [b"a", b"a", b"b"]])
def test_too_few_different_rows_are_a_user_error(rows):
    with pytest.raises(UserError, match="train has 2 different rows"):
        cut_rows(rows, None, BOTH, seed=0)


def test_mixed_order_spreads_labels_and_keeps_equal_texts_together():
    order = mixed_order([b"a", b"b", b"a", b"c", b"d"], [0, 0, 0, 1, 1], seed=0)
    assert sorted(map(sorted, order)) == [[0, 2], [1], [3], [4]]
    first_labels = [0 if group[0] < 3 else 1 for group in order]
    assert set(first_labels[:2]) == {0, 1}


def test_limit_takes_that_many_rows_over_all_labels():
    labels = [0] * 50 + [1] * 50  # sorted, as files often are
    rows = limited_rows(texts(100), labels, 10, seed=0)
    assert len(set(rows)) == 10
    assert sum(labels[row] for row in rows) == 5
    assert rows == limited_rows(texts(100), labels, 10, seed=0)
    assert rows == sorted(rows)


def test_digest_tells_columns_apart_and_takes_missing_for_empty():
    rows = Rows.of(a=["x", "xy", None, ""], b=["yz", "z", "", None])
    digests = row_digests(rows, ["a", "b"])
    assert digests[0] != digests[1]
    assert digests[2] == digests[3]


def splits_of(texts, labels, **more):
    return {"train": Rows.of(text=texts, label=labels, **more)}


def test_fingerprint_follows_from_the_used_content_only():
    reference = fingerprint(splits_of(["a", "b"], [0, 1]), ["text", "label"], ["no", "yes"])
    same = splits_of(["a", "b"], [1, 0], other=["p", "q"])
    assert fingerprint(same, ["text", "label"], ["yes", "no"]) == reference
    for texts_, labels in ((["a", "c"], [0, 1]), (["b", "a"], [0, 1]), (["a", "b"], [1, 1])):
        changed = splits_of(texts_, labels)
        assert fingerprint(changed, ["text", "label"], ["no", "yes"]) != reference
    moved = {**splits_of(["a"], [0]), "test": splits_of(["b"], [1])["train"]}
    assert fingerprint(moved, ["text", "label"], ["no", "yes"]) != reference


def test_fingerprint_does_not_depend_on_the_order_of_columns():
    pairs = {"train": Rows.of(a=["1"], b=["2"])}
    assert fingerprint(pairs, ["a", "b"], None) == fingerprint(pairs, ["b", "a"], None)

"""Batches that a thread makes ahead are the same ones, and nothing is left of the thread."""

import itertools
import threading
from typing import Any

import pytest
from tuner_runs import LORA, assert_same_run, before_call, killed_run, make_tuner

from gpt2_tuning.errors import UserError
from gpt2_tuning.interrupts import Stopped
from gpt2_tuning.models.device_choices import GPU, choosing
from gpt2_tuning.training.feeding import one_ahead


def made_into(made, numbers, broken=None):
    """The numbers, noted when they are made; the `broken` one raises."""
    for number in numbers:
        if number == broken:
            raise UserError("no batch")
        made.append(number)
        yield number


@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_items_come_in_their_order_and_few_are_made_ahead(count):
    made: list[int] = []
    found = []
    for item in one_ahead(made_into(made, range(count))):
        assert len(made) <= item + 2
        found.append(item)
    assert found == made == list(range(count))


def test_what_making_an_item_raises_comes_in_its_place():
    items = one_ahead(made_into([], range(9), broken=3))
    assert list(itertools.islice(items, 3)) == [0, 1, 2]
    with pytest.raises(UserError, match="no batch"):
        next(items)


def test_who_leaves_early_leaves_no_thread():
    before = threading.active_count()
    made: list[int] = []
    items: Any = one_ahead(made_into(made, itertools.count()))
    assert next(items) == 0
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before
    assert made == [0, 1]


@pytest.mark.slow
def test_a_run_that_is_fed_by_a_thread_goes_on_as_if_it_had_not_been_stopped(tmp_path):
    """Killed while a batch is made, then stopped by a signal in a step; threads end with it."""
    before = threading.active_count()
    with choosing(GPU):
        whole = make_tuner(tmp_path / "whole", lora=LORA)
        whole.fit()
        killed_run(tmp_path / "killed", "steps", "tensors", 7, lora=LORA)
        stopped = make_tuner(tmp_path / "killed", lora=LORA)
        before_call(stopped.steps, "train", 5, lambda: setattr(stopped.stop, "number", 15))
        with pytest.raises(Stopped, match="is saved"):
            stopped.fit(resume=True)
        again = make_tuner(tmp_path / "killed", lora=LORA)
        again.fit(resume=True)
    assert_same_run(whole, again)
    assert threading.active_count() == before

"""The short form of `make fuzz`: mutants of files and flags end well, or in one line."""

import importlib
import os
import random
import shutil
from pathlib import Path

import fuzz
import fuzz_files
import fuzz_worker
import pytest
from hostile import within

SEED, MUTANTS, FEW = 21, 50, 10
"""Many preparations, which are fast, and few that make a model."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with the files that are spoilt, and its copy."""
    place = tmp_path_factory.mktemp("fuzz")
    before = Path.cwd()
    (place / "home").mkdir()
    os.chdir(place / "home")
    try:
        fuzz_files.make_all(train=False)
        shutil.copytree(place / "home", place / "pristine")
        yield place
    finally:
        os.chdir(before)


def outcomes(place, numbers, stages=("prep", "test")):
    return [fuzz_worker.outcome(SEED, number, stages, place / "pristine") for number in numbers]


def test_mutants_end_well_or_in_one_line_and_touch_nothing_else(place):
    with within(300):
        found = outcomes(place, range(MUTANTS), ("prep",)) + outcomes(place, range(FEW), ("test",))
    assert [(one.number, one.words, one.wrong) for one in found if one.wrong] == []
    assert {one.code for one in found} == {0, 2}
    assert len({one.case for one in found}) > 10


def test_a_mutant_follows_from_its_seed_and_number_alone(place):
    first, again = (fuzz_worker.mutant_of(SEED, 7, fuzz.STAGES[:2]) for _ in range(2))
    random.random()
    assert (first.words, first.flags) == (again.words, again.flags)
    others = {fuzz_worker.mutant_of(SEED, number, ("prep",)).words for number in range(30)}
    assert len(others) > 25


def raise_it(flags):
    raise ValueError("a defect")


def say_nothing(flags):
    return 2


def write_beside(flags):
    Path("mine.txt").write_text("")
    return 0


def remove_beside(flags):
    Path("template.txt").unlink()
    return 0


def leave_nothing(flags):
    return 0


def say_two_lines(flags):
    print("error: one\nerror: two", file=fuzz_worker.sys.stderr)
    return 2


@pytest.mark.parametrize(
    ("main", "wrong"),
    [
        (raise_it, "traceback"),
        (say_nothing, "0 lines of an error"),
        (say_two_lines, "2 lines of an error"),
        (write_beside, "outside the output: ./mine.txt"),
        (remove_beside, "outside the output: ./template.txt"),
        (leave_nothing, "what was written cannot be read"),
    ],
)
def test_what_a_script_must_not_do_is_found(main, wrong, place, monkeypatch):
    for task in ("classification", "entailment", "instruction", "text"):
        script = importlib.import_module(f"{task}_tuning.prep_dataset")
        monkeypatch.setattr(script, "main", main)
    number = next(n for n in range(99) if fuzz_worker.mutant_of(SEED, n, ("prep",)).mutation)
    template = Path("template.txt").read_text()
    found = outcomes(place, [number], ("prep",))[0]
    Path("mine.txt").unlink(missing_ok=True)
    Path("template.txt").write_text(template)
    assert found.wrong.startswith(wrong)

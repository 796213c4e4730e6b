"""Rows of any file become questions, and lines that every reader of JSON takes."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from prepared_sets import header

from gpt2_tuning.errors import UserError
from gpt2_tuning.inference import answering
from gpt2_tuning.inference.answer_digest import answer_digest
from gpt2_tuning.inference.answer_sinks import Printed
from gpt2_tuning.inference.answering import InputColumns, asked, example_of, free_names, progress_to
from gpt2_tuning.inference.json_lines import json_line
from gpt2_tuning.options.testing import ADDED, GenerationOptions
from instruction_tuning.test import Options

COLUMNS = InputColumns(("instruction",), ("context",))


def strict(line):
    """JSON as everybody but Python reads it."""

    def refuse(name):
        raise ValueError(name)

    return json.loads(line, parse_constant=refuse)


def test_a_line_is_valid_json_whatever_the_row_holds():
    row = {
        "a": "é\u2028",
        "half": "\ud83d",
        "whole": "😀",
        "n": [1.5, {"x": -math.inf}],
        "z": math.nan,
    }
    line = json_line(row, {"generated": "ö"})
    assert "\n" not in line
    assert line.encode("utf-8")  # no half pair is left
    found = strict(line)
    assert found == {**row, "n": [1.5, {"x": None}], "z": None, "generated": "ö"}


@pytest.mark.parametrize("value", [math.nan, math.inf, {"yes": math.nan}])
def test_an_answer_that_json_has_not_is_never_written(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_line({"own": math.nan}, {"probabilities": value})


@pytest.mark.parametrize("missing", [None, "", math.nan])
def test_an_optional_text_that_is_missing_is_empty(missing):
    assert example_of({"instruction": "a", "context": missing}, COLUMNS, "x") == ("a", "")
    assert example_of({"instruction": "a"}, COLUMNS, "x") == ("a", "")
    assert example_of({"instruction": "a", "context": 7}, COLUMNS, "x") == ("a", "7")


def test_windows_newlines_are_read_as_the_models_own(monkeypatch):
    row = {"instruction": "a\r\nb", "context": "c\r\n\r\nd\r"}
    assert example_of(row, COLUMNS, "x") == ("a\nb", "c\n\nd\r")
    typed = iter(["a\r\nb", "", ""])
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    assert list(asked(COLUMNS)) == [("a\nb", "")]


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        (Options(instruction_column="other"), "--instruction_column"),
        (Options(context_column="other"), "--context_column"),
    ],
)
def test_a_column_that_a_flag_names_is_there_or_the_flag_is_named(tmp_path, options, flag):
    source = tmp_path / "rows.jsonl"
    source.write_text('{"instruction": "a"}\n')
    options = dataclasses.replace(options, input=source)
    columns = InputColumns((options.instruction_column,), (options.context_column,))
    asked_of = answering.file_to_answer(options, tmp_path, header(), columns, ["generated"], 1)
    with pytest.raises(UserError, match=f"no column 'other'; .*: name one with {flag}"), asked_of:
        pass


@pytest.mark.parametrize("column", ["instruction", "context"])
def test_half_a_pair_in_a_text_that_is_read_names_the_row(column):
    row = {"instruction": "a", "context": "b", column: "x \ud83d"}
    with pytest.raises(
        UserError, match=r"rows.csv, row 7: a text holds the lone surrogate U\+D83D"
    ):
        example_of(row, COLUMNS, "rows.csv, row 7")


def test_names_that_a_file_has_itself_are_left_to_it(capsys):
    rows: list[dict] = [{"text": "a"}, {"text": "b", "prediction": 1}, {"probabilities_2": 2}]
    assert free_names(rows, ("prediction", "probabilities"), "rows.csv") == {
        "prediction": "prediction_3",
        "probabilities": "probabilities_3",
    }
    assert capsys.readouterr().err == (
        "note: rows.csv has a column 'prediction' of its own: the model's answers are in "
        "'prediction_3' and 'probabilities_3'\n"
    )
    assert free_names(rows[:1], ("prediction",), "rows.csv") == {"prediction": "prediction"}
    assert not capsys.readouterr().err


def test_without_a_terminal_progress_is_a_line_now_and_then(monkeypatch, capsys):
    clock = iter([0.0, 10.0, 40.0, 60.0, 80.0])
    monkeypatch.setattr(answering.time, "monotonic", lambda: next(clock))
    sink = Printed()
    sink.done = 100
    with progress_to(1000, sink) as advance:
        for done in (200, 400, 600, 1000):
            advance(done)
    assert capsys.readouterr().err == (
        "400 of 1,000 rows answered  0:01:20 left\n1,000 of 1,000 rows answered  0:00:00 left\n"
    )


# --- the digest ------------------------------------------------------------------------------


@pytest.fixture
def run_dir(tmp_path):
    for name in (
        "options.yaml",
        "metadata.json",
        "adapter/adapter_config.json",
        "base/config.json",
    ):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text(name)
    (tmp_path / "run" / "adapter" / "adapter_model.safetensors").write_text("weights")
    (tmp_path / "rows.jsonl").write_text("rows")
    return tmp_path / "run"


def digest(run, **flags):
    return answer_digest(GenerationOptions(**flags), run.parent / "rows.jsonl", run)


def test_whatever_decides_on_the_answers_is_in_the_digest(run_dir):
    seen = {digest(run_dir)}
    flags = {"max_new_tokens": 3, "seed": 1, "stop": ("x",), "batch_size": 2, "top_k": 5}
    flags |= {"min_p": 0.1, "repetition_penalty": 1.1, "no_repeat_ngram": 3}
    flags |= {"presence_penalty": 0.1, "frequency_penalty": 0.1}
    seen |= {digest(run_dir, **{name: value}) for name, value in flags.items()}
    for file in [*sorted(run_dir.rglob("*")), run_dir.parent / "rows.jsonl"]:
        if file.is_file():
            file.write_text("other")
            seen.add(digest(run_dir))
    assert len(seen) == 1 + 10 + 6


def test_whatever_does_not_decide_is_not(run_dir):
    other = {"resume": True, "output": "x", "evaluate": True, "prompt": ("a",), "run_dir": run_dir}
    (run_dir / "README.md").write_text("a card")
    assert digest(run_dir, **other) == digest(run_dir)


def test_the_sums_of_a_runs_weights_stand_for_them(run_dir):
    (run_dir / "weights.json").write_text("sums")
    before = digest(run_dir)
    (run_dir / "adapter" / "adapter_model.safetensors").write_text("not read")
    assert digest(run_dir) == before
    (run_dir / "weights.json").write_text("others")
    assert digest(run_dir) != before


def test_resuming_needs_an_output():
    with pytest.raises(UserError, match="--resume needs --output"):
        GenerationOptions(input=Path("rows.jsonl"), resume=True).check()


def test_flags_that_came_later_decide_on_nothing_at_their_defaults():
    """Answers that were begun before there were any are gone on with."""
    options = GenerationOptions(prompt=("a",))
    assert not set(ADDED) & set(options.deciding())
    for name in ADDED:
        changed: dict[str, Any] = {name: 1 + ADDED[name]}
        assert name in dataclasses.replace(options, **changed).deciding()

"""test.py --input as a user runs it: on rows of every kind, and on models that are damaged."""

import json
import math

import numpy as np
import pytest
from answer_runs import (
    CONFIG,
    LABELS,
    OVERFLOWS,
    TEXTS,
    classifier_run,
    flags_of,
    label,
    lines_of,
    no_model,
    rows_file,
    run_of,
    ten_rows,
)
from samples import randomize
from script_runs import names, refused

import classification_tuning.test
import instruction_tuning.test
import text_tuning.prep_dataset
import text_tuning.test
from gpt2_tuning.data.prompts import TEMPLATES
from gpt2_tuning.inference import labelling, responding
from gpt2_tuning.inference.generation import generate_text
from gpt2_tuning.inference.sampling import Temperature
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.runs import tuned_model


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("answers")


@pytest.fixture(scope="module")
def run_dir(home):
    return classifier_run(home)


@pytest.fixture
def source(tmp_path):
    return ten_rows(tmp_path)


@pytest.fixture
def without_model(monkeypatch):
    """Nothing may make a model."""
    monkeypatch.setattr(tuned_model, "load_tuned", no_model)


@pytest.fixture(scope="module")
def writer():
    return randomize(GPT2LanguageModel(CONFIG).built_now())


@pytest.fixture(scope="module")
def text_run(home, writer):
    (home / "text.txt").write_text("The tide comes in and the tide goes out again. " * 40)
    flags = ["--train_file", str(home / "text.txt"), "--seq_len", "32"]
    assert text_tuning.prep_dataset.main([*flags, "--output_dir", str(home / "text")]) == 0
    return run_of(home / "text-run", writer, home / "text")


@pytest.fixture
def parts_of_four(monkeypatch):
    """Rows that are answered and written down together."""
    monkeypatch.setattr(labelling, "BATCHES_AT_ONCE", 2)
    monkeypatch.setattr(responding, "BATCHES_AT_ONCE", 2)


@pytest.mark.usefixtures("parts_of_four")
def test_answers_do_not_depend_on_the_parts_they_come_in(run_dir, source, tmp_path, monkeypatch):
    parts, once = tmp_path / "parts.jsonl", tmp_path / "once.jsonl"
    assert label(run_dir, source, parts) == 0
    monkeypatch.setattr(labelling, "BATCHES_AT_ONCE", 100)
    assert label(run_dir, source, once) == 0
    for one, other in zip(lines_of(parts), lines_of(once), strict=True):
        assert one.pop("probabilities") == pytest.approx(other.pop("probabilities"), abs=1e-6)
        assert one == other


@pytest.mark.usefixtures("parts_of_four")
def test_a_row_is_drawn_the_same_text_in_whatever_part_it_comes(text_run, writer, source, tmp_path):
    output, column = tmp_path / "out.jsonl", ["--prompt_column", "text"]
    sampling = ["--sampling_method", "temperature", "--seed", 5, "--max_new_tokens", 6]
    flags = flags_of(text_run, source, output, *column, *sampling)
    assert text_tuning.test.main(flags) == 0
    drawn = generate_text(writer, TEXTS, 6, Temperature(1.0), seed=5, batch_size=10)
    assert [row["generated"] for row in lines_of(output)] == drawn
    assert len(set(drawn)) == 10


# --- what rows may hold ----------------------------------------------------------------------


@pytest.mark.usefixtures("without_model")
def test_a_text_that_cannot_be_read_is_named_before_the_work(run_dir, tmp_path, capsys):
    source = rows_file(tmp_path / "rows.jsonl", [{"text": "a"}, {"text": "x \ud83d"}])
    flags = flags_of(run_dir, source, tmp_path / "new" / "out.jsonl")
    line = refused(classification_tuning.test.main, capsys, *flags, "--strict")
    assert "rows.jsonl, row 2: a text holds the lone surrogate U+D83D" in line
    line = refused(
        classification_tuning.test.main, capsys, "--run_dir", run_dir, "--text", "\ud83d"
    )
    assert "--text: a text holds the lone surrogate U+D83D" in line
    assert names(tmp_path) == {"rows.jsonl"}


@pytest.mark.parametrize("to_file", [True, False])
def test_what_nobody_reads_goes_through_as_valid_json(run_dir, tmp_path, capsys, to_file):
    rows = [
        {"text": "a", "half": "\ud83d", "n": math.nan},
        {"text": "b", "half": "", "n": math.inf},
    ]
    source, output = rows_file(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl"
    flags = flags_of(run_dir, source, output)
    if not to_file:
        flags = [flag for flag in flags if flag not in ("--output", str(output))]
    assert classification_tuning.test.main(flags) == 0
    shown = capsys.readouterr()
    text = output.read_text(encoding="utf-8") if to_file else shown.out
    assert "NaN" not in text
    assert "Infinity" not in text
    found = [json.loads(line) for line in text.splitlines()]
    assert [(row["half"], row["n"]) for row in found] == [("\ud83d", None), ("", None)]
    assert shown.err == "note: rows.jsonl holds NaN or infinite numbers: written as null\n"


def test_columns_of_the_same_name_are_the_users(run_dir, text_run, tmp_path, capsys):
    rows: list[dict] = [{"text": "a", "prediction": "mine", "generated": 1}, {"text": "b"}]
    source, output = rows_file(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl"
    assert label(run_dir, source, output) == 0
    assert "note: rows.jsonl has a column 'prediction' of its own" in capsys.readouterr().err
    for row, found in zip(rows, lines_of(output), strict=True):
        assert {name: found[name] for name in row} == row
        assert set(found) - set(row) == {"prediction_2", "probabilities_2"}
    flags = flags_of(text_run, source, output, "--prompt_column", "text", "--max_new_tokens", 2)
    assert text_tuning.test.main(flags) == 0
    assert [set(row) - {"text", "prediction"} for row in lines_of(output)] == [
        {"generated", "generated_2"},
        {"generated_2"},
    ]


def test_windows_newlines_change_no_answer(run_dir, tmp_path, capsys):
    rows = [{"text": "one\r\ntwo"}, {"text": "one\ntwo"}]
    source, output = rows_file(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl"
    assert label(run_dir, source, output) == 0
    found = lines_of(output)
    assert found[0]["probabilities"] == pytest.approx(found[1]["probabilities"], abs=1e-5)
    assert [row["text"] for row in found] == [row["text"] for row in rows]
    capsys.readouterr()
    flags = [part for row in rows for part in ("--text", row["text"])]
    assert classification_tuning.test.main(["--run_dir", str(run_dir), *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == lines[3:]


# --- scores and prompts ----------------------------------------------------------------------


@pytest.mark.usefixtures("parts_of_four")
def test_scores_that_are_not_finite_name_their_row_and_keep_what_is_done(run_dir, tmp_path, capsys):
    """One token of the model is damaged, and the seventh text holds it."""
    rows = [{"text": "F" if number == 7 else text} for number, text in enumerate(TEXTS, start=1)]
    source = rows_file(tmp_path / "rows.jsonl", rows)
    flags = flags_of(run_dir, source, tmp_path / "out.jsonl")
    line = refused(classification_tuning.test.main, capsys, *flags)
    assert "the model's scores of row 7 are not finite" in line
    assert "4 of 10 rows are answered" in line
    line = refused(classification_tuning.test.main, capsys, "--run_dir", run_dir, "--text", "F")
    assert "the model's scores of row 1 are not finite" in line


def test_an_evaluation_of_scores_that_are_not_finite_writes_no_file(
    home, run_dir, text_run, tmp_path, capsys
):
    damaged = GPT2Classifier(CONFIG, label_names=LABELS).built_now()
    damaged.score.kernel.assign(np.full(damaged.score.kernel.shape, OVERFLOWS))
    run_dir = run_of(tmp_path / "run", damaged, home / "data")
    line = refused(classification_tuning.test.main, capsys, "--run_dir", run_dir, "--evaluate")
    assert "the model's scores of row 1 are not finite" in line
    assert not (run_dir / "test.json").exists()
    damaged = randomize(GPT2LanguageModel(CONFIG).built_now())
    damaged.transformer.norm.gamma.assign(np.full([CONFIG.n_embd], OVERFLOWS))
    run_dir = run_of(tmp_path / "text-run", damaged, home / "text")
    line = refused(text_tuning.test.main, capsys, "--run_dir", run_dir, "--evaluate")
    assert "the loss is not finite" in line
    assert not (run_dir / "test.json").exists()


def test_a_prompt_that_is_too_long_is_named_before_the_first_response(
    text_run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(responding, "generate_text", None)
    source = rows_file(tmp_path / "rows.jsonl", [{"prompt": "a"}] * 9 + [{"prompt": "b " * 120}])
    flags = flags_of(text_run, source, tmp_path / "out.jsonl")
    line = refused(text_tuning.test.main, capsys, *flags, "--max_new_tokens", 20, "--strict")
    assert "rows.jsonl: prompt 10 has" in line
    assert names(tmp_path) == {"rows.jsonl"}


ODD = [{"text": "fine"}, {"text": " "}, {"text": "a \ud83d"}, {"other": 1}, {"text": "good"}]


def test_rows_that_cannot_be_answered_have_null_and_why(run_dir, tmp_path, capsys):
    output = tmp_path / "out.jsonl"
    assert label(run_dir, rows_file(tmp_path / "rows.jsonl", ODD), output) == 0
    assert "3 of 5 rows have no answer but null, and why in 'error'" in capsys.readouterr().err
    rows = lines_of(output)
    for row, why in zip(rows[1:4], ("holds no text", "lone surrogate", "no column"), strict=True):
        assert (row["prediction"], row["probabilities"]) == (None, None)
        assert why in row["error"]
    alone = tmp_path / "alone.jsonl"
    assert label(run_dir, rows_file(tmp_path / "good.jsonl", [ODD[0], ODD[4]]), alone) == 0
    for row, same in zip((rows[0], rows[4]), lines_of(alone), strict=True):
        assert row.keys() == same.keys()  # none of which is `error`
        assert row["probabilities"] == pytest.approx(same["probabilities"], abs=1e-5)


def test_a_file_without_any_row_to_answer_is_refused(run_dir, tmp_path, capsys):
    source = rows_file(tmp_path / "rows.jsonl", ODD[1:3])
    flags = flags_of(run_dir, source, tmp_path / "out.jsonl")
    assert "row 1: text holds no text" in refused(classification_tuning.test.main, capsys, *flags)
    assert names(tmp_path) == {"rows.jsonl"}


def test_what_rows_draw_does_not_depend_on_one_that_has_no_answer(text_run, tmp_path, capsys):
    sampled = ["--sampling_method", "temperature", "--max_new_tokens", 20]
    answers = []
    for number, second in enumerate(("b " * 120, "b")):
        rows = [{"prompt": prompt} for prompt in ("a", second, "c", "d")]
        source, output = tmp_path / f"{number}.jsonl", tmp_path / f"out-{number}.jsonl"
        flags = flags_of(text_run, rows_file(source, rows), output, *sampled)
        assert text_tuning.test.main(flags) == 0
        answers.append(lines_of(output))
    assert [answers[0][place] for place in (0, 2, 3)] == [answers[1][place] for place in (0, 2, 3)]
    assert answers[0][1]["generated"] is None
    assert "prompt 2 has" in answers[0][1]["error"]


def test_prompts_of_plain_text_are_cut_at_their_beginning_on_request(text_run, tmp_path, capsys):
    long = "b " * 120 + "the end of it"
    output = tmp_path / "out.jsonl"
    source = rows_file(tmp_path / "rows.jsonl", [{"prompt": "a"}, {"prompt": long}])
    flags = flags_of(text_run, source, output, "--max_new_tokens", 20, "--cut_prompts")
    assert text_tuning.test.main(flags) == 0
    assert "1 of 2 prompts are too long and are cut" in capsys.readouterr().err
    model = tuned_model.load_tuned(GPT2LanguageModel, text_run)
    kept = model.tokenizer.encode(long)[-(CONFIG.n_positions - 20) :]
    assert lines_of(output)[1]["generated"] == generate_text(model, [kept], 20)[0]


def test_a_context_is_cut_at_its_end_and_the_question_is_not(writer):
    template, fields = TEMPLATES["dolly"], ("What is it?", "word " * 200)
    options = instruction_tuning.test.Options(prompt=("x",), max_new_tokens=20, cut_prompts=True)
    responder = responding.Responder(writer, template, options)
    ids = responder.fitted(fields)
    assert len(ids) == CONFIG.n_positions - 20
    text = writer.tokenizer.decode(ids)
    whole = template.prompt(*fields)
    assert text.startswith(whole[: whole.index("word")])
    assert text.endswith(whole[whole.rindex("word") + 4 :])
    assert responder.fitted(("What is it?", "short")) == template.prompt("What is it?", "short")


@pytest.mark.usefixtures("without_model")
@pytest.mark.parametrize("task", ["classification", "text"])
def test_data_that_is_not_there_is_said_before_the_work(run_dir, text_run, source, capsys, task):
    place = {"classification": run_dir, "text": text_run}[task]
    main = {"classification": classification_tuning.test, "text": text_tuning.test}[task].main
    flags = ["--input", source, "--evaluate", "--dataset_dir", "nowhere"]
    line = refused(main, capsys, "--run_dir", place, *flags)
    assert "no such directory: nowhere" in line

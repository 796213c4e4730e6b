"""test.py --input and --output as a user runs them: on files and places of every kind."""

import json
import math
import os
import shutil
import signal
import socket
import threading

import numpy as np
import pytest
from samples import randomize
from script_runs import names, refused, snapshot

import classification_tuning.prep_dataset
import classification_tuning.test
import text_tuning.prep_dataset
import text_tuning.test
from gpt2_tuning.config import GPT2Config
from gpt2_tuning.inference import answer_file, labelling, responding
from gpt2_tuning.inference.generation import generate_text
from gpt2_tuning.inference.sampling import Temperature
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.training import base_model, classifier

LABELS = ["sadness", "joy", "love", "anger", "fear", "surprise"]
TEXTS = [f"i feel {'very ' * (number * 7 % 5)}fine number {number}" for number in range(10)]
BAD_TOKEN = 37  # of "F", which no other text here holds


def run_of(directory, model, data):
    """A run as training leaves it, without the training."""
    directory.mkdir()
    model.save_pretrained(directory / "model")
    shutil.copy(data / "metadata.json", directory)
    (directory / "options.yaml").write_text(f"dataset_dir: {data}\n")
    return directory


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("answers")
    flags = ["--dataset", "sample", "--limit", "12", "--output_dir", str(home / "data")]
    assert classification_tuning.prep_dataset.main(flags) == 0
    (home / "text.txt").write_text("The tide comes in and the tide goes out again. " * 40)
    flags = ["--train_file", str(home / "text.txt"), "--seq_len", "32"]
    assert text_tuning.prep_dataset.main([*flags, "--output_dir", str(home / "text")]) == 0
    return home


CONFIG = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=128)


@pytest.fixture(scope="module")
def model():
    model = randomize(GPT2Classifier(CONFIG, label_names=LABELS).built_now())
    table = model.base.wte.embeddings.numpy()
    table[BAD_TOKEN] = math.nan
    model.base.wte.embeddings.assign(table)
    return model


@pytest.fixture(scope="module")
def run_dir(home, model):
    return run_of(home / "run", model, home / "data")


@pytest.fixture(scope="module")
def writer():
    return randomize(GPT2LanguageModel(CONFIG).built_now())


@pytest.fixture(scope="module")
def text_run(home, writer):
    return run_of(home / "text-run", writer, home / "text")


@pytest.fixture
def source(tmp_path):
    """Ten rows."""
    return rows_file(tmp_path / "rows.jsonl", [{"id": i, "text": t} for i, t in enumerate(TEXTS)])


@pytest.fixture
def parts_of_four(monkeypatch):
    """Rows that are answered and written down together."""
    monkeypatch.setattr(labelling, "BATCHES_AT_ONCE", 2)
    monkeypatch.setattr(responding, "BATCHES_AT_ONCE", 2)


def rows_file(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def flags_of(run_dir, source, output, *more):
    paths = ["--run_dir", run_dir, "--input", source, "--output", output, "--batch_size", 2]
    return [str(flag) for flag in (*paths, *more)]


def label(*arguments):
    return classification_tuning.test.main(flags_of(*arguments))


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def no_model(monkeypatch):
    """Whoever makes a model has not checked before the work."""

    def made(*arguments, **keywords):
        raise AssertionError("the model was made")

    monkeypatch.setattr(base_model, "load_tuned", made)


# --- where answers may go --------------------------------------------------------------------


def hard_link(source, home):
    os.link(source, source.with_name("hard.jsonl"))
    return source.with_name("hard.jsonl")


def link(source, home):
    source.with_name("link.jsonl").symlink_to(source)
    return source.with_name("link.jsonl")


def loop(source, home):
    source.with_name("loop").symlink_to(source.with_name("loop"))
    return source.with_name("loop")


def socket_file(source, home):
    os.chdir(source.parent)  # the whole path may be too long for a socket
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    return source.with_name("socket")


def linked_run(source, home):
    source.with_name("linked").symlink_to(home / "run")
    return source.with_name("linked") / "options.yaml"


PLACES = {
    "the input": (lambda source, home: source, "would overwrite --input"),
    "another spelling": (
        lambda source, home: f"{source.parent}/../{source.parent.name}/./{source.name}",
        "would overwrite --input",
    ),
    "a link": (link, "would overwrite --input"),
    "a hard link": (hard_link, "would overwrite --input"),
    "a directory": (lambda source, home: source.parent, "is a directory"),
    "a socket": (socket_file, "is neither a file nor a stream"),
    "a link to itself": (loop, "symbolic links"),
    "below a file": (lambda source, home: source / "new" / "out.jsonl", "cannot write to"),
    "the run's flags": (lambda source, home: home / "run" / "options.yaml", "overwrite options"),
    "the run by a link": (linked_run, "would overwrite options.yaml"),
    "the data": (lambda source, home: home / "data" / "train.tfrecord.gz", "overwrite train"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.usefixtures("no_model")
def test_a_place_for_no_answers_is_refused_before_the_work(
    home, run_dir, source, capsys, monkeypatch, place
):
    monkeypatch.chdir(home)
    make, message = PLACES[place]
    output = make(source, home)
    before = snapshot(home), snapshot(source.parent)
    flags = flags_of(run_dir, source, output)
    assert message in refused(classification_tuning.test.main, capsys, *flags, silent=True)
    assert (snapshot(home), snapshot(source.parent)) == before


@pytest.mark.usefixtures("no_model")
def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(
    run_dir, source, tmp_path, capsys, monkeypatch
):
    older = tmp_path / "older.jsonl"
    older.write_text("older")
    for denied in (tmp_path, older):  # root may write wherever the file system lets it
        monkeypatch.setattr(
            answer_file.os, "access", lambda path, mode, denied=denied: path != denied
        )
        flags = flags_of(run_dir, source, older)
        line = refused(classification_tuning.test.main, capsys, *flags)
        assert "cannot write to" in line or "is read-only" in line
    assert older.read_text() == "older"


def test_links_are_followed_and_stay(run_dir, source, tmp_path):
    (tmp_path / "real").mkdir()
    place, real = tmp_path / "link.jsonl", tmp_path / "real" / "out.jsonl"
    place.symlink_to(real)
    for _ in range(2):  # first it leads nowhere, then to a file
        assert label(run_dir, source, place) == 0
        assert place.is_symlink()
        assert len(lines_of(real)) == 10
    assert names(tmp_path / "real") == {"out.jsonl"}


def test_a_pipe_is_written_through_and_stays(run_dir, source, tmp_path, capsys):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    assert label(run_dir, source, pipe) == 0
    reader.join()
    assert pipe.is_fifo()
    assert len(got[0].splitlines()) == 10
    assert label(run_dir, source, tmp_path / "file.jsonl") == 0
    assert got[0] == (tmp_path / "file.jsonl").read_text()
    assert f"{pipe}: 10 rows answered" in capsys.readouterr().err


def test_a_device_is_written_through_and_stays(run_dir, tmp_path):
    """A terminal rather than /dev/null, which a mistake would replace for everybody."""
    screen, keyboard = os.openpty()
    source = rows_file(tmp_path / "rows.jsonl", [{"text": "i feel fine"}])
    device = tmp_path / "device"
    device.symlink_to(os.ttyname(keyboard))
    assert label(run_dir, source, device) == 0
    assert json.loads(os.read(screen, 4096))["text"] == "i feel fine"
    assert device.is_char_device()
    assert names(tmp_path) == {"rows.jsonl", "device"}
    for descriptor in (screen, keyboard):
        os.close(descriptor)


# --- interrupted -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("parts_of_four", "plain_handlers")
def test_an_interrupted_file_is_gone_on_with_to_the_same_bytes(
    run_dir, source, tmp_path, capsys, monkeypatch, number
):
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert label(run_dir, source, whole) == 0
    classify = classifier.classify

    def interrupted(*arguments, **keywords):
        if keywords["first_row"] == 8:
            os.kill(os.getpid(), number)
        return classify(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(classifier, "classify", interrupted)
        assert label(run_dir, source, output) == 128 + number
    line = "8 of 10 rows are answered; the same flags and --resume go on from there"
    assert line in capsys.readouterr().err
    assert not output.exists()
    line = refused(classification_tuning.test.main, capsys, *flags_of(run_dir, source, output))
    assert "holds 8 answers of an interrupted run: --resume goes on from them" in line
    rows = rows_file(tmp_path / "others.jsonl", [{"text": "other"}])
    for other in (["--batch_size", "4"], ["--input", str(rows)]):
        flags = [*flags_of(run_dir, source, output, "--resume")]
        flags[flags.index(other[0]) + 1] = other[1]
        line = refused(classification_tuning.test.main, capsys, *flags)
        assert "was begun with other flags, another input or another run" in line
    monkeypatch.setattr(classifier, "classify", counted := Counted(classify))
    assert label(run_dir, source, output, "--resume") == 0
    assert counted.rows == [8]
    assert output.read_bytes() == whole.read_bytes()
    assert names(tmp_path) == {"rows.jsonl", "others.jsonl", "whole.jsonl", "out.jsonl"}


class Counted:
    """A function of examples that remembers the numbers of the first."""

    def __init__(self, function):
        self.function, self.rows = function, []

    def __call__(self, *arguments, **keywords):
        self.rows.append(keywords["first_row"])
        return self.function(*arguments, **keywords)


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


@pytest.mark.usefixtures("no_model")
def test_a_text_that_cannot_be_read_is_named_before_the_work(run_dir, tmp_path, capsys):
    source = rows_file(tmp_path / "rows.jsonl", [{"text": "a"}, {"text": "x \ud83d"}])
    flags = flags_of(run_dir, source, tmp_path / "new" / "out.jsonl")
    line = refused(classification_tuning.test.main, capsys, *flags)
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


def test_an_evaluation_of_scores_that_are_not_finite_writes_no_file(home, writer, tmp_path, capsys):
    damaged = GPT2Classifier(CONFIG, label_names=LABELS).built_now()
    damaged.score.kernel.assign(np.full(damaged.score.kernel.shape, math.nan))
    run_dir = run_of(tmp_path / "run", damaged, home / "data")
    line = refused(classification_tuning.test.main, capsys, "--run_dir", run_dir, "--evaluate")
    assert "the model's scores of row 1 are not finite" in line
    assert not (run_dir / "test.json").exists()
    damaged = randomize(GPT2LanguageModel(CONFIG).built_now())
    damaged.base.ln_f.gamma.assign(np.full([CONFIG.n_embd], math.nan))
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
    line = refused(text_tuning.test.main, capsys, *flags, "--max_new_tokens", 20)
    assert "rows.jsonl: prompt 10 has" in line
    assert names(tmp_path) == {"rows.jsonl"}


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("task", ["classification", "text"])
def test_data_that_is_not_there_is_said_before_the_work(run_dir, text_run, source, capsys, task):
    place = {"classification": run_dir, "text": text_run}[task]
    main = {"classification": classification_tuning.test, "text": text_tuning.test}[task].main
    flags = ["--input", source, "--evaluate", "--dataset_dir", "nowhere"]
    line = refused(main, capsys, "--run_dir", place, *flags)
    assert "no such directory: nowhere" in line

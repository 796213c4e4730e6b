"""test.py --output as a user runs it: places of every kind, and work that is interrupted."""

import json
import os
import signal
import socket
import threading

import pytest
from answer_runs import (
    classifier_run,
    flags_of,
    label,
    lines_of,
    no_model,
    rows_file,
    ten_rows,
)
from script_runs import names, refused, snapshot

import classification_tuning.test
from gpt2_tuning.inference import answer_file, labelling
from gpt2_tuning.runs import tuned_model
from gpt2_tuning.tasks import try_classifier


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
    "the run's flags": (lambda source, home: home / "run" / "options.yaml", "among the files of"),
    "the run by a link": (linked_run, "among the files of"),
    "a new file of the run": (
        lambda source, home: home / "run" / "new.jsonl",
        "among the files of",
    ),
    "the data": (lambda source, home: home / "data" / "train.tfrecord.gz", "among the files of"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.usefixtures("without_model")
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


@pytest.mark.usefixtures("without_model")
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


def test_what_is_behind_an_open_descriptor_is_gone_on_with(run_dir, source, tmp_path):
    """As `--output /dev/stdout >> log` has it: what the log holds already is not replaced."""
    log = tmp_path / "log.txt"
    log.write_text("earlier\n")
    assert label(run_dir, source, tmp_path / "whole.jsonl") == 0
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    try:
        for name in (f"/dev/fd/{descriptor}", f"/proc/self/fd/{descriptor}"):
            assert label(run_dir, source, name) == 0
    finally:
        os.close(descriptor)
    assert log.read_text() == "earlier\n" + (tmp_path / "whole.jsonl").read_text() * 2
    assert names(tmp_path) == {"log.txt", "rows.jsonl", "whole.jsonl"}


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
@pytest.mark.usefixtures("plain_handlers")
def test_an_interrupted_file_is_gone_on_with_to_the_same_bytes(
    run_dir, source, tmp_path, capsys, monkeypatch, number
):
    monkeypatch.setattr(labelling, "BATCHES_AT_ONCE", 2)
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert label(run_dir, source, whole) == 0
    classify = try_classifier.classify

    def interrupted(*arguments, **keywords):
        if keywords["first_row"] == 8:
            os.kill(os.getpid(), number)
        return classify(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(try_classifier, "classify", interrupted)
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
    monkeypatch.setattr(try_classifier, "classify", counted := Counted(classify))
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

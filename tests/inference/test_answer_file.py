"""Answers reach their place whole or not at all, and no work that was done is lost or mixed up."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_mutations import make_place
from hostile import no_locks, room_for, within

import gpt2_tuning
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference import answer_file
from gpt2_tuning.interrupts import Stopped

LINES = [f'{{"row": {number}}}' for number in range(10)]
WHOLE = "".join(line + "\n" for line in LINES)
ONE, OTHER = "1" * 64, "2" * 64


def opened(target, digest=ONE, resume=False):
    return answer_file.opened(target, digest, resume, total=len(LINES), rows_at_once=4)


def write(target, stop_after=None, action=None, **how):
    """Appends the lines that are missing, four at a time; `action` comes after so many parts."""
    with opened(target, **how) as sink:
        for first in range(sink.done, len(LINES), 4):
            sink.append(LINES[first : first + 4])
            if stop_after == first // 4:
                action()
        sink.finish()


def interrupt():
    raise KeyboardInterrupt


def partial_of(target):
    return target.with_name(f"{target.name}.partial-111111111111")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "answers.jsonl"


@pytest.fixture
def begun(target):
    """Eight lines of work that was interrupted."""
    with pytest.raises(Stopped):
        write(target, 1, interrupt)
    return partial_of(target)


def test_until_the_last_line_an_older_file_stays(target):
    target.write_text("older\n")
    target.chmod(0o640)
    seen = []
    write(target, 1, lambda: seen.append((target.read_text(), partial_of(target).read_text())))
    assert seen == [("older\n", WHOLE[: len("\n".join(LINES[:8])) + 1])]
    assert target.read_text() == WHOLE
    assert target.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_new_file_has_the_permissions_of_any_other(target):
    (target.parent / "other").write_text("")
    write(target)
    assert target.stat().st_mode == (target.parent / "other").stat().st_mode


def test_an_interruption_says_how_to_go_on_and_the_rest_is_added(begun, target, capsys):
    with opened(target, resume=True) as sink:
        assert sink.done == 8
    message = r"^terminated: 8 of 10 rows are answered; the same flags and --resume go on"
    with pytest.raises(Stopped, match=message), opened(target, resume=True):
        raise Stopped(signal.SIGTERM)
    write(target, resume=True)
    assert target.read_text() == WHOLE
    assert not begun.exists()
    assert "note: going on after 8 of 10 rows\n" in capsys.readouterr().err


@pytest.mark.parametrize("size", range(len(WHOLE) + 1))
def test_wherever_a_kill_cuts_the_file_whole_parts_are_gone_on_with(target, size):
    partial_of(target).write_text(WHOLE[:size])
    whole = WHOLE[:size].count("\n")
    with opened(target, resume=True) as sink:
        assert sink.done == (10 if whole == 10 else whole // 4 * 4)
    write(target, resume=True)
    assert target.read_text() == WHOLE


def test_what_a_power_failure_left_of_a_line_is_none(begun, target):
    begun.write_bytes(WHOLE.encode()[:60] + bytes(40) + WHOLE.encode()[60:])
    with opened(target, resume=True) as sink:
        assert sink.done == 4
    write(target, resume=True)
    assert target.read_text() == WHOLE


@pytest.mark.parametrize("damage", [b"{{", b'"', b"\xff", b"[" * 50_000])
def test_a_line_that_is_no_json_is_none_and_what_follows_is_answered_anew(begun, target, damage):
    content, place = WHOLE.encode(), WHOLE.index("5}")
    begun.write_bytes(content[:place] + damage + content[place:])
    write(target, resume=True)
    assert target.read_text() == WHOLE


@pytest.mark.parametrize("kind", ["device", "directory", "dangling", "pipe", "sparse"])
def test_what_is_no_file_of_answers_is_refused_or_begun_anew(target, kind):
    make_place(partial_of(target), kind)
    with within(20):
        if kind == "sparse":
            write(target, resume=True)
            assert target.read_text() == WHOLE
        else:
            with pytest.raises(UserError, match="is no file of answers: remove it"):
                write(target, resume=True)
    assert not (target.parent / "nowhere").exists()


def test_a_process_killed_at_once_leaves_what_it_had_appended(target):
    code = (
        "import os, sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from test_answer_file import write\n"
        "write(Path(sys.argv[1]), 1, lambda: os.kill(os.getpid(), 9))"
    )
    source = Path(gpt2_tuning.__file__).parents[1]
    folders = [source, Path(__file__).parents[1], Path(__file__).parent]
    done = subprocess.run([sys.executable, "-c", code, target, *map(str, folders)])
    assert done.returncode == -signal.SIGKILL
    with opened(target, resume=True) as sink:
        assert sink.done == 8


def test_a_full_disk_is_one_line_and_what_fits_is_kept(target):
    with room_for(70), pytest.raises(UserError) as caught:
        write(target)
    assert "cannot write" in str(caught.value)
    assert str(caught.value).endswith(
        ": 4 of 10 rows are answered; the same flags and --resume go on from there"
    )
    write(target, resume=True)
    assert target.read_text() == WHOLE


def test_where_nothing_was_done_nothing_stays(target):
    with room_for(30), pytest.raises(UserError, match="cannot write"):
        write(target)
    with pytest.raises(Stopped, match=r"^interrupted$"), opened(target):
        interrupt()
    assert not list(target.parent.iterdir())


def test_answers_that_cannot_take_their_place_are_kept(target, monkeypatch):
    """As where the file is a mount of its own."""

    def busy(*paths):
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(answer_file.os, "replace", busy)
        with pytest.raises(UserError, match="resource busy: 10 of 10 rows are answered"):
            write(target)
    write(target, resume=True)
    assert target.read_text() == WHOLE


def test_work_that_was_begun_is_never_begun_again_unasked(begun, target):
    before = begun.read_bytes()
    with pytest.raises(UserError, match=r"111111 holds 8 answers of an interrupted run: --resume"):
        write(target)
    assert begun.read_bytes() == before


def test_other_work_is_not_gone_on_with_and_left_alone(begun, target):
    before = begun.read_bytes()
    with pytest.raises(UserError, match=f"{begun.name} was begun with other flags, another input"):
        write(target, digest=OTHER, resume=True)
    write(target, digest=OTHER)
    assert target.read_text() == WHOLE
    assert begun.read_bytes() == before


def test_resuming_where_nothing_was_left_starts_from_the_beginning_and_says_so(target, capsys):
    write(target, resume=True)
    assert target.read_text() == WHOLE
    assert "nothing was left to resume from: starting from the beginning" in capsys.readouterr().err


@pytest.mark.parametrize("digest", [ONE, OTHER], ids=["same work", "other work"])
def test_two_processes_do_not_write_to_one_place(target, digest):
    with opened(target) as sink:
        sink.append(LINES[:4])
        for resume in (False, True):
            with pytest.raises(UserError, match="another process is writing"):
                write(target, digest=digest, resume=resume)
        sink.append(LINES[4:])
        sink.finish()
    assert target.read_text() == WHOLE


def test_a_file_that_was_just_finished_by_another_process_is_not_written_to(target, monkeypatch):
    """It took its place between our opening and our locking of it."""
    flock = fcntl.flock

    def finish_first(descriptor, how):
        os.replace(partial_of(target), target)
        return flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", finish_first)
    with pytest.raises(UserError, match="another process is writing"):
        write(target)
    assert target.read_text() == ""


def test_where_there_are_no_locks_work_goes_on(target, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    write(target)
    assert target.read_text() == WHOLE


def test_standard_output_gets_lines_as_they_come(capsys):
    seen = []
    write(None, 0, lambda: seen.append(capsys.readouterr().out))
    assert seen[0] + capsys.readouterr().out == WHOLE
    assert seen[0].count("\n") == 4


def test_a_device_is_not_resumed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="--resume needs a file"):
        write(tmp_path / "pipe", resume=True)

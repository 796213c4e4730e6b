"""Signals: work that has nothing to save ends at once, whatever the main thread is in."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from gpt2_tuning import interrupts
from gpt2_tuning.interrupts import Stopped, StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("plain_handlers")
def test_at_once_python_is_stopped_where_it_is(number):
    """And afterwards nothing of it is left."""
    threads = threading.active_count()

    def work(stop):
        with stop.at_once(" early"):
            os.kill(os.getpid(), number)
            threading.Event().wait(60)

    with StopRequest() as stop:
        with pytest.raises(Stopped, match="ed early") as caught:
            work(stop)
        assert caught.value.code == 128 + number
        os.kill(os.getpid(), number)
        assert stop.number == number  # as before: remembered until there is time
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.usefixtures("plain_handlers")
def test_at_once_does_not_begin_after_a_signal():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped, match="terminated early"), stop.at_once(" early"):
            raise AssertionError("the block was begun")


BUSY = """
    import ctypes
    from gpt2_tuning import interrupts
    interrupts.GRACE = 0.1
    mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
    with interrupts.StopRequest() as stop, stop.at_once(" early"):
        lock(mutex)
        try:
            print("busy", flush=True)
            lock(mutex)  # for ever, and outside Python, as a compiler is for a minute
        except interrupts.Stopped:  # the signal came sooner
            lock(mutex)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex that is all zeros is Linux's")
def test_at_once_ends_a_process_that_python_cannot_stop():
    command = [sys.executable, "-c", textwrap.dedent(BUSY)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(20) == 143
            assert process.stderr.read() == "terminated early\n"
        finally:
            process.kill()


def test_at_once_does_nothing_in_another_thread():
    entered = []

    def work():
        with interrupts.ended_by_thread(" early"):
            entered.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered

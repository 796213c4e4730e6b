import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks import processes, report, run
from benchmarks.cases import Case
from benchmarks.processes import ROOT, Process
from benchmarks.rounds import Rounds

WORKER = Path(__file__).with_name("fake_worker.py")
OURS = {"speed": 5.0}


def command(work, kind, variant, settings):
    spec = {"kind": kind, "variant": variant, "settings": settings, "work": str(work)}
    return [sys.executable, str(WORKER), json.dumps({**spec, "timeout": 9, "launched": 0.0})]


def process(*arguments, kind=Process):
    return kind(command(*arguments), {"PYTHONPATH": str(ROOT)})


class Impatient(Process):
    """Waits but a moment, whatever it is told, so that a test need not."""

    def answer(self, seconds):
        return super().answer(0.05)


@pytest.fixture
def measured(tmp_path):
    def measured(peers, repeats=3, kind="step", say=lambda _: None, ours=OURS):
        """The summary of a case in which `peers` behave so, by worker and variant."""
        settings = {
            "own": ours,
            **{name: how for found in peers.values() for name, how in found.items()},
        }
        variants = {"ours": ("own",), **{worker: tuple(found) for worker, found in peers.items()}}
        case = Case("step/fake", kind, settings, variants)
        turns = [(worker, variant) for worker, names in variants.items() for variant in names]

        def launch(_, variant):
            slow = any(word in settings[variant] for word in ("hangs", "impatient"))
            chosen = Impatient if slow else Process
            return process(tmp_path, kind, variant, settings, kind=chosen)

        try:
            return report.summarized(case, Rounds(case, turns, launch, repeats, 60, say).measured())
        finally:
            assert_none_lives(tmp_path)

    return measured


def assert_none_lives(work):
    """The lock can be had at once, which it cannot while a worker or a child of one lives."""
    with open(work / "lock", "a") as lock:
        for _ in range(100):  # the kernel may need a moment after the last kill
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
    raise AssertionError("a worker is left")


def turns(work):
    return (work / "turns").read_text().split()


def values(summary, worker, variant, figure="tokens_per_second"):
    return summary["measured"][worker][variant]["figures"][figure]["values"]


def test_rounds_alternate_and_the_fastest_variant_stays(measured, tmp_path):
    summary = measured(
        {
            "hf": {"slow": {"speed": 2.0}, "fast": {"speed": 4.0}},
            "kerashub": {"only": {"speed": 1.0}},
        }
    )
    first = ["own0", "slow0", "fast0", "only0"]
    assert turns(tmp_path) == [*first, "only1", "fast1", "own1", "own2", "fast2", "only2"]
    assert values(summary, "ours", "own") == [5.0, 6.0, 7.0]
    assert values(summary, "hf", "slow") == [2.0]
    # What the process held in all its life is one value.
    assert values(summary, "hf", "fast", "peak_mb") == [12.0]
    assert summary["missing"] == {}
    assert summary["ratios"]["step/fake"] == 1.2  # the median 6 over fast's 5


def test_of_each_peer_the_fastest_that_groups_rows_stays_too(measured, tmp_path):
    measured(
        {"hf": {"a": {"speed": 2.0}, "b-grouped": {"speed": 4.0}, "c-grouped": {"speed": 3.0}}}
    )
    assert turns(tmp_path)[-3:] == ["own2", "a2", "b-grouped2"]


def test_a_worker_that_dies_in_mid_run_is_reported_with_its_error(measured, tmp_path):
    summary = measured({"hf": {"a": {"speed": 2.0, "dies_in": 1}}})
    assert summary["missing"] == {"hf/a": "failed: no memory left"}
    assert values(summary, "hf", "a") == [2.0]
    assert turns(tmp_path) == ["own0", "a0", "own1", "own2"]
    assert run.holds(summary)


@pytest.mark.parametrize(
    "how", [{"hangs": True}, {"speed": 1.0, "too_slow": "60 s without a step"}]
)
def test_a_worker_that_is_too_slow_is_stopped_and_no_failure(measured, how):
    summary = measured({"hf": {"a": how, "b": {"speed": 3.0}}})
    assert summary["missing"]["hf/a"].startswith("stopped: 60 s without a step, where ours takes ")
    assert values(summary, "hf", "b") == [3.0, 4.0, 5.0]
    assert run.holds(summary)


def test_ours_must_be_measured_to_the_end(measured):
    assert not run.holds(measured({}, ours={"speed": 5.0, "dies_in": 2}))
    assert not run.holds(measured({}, ours={"hangs": True}))


def test_a_guard_that_disagrees_is_not_compared_and_not_measured(measured, tmp_path):
    summary = measured({"hf": {"a": {"speed": 2.0, "loss": 1.5}}})
    assert summary["missing"]["hf/a"].startswith("not compared: its first loss is 1.5")
    assert "hf" not in summary["measured"]
    assert turns(tmp_path) == ["own0", "own1", "own2"]
    assert not run.holds(summary)


def test_a_start_is_a_new_process_each_round(measured, tmp_path):
    summary = measured({"hf": {"a": {"seconds": 3.0}}}, kind="start", ours={"seconds": 2.0})
    names = turns(tmp_path)[::2]
    assert names == ["own", "a", "a", "own", "own", "a"]
    assert len(set(turns(tmp_path)[1::2])) == 6
    assert values(summary, "hf", "a", "start_seconds") == [3.0] * 3


def test_the_time_in_which_the_driver_is_stopped_is_not_waited(tmp_path, monkeypatch):
    worker = process(tmp_path, "start", "own", {"own": {"seconds": 2.0}})
    clock = iter(range(0, 10**6, 1000))  # as if stopped for a thousand seconds at a time
    monkeypatch.setattr(processes.time, "monotonic", lambda: next(clock))
    assert worker.answer(60)["figures"] == {"start_seconds": 2.0}
    worker.close()


def test_no_worker_survives_an_interrupted_driver(measured):
    def interrupt(line):
        if "hf/a" in line:
            raise KeyboardInterrupt

    # The fixture looks whether any lives.
    with pytest.raises(KeyboardInterrupt):
        measured({"hf": {"a": {"speed": 2.0}}}, say=interrupt)


def test_a_worker_ends_in_the_middle_of_a_step_when_its_driver_is_gone(tmp_path):
    arguments = command(tmp_path, "step", "own", {"own": {"speed": 1.0, "hangs_in": 0}})
    script = (
        "import sys; from benchmarks.processes import Process\n"
        "worker = Process(sys.argv[1:], {}); worker.answer(60); worker.ask(0, 600)"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    while not (tmp_path / "turns").exists():
        assert driver.poll() is None
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert_none_lives(tmp_path)

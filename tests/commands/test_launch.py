"""Workers start together, end together, and end with the weights of one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from script_runs import RUN_FILES, names

from classification_tuning import prep_dataset, train
from gpt2_tuning.commands import launch
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.training.checkpoint_files import found_in

SRC = Path(train.__file__).parents[1]
MINUTE = 60

PLAYER = """
import json, os, signal, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
print("worker", index, "has", *sys.argv[1:], flush=True)
{body}
"""


@pytest.fixture
def play(tmp_path, capfd, monkeypatch):
    """Launches two workers that run a few lines of Python: (exit code, output, errors)."""
    # Other tests of this process tokenise, and the library warns when such a process forks.
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")

    def run(body, *flags):
        script = tmp_path / "player.py"
        script.write_text(PLAYER.format(body=body))
        logs = ["--log_dir", str(tmp_path / "logs")]
        code = launch.main([*flags, *logs, "--", str(script), "--x", "1"])
        return code, *capfd.readouterr()

    return run


def test_only_the_chief_is_heard(play, tmp_path):
    code, output, errors = play("")
    assert (code, errors) == (0, "")
    assert output == "worker 0 has --x 1 --strategy multi_worker\n"
    logged = (tmp_path / "logs" / "worker-1.log").read_text()
    assert logged == "worker 1 has --x 1 --strategy multi_worker\n"


def test_a_refused_flag_is_said_once(play):
    line = "print('error: no such data', file=sys.stderr); sys.exit(2)"
    assert play(line)[::2] == (2, "error: no such data\n")
    alone = f"if index == 0: time.sleep(600)\n{line}"
    assert play(alone)[::2] == (2, "error: worker 1: no such data\n")


def test_a_lost_worker_ends_even_those_that_hold_on(play):
    body = """
if index == 1: os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""
    code, _, errors = play(body, "--grace", "0.5")
    assert code == 1
    assert errors.startswith("error: worker 1 was killed by SIGKILL")
    assert errors.count("\n") == 1


def test_a_signal_reaches_the_workers(play):
    body = "if index == 1: os.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(600)"
    code, _, errors = play(body)
    assert (code, errors) == (143, "interrupted by SIGTERM\n")


def test_a_worker_that_a_signal_ended_is_no_failure(play):
    """It came to that worker alone, before the workers could agree to stop."""
    code, _, errors = play("if index == 1: os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(600)")
    assert (code, errors) == (143, "interrupted by SIGTERM\n")


ON_SIGNAL = """
def note(number, _):
    time.sleep({seconds})
    print("worker", index, "was asked", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, note)
"""


def test_workers_that_stop_by_agreement_are_left_to_it(play):
    """The second has gone and the chief is about to: a signal would hit it as it clears away."""
    body = ON_SIGNAL.format(seconds=0) + "time.sleep(1 if index == 0 else 0)\nsys.exit(143)"
    code, output, errors = play(body)
    assert (code, errors) == (143, "interrupted by SIGTERM\n")
    assert "was asked" not in output


def test_workers_have_time_to_save_until_one_has_ended(play, monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "LEAVING_SECONDS", 0.5)
    body = """
ready = sys.argv[0] + ".ready"
if index == 0:
    {chief}
    open(ready, "w").close()
else:
    while not os.path.exists(ready): time.sleep(0.05)
    os.remove(ready)
    os.kill(os.getppid(), signal.SIGTERM)
time.sleep(10)
print("worker", index, "was left")
"""
    saving = ON_SIGNAL.format(seconds=1.5)
    code, output, _ = play(saving + body.format(chief="pass"))
    assert code == 143
    assert "worker 0 was asked" in output
    assert "worker 1 was asked" in (tmp_path / "logs" / "worker-1.log").read_text()

    in_vain = body.format(chief="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    code, output, errors = play(in_vain)
    assert (code, errors) == (143, "interrupted by SIGTERM\n")
    assert "was left" not in output


def test_a_second_ctrl_c_is_not_waited_with(play):
    body = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
for _ in range(100):
    if index == 1: os.kill(os.getppid(), signal.SIGINT)
    time.sleep(0.1)
print("worker", index, "was left")
"""
    code, output, errors = play(body)
    assert (code, errors) == (130, "interrupted by SIGINT\n")
    assert "was left" not in output


@pytest.mark.parametrize(
    "command", [[], ["--"], ["--", "missing.py"], ["--workers", "0", "--", "x"]]
)
def test_nothing_to_launch_is_one_line(capfd, command):
    assert launch.main(command) == 2
    assert capfd.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """Flags of a short training without dropout, which would differ between replicas."""
    home = tmp_path_factory.mktemp("launch")
    data = ["--dataset", "sample", "--limit", "30", "--output_dir", str(home / "data")]
    assert prep_dataset.main(data) == 0
    config = GPT2Config(1, 16, 2, 128, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    GPT2Model(config).built_now().save_pretrained(home / "base")
    paths = ["--dataset_dir", str(home / "data"), "--pretrained", str(home / "base")]
    numbers = ["--learning_rate", "1e-3", "--max_grad_norm", "0.5", "--batch_size", "7"]
    return [*paths, *numbers, "--epochs", "8", "--checkpoint_steps", "1", "--patience", "None"]


def start(flags, logs):
    """The launcher with two workers that train, in a process of its own."""
    command = [sys.executable, "-m", "gpt2_tuning.commands.launch", "--log_dir", str(logs), "--"]
    command += ["classification_tuning/train.py", *flags]
    return subprocess.Popen(command, cwd=SRC, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def ended_in_mid_run(run, number, flags, logs):
    """Trains until there is a new checkpoint, then signals the worker that is not the chief.

    Returns the launcher's exit code, what it printed, and the checkpoint that was there.
    """
    before = found_in(run / "checkpoints")[-1:]
    with start([*flags, str(run)], logs) as launcher:
        while launcher.poll() is None and found_in(run / "checkpoints")[-1:] <= before:
            time.sleep(0.02)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
        _, worker = map(int, children.read_text().split())
        os.kill(worker, number)
        seen = found_in(run / "checkpoints")[-1]
        output, errors = launcher.communicate(timeout=3 * MINUTE)  # the launcher gives up before
    assert b"Traceback" not in output + errors
    assert not (run / "model").exists()
    return launcher.returncode, errors.decode(), seen


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_run_that_a_worker_ended_is_resumed_to_the_weights_of_one_process(flags, tmp_path):
    """First one is told to stop, and all do after the same step; then one is lost."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    flags = [*flags, "--output_dir"]
    code, errors, seen = ended_in_mid_run(together, signal.SIGTERM, flags, tmp_path)
    saved = found_in(together / "checkpoints")[-1]
    said = f"terminated: {saved} is saved; the same flags and --resume go on from it\n"
    assert (code, errors) == (143, said + "interrupted by SIGTERM\n")
    assert (tmp_path / "worker-1.log").read_text() == said
    assert saved >= seen

    flags = ["--resume", *flags]
    code, errors, _ = ended_in_mid_run(together, signal.SIGKILL, flags, tmp_path)
    assert code == 1
    assert "worker 1 was killed by SIGKILL" in errors

    with start([*flags, str(together)], tmp_path) as launcher:
        output, errors = launcher.communicate()
    assert (launcher.returncode, errors) == (0, b"")
    assert output.count(b"epoch 8/8") == 1
    assert (tmp_path / "worker-1.log").read_text() == ""
    assert names(together) == RUN_FILES | {"model"}

    assert train.main([*flags[1:], str(alone)]) == 0
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (together, alone))
    for name, weights in theirs.items():
        np.testing.assert_allclose(ours[name], weights, atol=1e-5)

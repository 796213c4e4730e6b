"""Each case of compiling has XLA's flags for itself and finds nothing compiled before."""

import json
import subprocess

import keras
import pytest
import tensorflow as tf
from benchmarks import compile_step, compile_time, ours

from gpt2_tuning.training import steps
from gpt2_tuning.training.strategy import make_strategy

ANSWER = {"device": "CPU", "first_step_s": 3.0, "step_ms": 1.5}


@pytest.fixture
def started(monkeypatch):
    """The environment and the settings of every process that was to be started."""
    found = []

    def run(command, env, **_):
        found.append((env, json.loads(command[-1])))
        failed = env["XLA_FLAGS"].endswith("parallelism=16")
        output = "" if failed else f"noise\n{compile_time.ANSWER}{json.dumps(ANSWER)}\n"
        return subprocess.CompletedProcess(command, int(failed), output, "trace\nwhy it failed\n")

    monkeypatch.setattr(compile_time.subprocess, "run", run)
    monkeypatch.setenv("XLA_FLAGS", "--xla_mine=1")
    return found


def test_cases_differ_in_what_they_are_named_for(started, tmp_path, capsys):
    output = tmp_path / "new" / "figures.json"
    assert compile_time.main(["--output", str(output)]) == 1  # one failed
    assert len(started) == len(compile_time.FEW) + len(compile_time.CASES)
    for environment, _ in started:
        assert environment["XLA_FLAGS"].startswith("--xla_mine=1 --xla_gpu_enable_triton_gemm=")
        assert environment["TF_XLA_FLAGS"] == "--tf_xla_persistent_cache_directory="
    of_each = {(env["XLA_FLAGS"], *settings.items()) for env, settings in started}
    assert len(of_each) == len(started)
    assert [settings["layers"] for _, settings in started] == [2, 2, 2, *[12] * 9]
    content = json.loads(output.read_text())
    failed = [case for case in content["cases"] if "error" in case]
    assert [(case["case"], case["error"]) for case in failed] == [
        ("static/parallel-16", "why it failed")
    ]
    assert content["cases"][0] == {"case": "static", "layers": 2, **ANSWER}
    assert "static/triton" in capsys.readouterr().out


@pytest.mark.parametrize(("static", "length"), [(True, 16), (False, None)])
def test_a_trace_knows_the_lengths_where_they_are_to_be_static(static, length, monkeypatch):
    monkeypatch.setattr(steps, "EachShape", steps.EachShape)
    compile_step.compile_whole(static)
    known = []

    class Learning:
        model = keras.Model()

        def sums(self, inputs, targets, weights, training):
            known.append(inputs["token_ids"].shape.as_list())
            return tf.reduce_sum(weights), tf.reduce_sum(weights)

    with compile_step.CHOSEN:
        functions = steps.StepFunctions(Learning(), make_strategy("one"))
        functions.evaluate(ours.shared_batch(2, 16, 8))
    assert known == [[2, length]]


def test_a_case_that_nobody_knows_is_one_line(started, capsys):
    assert compile_time.main(["--cases", "cold"]) == 2
    assert "no case is chosen: --cases takes static, unknown" in capsys.readouterr().err
    assert not started

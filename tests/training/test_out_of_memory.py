"""Too little memory for a step: one line with flags that take less, and nothing left behind."""

import dataclasses
import math
import re

import pytest
import tensorflow as tf
from script_runs import refused, snapshot
from tuner_runs import make_tuner

from classification_tuning import prep_dataset, train
from gpt2_tuning import memory, nvidia
from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import OutOfMemory
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.fitting import Update, Way, usable
from gpt2_tuning.nvidia import Card, Driver
from gpt2_tuning.training import out_of_memory, steps

FLAGS = ["--model_size", "tiny", "--pretrained", "none", "--epochs", "1", "--precision", "float32"]
H100 = Card("NVIDIA H100", (9, 0), int(80e9), int(79e9))
T4 = Card("Tesla T4", (7, 5), int(16e9), int(15e9))
K80 = Card("Tesla K80", (3, 7), int(12e9), int(11e9))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    flags = ["--dataset", "sample", "--limit", "40", "--output_dir", str(directory / "set")]
    assert prep_dataset.main(flags) == 0
    return directory / "set"


@pytest.fixture
def full(monkeypatch):
    """Has the first step find no memory, or no room on the disk, or a later one."""

    def at_step(number, patch=monkeypatch, message="OOM when allocating\na tensor"):
        method, calls = steps.StepFunctions._call, iter(range(1, 10**6))

        def called(self, function, batch, tensors):
            result = method(self, function, batch, tensors)
            if next(calls) == number:
                raise tf.errors.ResourceExhaustedError(None, None, message)
            return result

        patch.setattr(steps.StepFunctions, "_call", called)

    return at_step


def refusal(data, run_dir, capsys, *more):
    return refused(
        train.main, capsys, *FLAGS, "--dataset_dir", data, "--output_dir", run_dir, *more
    )


def test_the_line_names_flags_that_take_less(data, tmp_path, capsys, full):
    full(1)
    line = refusal(data, tmp_path / "run", capsys)
    assert re.search(r"out of memory in a batch of 16 x \d+ tokens in float32", line)
    needed, with_flags = map(float, re.findall(r"about ([\d.]+) GB", line))
    assert with_flags < needed
    assert "start again with --" in line


def test_the_line_is_of_the_rows_that_were_computed(data, tmp_path, capsys, full):
    full(1)
    line = refusal(data, tmp_path / "run", capsys, "--layout", "packed", "--batch_size", "32")
    rows = int(re.search(r"in a batch of (\d+) x", line)[1])  # type: ignore[index]
    assert rows < 32


def test_cuda_s_own_error_is_too_little_memory(tmp_path):
    tuner, message = make_tuner(tmp_path), "Failed to allocate: CUDA_ERROR_OUT_OF_MEMORY"
    options = dataclasses.replace(tuner.options, precision="float32")
    ended = pytest.raises(OutOfMemory, match=r"out of memory in a batch of")
    with ended, out_of_memory.reported(tuner.steps, options, tmp_path):
        raise tf.errors.InternalError(None, None, message)
    ended = pytest.raises(tf.errors.InternalError, match="of another kind")
    with ended, out_of_memory.reported(tuner.steps, options, tmp_path):
        raise tf.errors.InternalError(None, None, "of another kind")


@pytest.mark.parametrize("more", [[], ["--seeds", "2"]], ids=["one seed", "seeds"])
def test_a_new_run_is_taken_away(data, tmp_path, capsys, full, more):
    full(1)
    refusal(data, tmp_path / "run", capsys, *more)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_stays(data, tmp_path, capsys, full):
    (tmp_path / "run").mkdir()
    full(1)
    refusal(data, tmp_path / "run", capsys)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.slow
def test_an_overwritten_run_comes_back(data, tmp_path, capsys, full):
    run_dir = tmp_path / "run"
    flags = [*FLAGS, "--dataset_dir", str(data), "--output_dir", str(run_dir)]
    assert train.main(flags) == 0
    before = snapshot(run_dir)
    full(1)
    assert train.main([*flags, "--overwrite"]) == 2
    assert "error: out of memory" in capsys.readouterr().err
    assert snapshot(run_dir) == before


@pytest.mark.slow
def test_a_run_that_has_a_checkpoint_keeps_it_and_changes_only_what_it_may(
    data, tmp_path, capsys, full, monkeypatch
):
    monkeypatch.setattr(out_of_memory, "MARGIN", 1.0)  # of so small a model it saves little
    with monkeypatch.context() as patch:
        full(2, patch)
        line = refusal(data, tmp_path / "run", capsys, "--checkpoint_steps", "1")
    assert "--resume with --rematerialize, which" in line
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))
    flags = [*FLAGS, "--dataset_dir", str(data), "--output_dir", str(tmp_path / "run")]
    assert train.main([*flags, "--checkpoint_steps", "1", "--resume", "--rematerialize"]) == 0


def test_a_disk_that_is_full_of_what_was_compiled_is_not_taken_for_memory_and_ends_no_run(
    data, tmp_path, capsys, full, monkeypatch
):
    message = (
        "/home/x/xla_compile_cache__1__2__XLA_GPU_JIT.pb.tmp; No space left on device\n [Op:f]"
    )
    with monkeypatch.context() as patch:
        full(2, patch, message)
        line = refusal(data, tmp_path / "run", capsys, "--checkpoint_steps", "1")
    assert re.search(r"No space left on device\): \S+_directory= before the command", line)
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


@pytest.mark.parametrize(
    ("cards", "names", "one", "found"),
    [
        ([H100, K80], ["NVIDIA H100"], False, usable(80e9, (9, 0))),  # TensorFlow leaves K80s out
        ([H100, T4], ["NVIDIA H100", "Tesla T4"], False, usable(16e9, (7, 5))),
        ([H100, T4], ["NVIDIA H100", "Tesla T4"], True, usable(80e9, (9, 0))),
        ([H100._replace(total=None)], ["NVIDIA H100"], False, math.inf),
        ([H100], ["NVIDIA H100 MIG 1g.10gb"], False, math.inf),
    ],
)
def test_a_gpu_s_memory_is_of_those_that_are_used_where_it_is_known(
    monkeypatch, cards, names, one, found
):
    monkeypatch.setattr(out_of_memory, "uses_gpu", lambda: True)
    monkeypatch.setattr(nvidia, "driver", lambda: Driver((12, 4), cards))
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: names)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda name: {"device_name": name}
    )
    assert out_of_memory.memory_of_a_device(one) == found


def test_ways_begin_with_what_was_asked_and_take_less_in_parts():
    update = Update(GPT2Config.from_size("124M"), LoRAConfig(8), 8, 256, devices=2)
    asked = Way("float32", 2)
    ways = list(update.ways(asked))
    assert ways[0] == asked
    assert [way.accumulation for way in ways[:2]] == [2, 4]
    assert len(set(ways)) == len(ways)
    assert {way.precision for way in ways} == {"float32", "bfloat16"}
    sizes = [update.memory(way).total for way in ways[:2]]
    assert sizes == sorted(sizes, reverse=True)


def test_a_gpu_counts_tensors_alone_as_they_were_measured(monkeypatch):
    """The peaks of 124M in bfloat16 on an H200, of which the estimate was made.

    All scores were there at once then, and fewer rows of logits.
    """
    choices = dataclasses.replace(memory.GPU, logit_rows={2: 192}, attention_blocks_from=None)
    monkeypatch.setattr(memory, "GPU", choices)
    for length, measured in ((256, 1372), (1024, 7598)):
        update = Update(GPT2Config.from_size("124M"), LoRAConfig(8), 8, length, gpu=True)
        found = update.memory(Way("bfloat16"))
        assert found.runtime == 0
        assert found.total / 2**20 == pytest.approx(measured, rel=0.02)


def test_tensorflow_leaves_newer_cards_more():
    sizes = [usable(16e9, (major, 0)) for major in (6, 7, 8, 9)]
    assert sizes == sorted(sizes, reverse=True)
    assert 13.5e9 < usable(15360 * 2**20, (7, 5)) < 14.7e9  # a T4's 13,942 MiB
    assert usable(1e9, (9, 0)) == 0
    assert usable(16e9, None) == usable(16e9, (12, 0)) == usable(16e9, (9, 0))

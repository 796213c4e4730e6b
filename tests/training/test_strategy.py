"""Devices and processes are those asked for, or one line says why they cannot be."""

import json

import pytest
from script_runs import refused

from classification_tuning import train
from gpt2_tuning.cluster import VARIABLE, Cluster, is_chief
from gpt2_tuning.errors import UserError
from gpt2_tuning.training.strategy import make_strategy

ADDRESSES = ["10.0.0.1:2222", "10.0.0.2:2222"]


def config(job="worker", index=0, **cluster):
    return json.dumps(
        {"cluster": cluster or {"worker": ADDRESSES}, "task": {"type": job, "index": index}}
    )


BAD = {
    "": "needs the environment variable TF_CONFIG",
    "{'cluster'": "TF_CONFIG is not understood",
    "[]": "TF_CONFIG is not understood",
    '{"cluster": {"worker": ["a:1"]}}': "no 'task'",
    '{"task": {"type": "worker", "index": 0}}': "no 'cluster'",
    config(index=2): "the cluster has no worker 2",
    config(job="ps"): "the cluster has no ps 0",
    config(worker=["10.0.0.1"]): "'10.0.0.1' is not HOST:PORT",
    config(worker=ADDRESSES, ps=ADDRESSES): "'ps' takes no part",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_cluster_is_one_line_before_anything_is_written(tmp_path, monkeypatch, capsys, text):
    monkeypatch.setenv(VARIABLE, text)
    run_dir = tmp_path / "run"
    line = refused(train.main, capsys, "--strategy", "multi_worker", "--output_dir", run_dir)
    assert BAD[text] in line
    assert not run_dir.exists()


def test_a_cluster_survives_its_own_description():
    cluster = Cluster(tuple(ADDRESSES), 1)
    assert Cluster.from_environment({VARIABLE: cluster.as_json()}) == cluster


def test_a_chief_of_its_own_comes_first(monkeypatch):
    jobs = {"worker": ADDRESSES[1:], "chief": ADDRESSES[:1]}
    expected = {("chief", 0): 0, ("worker", 0): 1}
    for (job, index), place in expected.items():
        text = config(job, index, **jobs)
        assert Cluster.from_environment({VARIABLE: text}) == Cluster(tuple(ADDRESSES), place)
        monkeypatch.setenv(VARIABLE, text)
        assert is_chief("multi_worker") == (place == 0)
        assert is_chief("mirrored")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--strategy", "mirrored", "--logical_devices", "0"],
            "--logical_devices must be at least",
        ),
        (["--strategy", "mirrored", "--logical_devices", "two"], "--logical_devices"),
        (["--logical_devices", "2"], "--logical_devices needs --strategy mirrored"),
        (["--gradient_accumulation", "0"], "--gradient_accumulation must be at least 1"),
        (["--strategy", "multi_worker"], "needs --output_dir"),
        (["--strategy", "multi_worker", "--output_dir", "x", "--seeds", "2"], "--seeds above 1"),
    ],
)
def test_flags_that_cannot_be_are_one_line(monkeypatch, capsys, flags, message):
    monkeypatch.setenv(VARIABLE, config())
    assert message in refused(train.main, capsys, *flags)


@pytest.mark.usefixtures("cpu_alone")
def test_devices_cannot_be_divided_once_in_use():
    """Here they are two: conftest.py divided them before TensorFlow started."""
    assert make_strategy("mirrored", 2).num_replicas_in_sync == 2
    with pytest.raises(UserError, match="--logical_devices 3 comes too late"):
        make_strategy("mirrored", 3)

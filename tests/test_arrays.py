"""Files of weights: who may read them, and what is said of one that cannot be read."""

import os
import stat

import keras
import numpy as np
import pytest
from lora_models import SMALL, small_model

from gpt2_tuning.arrays import opened, save_arrays
from gpt2_tuning.errors import UserError
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.small_files import read_json
from gpt2_tuning.training.checkpoint import Checkpoints
from gpt2_tuning.training.progress import Progress

NOBODY = 65534


@pytest.fixture
def masked(request):
    """The umask of the test's parameter while the test runs."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture(scope="module")
def model():
    return small_model(GPT2Model, SMALL, {"rank": 2})


def save_checkpoint(directory):
    variables = [keras.Variable(np.ones(3))]
    checkpoints = Checkpoints(directory, variables, variables, {})
    progress = Progress(best=1)
    checkpoints.save_best(progress)
    checkpoints.save(progress, done=1)


@pytest.mark.parametrize("masked", [0o022, 0o077], indirect=True, ids=oct)
@pytest.mark.parametrize("kind", ["adapter", "model", "checkpoint"])
def test_files_of_weights_follow_the_umask(model, tmp_path, masked, kind):
    save = {
        "adapter": model.save_adapter,
        "model": model.save_pretrained,
        "checkpoint": save_checkpoint,
    }[kind]
    save(tmp_path / "saved")
    files = [path for path in (tmp_path / "saved").rglob("*") if path.is_file()]
    assert sum(path.suffix == ".safetensors" for path in files) == 1 + (kind == "checkpoint")
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~masked}


def test_a_file_that_may_not_be_read_is_not_said_to_be_missing(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # nobody may not walk through the directories above
    for path in (tmp_path / "model.safetensors", tmp_path / "config.json"):
        save_arrays(path, {"a": np.zeros(2)})
        path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        for read in (lambda path: opened(path).__enter__(), read_json):
            name = "config.json" if read is read_json else "model.safetensors"
            with pytest.raises(UserError, match=f"{name} may not be read: permission denied"):
                read(tmp_path.__class__(name))
    finally:
        if root:
            os.seteuid(0)

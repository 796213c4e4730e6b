"""What PyTorch's side writes, for the tests that compare with it."""

import numpy as np
import pytest
from parity.torch_runs import run_torch_side


@pytest.fixture(scope="module")
def theirs(request, tmp_path_factory):
    """A directory of PyTorch's bases and PEFT's adapters, what they compute, and of what inputs.

    The module's SIDE is the script that writes them.
    """
    directory = tmp_path_factory.mktemp("theirs")
    run_torch_side("write", directory, request.module.SIDE)
    with np.load(directory / "outputs.npz") as found, np.load(directory / "inputs.npz") as inputs:
        return directory, dict(found), dict(inputs)

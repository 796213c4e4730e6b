"""The same numbers from PyTorch, transformers and PEFT, for bases and adapters, both ways.

PyTorch runs in an interpreter of its own (`make test-parity` names it in PARITY_PYTHON) and the
two halves meet in files alone. So TensorFlow and PyTorch never share a process, where some builds
of them crash; each side keeps the transformers version it needs; and only what is really on disk
can make a test pass.
"""

import json

import numpy as np
import pytest
from lora_models import small_model
from parity.cases import CASES, CLASSES, LORAS, SHAPE, TASKS
from parity.torch_runs import NEEDS_TORCH, run_torch_side

from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.formats.adapters import read_adapter_config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.gpt2_model import GPT2Model

TOLERANCE = 1e-4

pytestmark = NEEDS_TORCH


def model_class(task):
    ours = {"GPT2Model": GPT2Model, "GPT2LMHeadModel": GPT2LanguageModel}
    return ours.get(task, GPT2Classifier)


def arguments(task):
    return {"num_classes": CLASSES} if model_class(task) is GPT2Classifier else {}


def outputs(model, directory):
    with np.load(directory / "inputs.npz") as inputs:
        return np.asarray(model(dict(inputs), training=False))


def largest_difference(ours, theirs, directory):
    """Over real tokens: what stands at padding is nobody's business."""
    assert ours.shape == theirs.shape
    difference = np.abs(ours - theirs)
    if difference.ndim == 3:
        with np.load(directory / "inputs.npz") as inputs:
            difference = difference[inputs["attention_mask"] == 1]
    return difference.max()


@pytest.fixture(scope="module")
def peft_wrote(tmp_path_factory):
    """A directory of PyTorch's bases and PEFT's adapters, and what they compute there."""
    directory = tmp_path_factory.mktemp("peft")
    run_torch_side("write", directory)
    with np.load(directory / "outputs.npz") as theirs:
        return directory, dict(theirs)


@pytest.fixture(scope="module")
def we_wrote(tmp_path_factory, peft_wrote):
    """A directory of our bases, adapters and merged models, and what both sides compute."""
    directory, ours, layers = tmp_path_factory.mktemp("ours"), {}, {}
    (directory / "inputs.npz").write_bytes((peft_wrote[0] / "inputs.npz").read_bytes())
    for task, name in CASES:
        case = f"{task}-{name}"
        config = GPT2Config(**SHAPE)
        model = small_model(model_class(task), config, LORAS[name], **arguments(task))
        ours[case], layers[case] = outputs(model, directory), list(model.lora_layers())
        with model.disable_lora():
            ours[task] = outputs(model, directory)
        model.save_adapter(directory / "adapters" / case)
        model.save_pretrained(directory / "base" / task)  # the same for every LoRA case
        model.merge_and_export(directory / "merged" / case)
    run_torch_side("read", directory)
    with np.load(directory / "read.npz") as theirs:
        return directory, ours, dict(theirs), layers


@pytest.mark.parametrize("task", TASKS)
def test_a_base_from_transformers_computes_the_same_here(peft_wrote, task):
    directory, theirs = peft_wrote
    model = model_class(task).from_pretrained(directory / "base" / task, **arguments(task))
    assert largest_difference(outputs(model, directory), theirs[task], directory) < TOLERANCE


@pytest.mark.parametrize(("task", "name"), CASES)
def test_an_adapter_from_peft_computes_the_same_here(peft_wrote, task, name):
    directory, theirs = peft_wrote
    adapter = directory / "adapters" / f"{task}-{name}"
    lora, extra = read_adapter_config(adapter)
    assert extra.num_classes == arguments(task).get("num_classes")
    model = model_class(task).from_pretrained(
        directory / "base" / task, lora=lora, **arguments(task)
    )
    model.load_adapter(adapter)
    adapted, base = theirs[f"{task}-{name}"], theirs[task]
    assert largest_difference(adapted, base, directory) > 0.1  # else the test would be vacuous
    assert largest_difference(outputs(model, directory), adapted, directory) < TOLERANCE


@pytest.mark.parametrize("task", TASKS)
def test_a_base_from_here_computes_the_same_in_transformers(we_wrote, task):
    directory, ours, theirs, _ = we_wrote
    assert largest_difference(ours[task], theirs[task], directory) < TOLERANCE


@pytest.mark.parametrize(("task", "name"), CASES)
def test_an_adapter_from_here_computes_the_same_in_peft(we_wrote, task, name):
    directory, ours, theirs, layers = we_wrote
    case = f"{task}-{name}"
    hit = json.loads((directory / "adapted.json").read_text())[case]
    assert sorted(hit) == sorted(layers[case])
    assert largest_difference(ours[case], ours[task], directory) > 0.1
    assert largest_difference(ours[case], theirs[case], directory) < TOLERANCE


@pytest.mark.parametrize(("task", "name"), CASES)
def test_a_merged_export_is_the_adapted_model_in_transformers(we_wrote, task, name):
    directory, ours, theirs, _ = we_wrote
    case = f"{task}-{name}"
    assert largest_difference(ours[case], theirs[f"merged-{case}"], directory) < TOLERANCE

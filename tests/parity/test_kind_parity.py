"""Every kind of adapter that PEFT writes computes, and learns, here what it does there.

The kinds are in `kind_cases.py`; PyTorch runs apart, as in `test_peft_parity.py`.
"""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from parity.kind_cases import CASES, CONVERTED, ENDING, FROM_PEFT, SHAPES
from parity.torch_runs import NEEDS_TORCH, run_torch_side

from gpt2_tuning.families import known
from gpt2_tuning.formats.adapter_files import PEFT_PREFIX
from gpt2_tuning.formats.adapters import adapter_variables, read_adapter_config
from gpt2_tuning.models.language_model import LanguageModel

SIDE = "kind_torch_side.py"
TOLERANCE = 2e-5
"""Of a difference, as a share of the largest number."""

pytestmark = [NEEDS_TORCH, pytest.mark.usefixtures("all_bits")]


def logits(model, inputs):
    return np.asarray(model(inputs, training=False))


def difference(found, expected):
    """The largest, as a share of the largest number."""
    return np.abs(found - expected).max() / np.abs(expected).max()


def apart(found, expected, inputs):
    """The same over real tokens."""
    real = inputs["attention_mask"] == 1
    return difference(found[real], expected[real])


def read(theirs, name, base=None):
    """A model with an adapter of PEFT's."""
    place = theirs[0] / "adapters" / name
    lora, _ = read_adapter_config(place)
    base = theirs[0] / "base" / (base or CASES[name].family)
    model = LanguageModel.from_pretrained(base, lora=lora)
    model.load_adapter(place)
    return model


@pytest.mark.parametrize("name", FROM_PEFT)
def test_an_adapter_from_peft_computes_the_same_here_merged_and_not(theirs, name):
    _, found, inputs = theirs
    model, base = read(theirs, name), found[CASES[name].family]
    assert apart(base, found[name], inputs) > 1e-2  # else the test would be vacuous
    assert apart(logits(model, inputs), found[name], inputs) < TOLERANCE
    with model.disable_lora():
        assert apart(logits(model, inputs), base, inputs) < TOLERANCE
    model.merge()
    assert apart(logits(model, inputs), found[name], inputs) < TOLERANCE
    model.unmerge()
    assert apart(logits(model, inputs), found[name], inputs) < TOLERANCE


@pytest.mark.parametrize("name", CONVERTED)
def test_what_peft_converted_computes_the_same_on_the_plain_base(theirs, name):
    _, found, inputs = theirs
    model = read(theirs, name + ENDING, CASES[name].family)
    assert model.lora.init == "default"
    assert apart(logits(model, inputs), found[name], inputs) < TOLERANCE


@pytest.mark.parametrize("name", FROM_PEFT)
def test_an_adapter_learns_here_what_it_learns_in_peft(theirs, name):
    _, found, inputs = theirs
    model = read(theirs, name)
    model.freeze_all_but_lora()
    names = {id(weight): at for at, weight in adapter_variables(model).items()}
    with tf.GradientTape() as tape:
        real = tf.cast(inputs["attention_mask"], tf.float32)[..., tf.newaxis]
        loss = tf.reduce_sum(tf.tanh(model(inputs, training=False)) * real)
    weights = model.trainable_weights
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    ours = {names[id(w)]: tf.convert_to_tensor(g) for w, g in zip(weights, gradients, strict=True)}
    start = f"{name}/gradient/"
    inner = PEFT_PREFIX + model.family.base_prefix
    wanted = {
        at.removeprefix(start).removeprefix(inner).removeprefix(PEFT_PREFIX): gradient
        for at, gradient in found.items()
        if at.startswith(start)
    }
    assert set(ours) == set(wanted)
    for at, gradient in wanted.items():
        own = ours[at].numpy()
        assert difference(own.T if ".lora_A" in at or ".lora_B" in at else own, gradient) < 1e-4, at


@pytest.fixture(scope="module")
def ours(tmp_path_factory, theirs):
    """What our adapters and merged models compute here, and in transformers and PEFT."""
    directory, computed = tmp_path_factory.mktemp("ours"), {}
    shutil.copy(theirs[0] / "inputs.npz", directory)
    for name, case in CASES.items():
        fields = {"model_type": case.family, **SHAPES[case.family]}
        model = LanguageModel(known.config_of(fields), lora=case.lora).built_now()
        model.save_pretrained(directory / "base" / name)
        computed[f"{name}/base"] = logits(model, theirs[2])
        rng = np.random.default_rng(len(name))
        for variable in adapter_variables(model).values():
            variable.assign(variable + rng.normal(0, 0.2, variable.shape))
        model.save_adapter(directory / "adapters" / name)
        model.merge_and_export(directory / "merged" / name)
        computed[name] = computed[f"{name}/merged"] = logits(model, theirs[2])
    run_torch_side("read", directory, SIDE)
    with np.load(directory / "read.npz") as found:
        return computed, dict(found), theirs[2]


@pytest.mark.parametrize("what", ["", "/merged"], ids=["adapted", "merged"])
@pytest.mark.parametrize("name", CASES)
def test_an_adapter_from_here_computes_the_same_in_transformers_and_peft(ours, name, what):
    computed, found, inputs = ours
    assert apart(computed[f"{name}/base"], computed[name], inputs) > 1e-2
    assert apart(computed[name + what], found[name + what], inputs) < TOLERANCE

"""Adapters mixed on disk here compute what PEFT's add_weighted_adapter makes of the same files."""

import numpy as np
import pytest
from lora_models import small_model
from parity.cases import MIXTURES, SHAPE, SHARES
from parity.torch_runs import NEEDS_TORCH, run_torch_side

from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.formats.mixed_adapters import mix
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel

pytestmark = NEEDS_TORCH

LORA = {"rank": 3, "targets": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]}


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory):
    """The directory of two adapters, and what PEFT's mixtures of them compute."""
    directory = tmp_path_factory.mktemp("mixed")
    mask = np.ones((2, 8), np.int32)
    ids = np.random.default_rng(0).integers(SHAPE["vocab_size"], size=mask.shape).astype("int32")
    np.savez(directory / "inputs.npz", token_ids=ids, attention_mask=mask)
    for name, alpha, seed in (("a", 6, 1), ("b", 2, 2)):
        model = small_model(GPT2LanguageModel, GPT2Config(**SHAPE), {**LORA, "alpha": alpha})
        random = np.random.default_rng(seed)
        for variable in model.lora_weights().values():
            variable.assign(random.normal(0, 0.3, variable.shape))
        model.save_adapter(directory / name)
    model.save_pretrained(directory / "base")
    run_torch_side("mix", directory)
    with np.load(directory / "mixed.npz") as theirs:
        return directory, {"token_ids": ids, "attention_mask": mask}, dict(theirs)


@pytest.mark.parametrize(("method", "density"), MIXTURES)
def test_a_mixture_computes_what_pefts_does(mixtures, method, density):
    directory, inputs, theirs = mixtures
    output = directory / f"{method}-{density}"
    mix([directory / "a", directory / "b"], SHARES, output, method, density)
    model = GPT2LanguageModel.from_pretrained(directory / "base")
    base = np.asarray(model(inputs))
    model.load_adapter(output, name="mixture")
    found = np.asarray(model(inputs))
    assert np.abs(found - base).max() > 0.1
    np.testing.assert_allclose(found, theirs[f"{method}-{density}"], atol=1e-4)

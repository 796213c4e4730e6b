"""A config.json says the same computation in several ways, and another one is refused."""

import pytest

from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import GPT2Config

SHAPE = {"n_layer": 2, "n_embd": 32, "n_head": 4}


@pytest.mark.parametrize(
    "fields",
    [
        {"n_inner": 128},
        {"n_inner": None, "activation_function": "gelu_pytorch_tanh"},
        {"n_ctx": 77, "activation_function": "gelu_new"},
    ],
)
def test_other_words_for_the_same_computation_are_accepted(fields):
    assert GPT2Config.from_dict({**SHAPE, **fields}) == GPT2Config(**SHAPE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_inner": 64}, "config.json has n_inner=64; only None works"),
        ({"activation_function": "gelu"}, "has activation_function='gelu'; only 'gelu_new' works"),
        ({"n_layer": "2"}, "n_layer must be a whole number from 1 to 1000, not '2'"),
        ({"n_layer": 1_000_000}, "n_layer must be a whole number from 1 to 1000, not 1000000"),
        ({"n_embd": None}, "n_embd must be a whole number from 1 to 10000000, not None"),
        ({"resid_pdrop": "0.1"}, r"resid_pdrop must be a number in \[0, 1\), not '0.1'"),
        ({"layer_norm_epsilon": [1]}, r"layer_norm_epsilon must be a number .*, not \[1\]"),
    ],
)
def test_another_computation_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        GPT2Config.from_dict({**SHAPE, **fields})

"""Blocks in a loop give the losses, gradients and masks of blocks one after the other."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from samples import inputs_of, randomize

from gpt2_tuning.families import known
from gpt2_tuning.models.backbone import Backbone
from gpt2_tuning.models.device_choices import CPU, choosing

pytestmark = pytest.mark.usefixtures("all_bits")

LAYERS = 3
GATED: dict[str, Any] = {
    **{"vocab_size": 97, "hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 4},
    **{"num_hidden_layers": LAYERS, "num_key_value_heads": 2, "head_dim": 16},
    **{"attention_dropout": 0.2, "initializer_range": 0.2},
}
SHORT = {"sliding_window": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {
        **{"n_layer": LAYERS, "n_embd": 32, "n_head": 4, "n_positions": 64, "vocab_size": 97},
        **{"embd_pdrop": 0.1, "attn_pdrop": 0.2, "resid_pdrop": 0.2, "initializer_range": 0.2},
    },
    "gpt_neo": {  # its layers differ in their windows
        **{"num_layers": LAYERS, "num_heads": 4, "window_size": 2, "hidden_size": 32},
        **{"attention_types": [[["global", "local", "global"], 1]], "initializer_range": 0.2},
        **{"vocab_size": 97, "max_position_embeddings": 64, "attention_dropout": 0.2},
    },
    "gpt_neox": {  # attention and MLP side by side
        **{"vocab_size": 97, "hidden_size": 32, "intermediate_size": 40},
        **{"num_hidden_layers": LAYERS, "num_attention_heads": 2, "rotary_pct": 0.5},
        **{"hidden_dropout": 0.2, "attention_dropout": 0.2, "initializer_range": 0.2},
    },
    "llama": GATED,
    "mistral": {**GATED, **SHORT},
    "qwen2": {**GATED, **SHORT, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {**GATED, **SHORT, "use_sliding_window": True, "max_window_layers": 1},
}
LORA = {"rank": 2, "dropout": 0.3, "targets": ("all-linear",)}
AT = tf.constant([[1, 3], [0, 1]])
ROUNDED = {"gpt_neo": 5e-5}
"""Its scores are not scaled: where one bit of its embeddings changes, gradients move by 1.6e-5."""
QUICK = [("gpt2", None), ("gpt2", LORA), ("gpt_neo", LORA), ("llama", LORA)]
OTHERS = [(family, LORA) for family in FAMILIES if (family, LORA) not in QUICK]
SLOW = [("llama", None), ("gpt_neo", None), *OTHERS]


def made(family="gpt2", lora=None):
    """A model of which every weight matters; with LoRA that alone is tuned."""
    config = known.config_of({"model_type": family, **FAMILIES[family]})
    model = randomize(Backbone(config, lora=lora).built_now())
    if lora:
        model.freeze_all_but_lora()
    return model


def results(model, looped, compiled=False, **arguments):
    """A training pass's loss, states and gradients, and whether its graph has a loop."""
    inputs = inputs_of([[1, 2, 3, 4], [5, 6]])
    model.transformer.seeds.state.assign([5, 7])

    @tf.function(autograph=False, jit_compile=compiled or None)
    def computed():
        with tf.GradientTape() as tape:
            states = model(inputs, training=True, **arguments)
            weights = tf.reshape(tf.linspace(0.0, 1.0, tf.size(states)), tf.shape(states))
            loss = tf.reduce_sum(states * weights)
        return [loss, states, *tape.gradient(loss, [v.value for v in model.trainable_variables])]

    with choosing(dataclasses.replace(CPU, blocks_in_a_loop=looped)):
        graph = computed.get_concrete_function().graph
        has_loop = any("While" in operation.type for operation in graph.get_operations())
        found = [tf.convert_to_tensor(one).numpy() for one in computed()]
    return found, has_loop


def check(model, tolerance=1e-5, **arguments):
    """Both forms give the same, and one has a loop."""
    (expected, unrolled), (found, looped) = (
        results(model, way, **arguments) for way in (False, True)
    )
    assert looped
    assert not unrolled
    for one, other in zip(found, expected, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one / scale, other / scale, atol=tolerance)
    return expected


@pytest.mark.parametrize(
    ("family", "lora"),
    [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)],
    ids=lambda value: value if isinstance(value, str) else "lora" if value else "full",
)
def test_a_loop_over_stacked_weights_gives_the_unrolled_loss_gradients_and_masks(family, lora):
    model = made(family, lora)
    states = check(model, ROUNDED.get(family, 1e-5))[1]
    model.transformer.seeds.state.assign([5, 8])
    assert np.abs(states - model(inputs_of([[1, 2, 3, 4], [5, 6]]), training=True)).max() > 0.1


@pytest.mark.parametrize(
    ("lora", "arguments"),
    [
        ({**LORA, "use_dora": True}, {}),
        ({**LORA, "init": "pissa"}, {}),
        ({**LORA, "bias": "lora_only"}, {}),
        (LORA, {"at": AT}),
        (None, {"at": AT}),
        (LORA, {"gate": tf.constant([1.0, 0.5])}),
    ],
    ids=["dora", "pissa", "bias", "at", "full-at", "gate"],
)
def test_a_loop_has_what_a_pass_and_its_updates_may_have(lora, arguments):
    check(made(lora=lora), **arguments)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_a_loop_may_keep_the_input_of_each_block_alone(lora):
    model = made(lora=lora)
    kept = check(model)
    model.rematerialize = True
    found, looped = results(model, looped=True)
    assert looped
    for one, other in zip(found, kept, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_a_loop_that_xla_compiles_whole_gives_the_same(lora):
    check(made(lora=lora), tolerance=1e-5, compiled=True)


def added(model):
    model.add_adapter("other", {"rank": 2})
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: made(lora={**LORA, "rank_pattern": {"1.attn.c_attn": 1}}),
        lambda: made(lora={**LORA, "alpha_pattern": {"1.attn.c_attn": 3}}),
        lambda: made(lora={**LORA, "layers": [0, 2]}),
        lambda: added(made(lora=LORA)),
    ],
    ids=["ranks", "scalings", "layers", "several adapters"],
)
def test_what_does_not_fit_a_loop_is_computed_block_by_block(make):
    model = make()
    (expected, _), (found, looped) = (results(model, way) for way in (False, True))
    assert not looped
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_keep_their_names_and_a_loop_trains_with_keras():
    keras.utils.set_random_seed(0)
    model = made(lora=LORA)
    names = [variable.path for variable in model.variables]
    before = [variable.numpy() for variable in model.trainable_variables]
    model.compile(optimizer="sgd", loss=lambda _, states: tf.reduce_mean(states**2))
    with choosing(dataclasses.replace(CPU, blocks_in_a_loop=True)):
        model.train_on_batch(inputs_of([[1, 2, 3, 4], [5, 6]]), tf.zeros([2, 4, 32]))
    assert [variable.path for variable in model.variables] == names
    for old, variable in zip(before, model.trainable_variables, strict=True):
        assert np.abs(old - variable.numpy()).max() > 0

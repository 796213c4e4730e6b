"""Every option of every family computes what transformers computes, and its mistakes are seen.

The cases are in `family_cases.py`; PyTorch runs apart, as in `test_peft_parity.py`.
"""

import dataclasses
import json
import shutil
from typing import Any, cast

import numpy as np
import pytest
import tensorflow as tf
from parity import block_mistakes
from parity.family_cases import CASES, SHAPES, TARGETS
from parity.torch_runs import NEEDS_TORCH, run_torch_side

from gpt2_tuning.data.inputs import Inputs
from gpt2_tuning.families import known
from gpt2_tuning.formats.adapters import read_adapter_config
from gpt2_tuning.inference.choosing import RowValues
from gpt2_tuning.inference.decoders import decoder_of
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.models import block, decoder, rotary
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.training.objective import NextTokens

GREEDY = (
    *("gpt_neo", "gpt_neox", "gpt_neox-in-turn", "llama", "llama-one-shared", "mistral"),
    *("qwen2-windows", "qwen3-all"),
)
"""Every part of a block; cached logits are compared in all cases."""
SIDE = "family_torch_side.py"
TOLERANCE = 1e-5
"""Of a difference, as a share of the largest number."""

pytestmark = [NEEDS_TORCH, pytest.mark.usefixtures("all_bits")]


def inputs_of(inputs, side):
    return {
        "token_ids": tf.constant(inputs[f"{side}_ids"]),
        "attention_mask": tf.constant(inputs[f"{side}_mask"]),
    }


def logits(model, inputs, side="right"):
    return np.asarray(model(inputs_of(inputs, side), training=False))


def difference(found, expected, inputs, side="right"):
    """The largest over real tokens, as a share of the largest number."""
    real = inputs[f"{side}_mask"] == 1
    return np.abs(found - expected)[real].max() / np.abs(expected[real]).max()


# --- the mistakes ----------------------------------------------------------------------------


def zeroed(model, ending, value=0.0):
    """Gives each weight of such a path the value."""
    hits = 0
    for stored in model.family.weights(model.transformer.config):
        if stored.path.endswith(ending):
            variable = model.base_weights()[stored.name]
            variable.assign(np.full(variable.shape, value))
            hits += 1
    assert hits


def heads_in_turn(model):
    """Has query head h read key head h modulo their number, by other places of the queries."""
    config = model.transformer.config
    order = np.arange(config.heads).reshape(config.group, config.kv_heads).T.reshape(-1)
    columns = (order[:, np.newaxis] * config.head_size + np.arange(config.head_size)).reshape(-1)
    for part in model.transformer.blocks:
        attention = part.attention
        attention.query.kernel.assign(attention.query.kernel.numpy()[:, columns])
        attention.out.kernel.assign(attention.out.kernel.numpy()[columns])


def gate_and_up(model):
    for part in model.transformer.blocks:
        gate, up = part.mlp.gate.kernel.numpy(), part.mlp.up.kernel.numpy()
        part.mlp.gate.kernel.assign(up)
        part.mlp.up.kernel.assign(gate)


def neighbours(x, cosines, sines):
    """Channels 2 i and 2 i + 1 are a pair, as in some other families."""
    half = x.shape[-1] // 2
    order = np.arange(2 * half).reshape(half, 2).T.reshape(-1)
    turned = rotary_turned(tf.gather(x, order, axis=-1), cosines, sines)
    return tf.gather(turned, np.argsort(order), axis=-1)


rotary_turned = rotary.turned


def gains_last(patch):
    """Has the gains of queries and keys multiply what is rotated already."""
    gains: list[Any] = []

    def of_each_head(self, x, function, *arguments, compiled):
        heads = tf.reshape(x, [*x.shape[:2], -1, self.config.head_size])
        if function is block.rotated:
            result = block.rotated(heads, arguments[0], compiled=False) * gains.pop(0)
        else:
            result = function(heads) / function.gamma
            gains.append(function.gamma)
        return tf.reshape(result, x.shape)

    patch.setattr(block.Attention, "_of_each_head", of_each_head)


def positions_after_window(patch):
    plain = decoder.positions_of
    patch.setattr(decoder, "positions_of", lambda visible: tf.minimum(plain(visible), 4))


MISTAKES = {
    **block_mistakes.MISTAKES,
    "heads in turn": heads_in_turn,
    "gate and up exchanged": gate_and_up,
    "tied head": lambda model: model.lm_head.embeddings.assign(model.transformer.tokens.embeddings),
    "no query gain": lambda model: zeroed(model, "query_norm.gamma", 1.0),
    "no key gain": lambda model: zeroed(model, "key_norm.gamma", 1.0),
}
"""Wrong weights, by what is wrong with them; `no ... bias` is understood."""
PATCHES = {
    **block_mistakes.PATCHES,
    "neighbours rotated": lambda patch: patch.setattr(rotary, "turned", neighbours),
    "gains after rotation": gains_last,
    "positions after the window": positions_after_window,
}
"""A wrong computation."""


def mistaken(mistake, place, tmp_path, patch):
    """The model of a case with a mistake in it."""
    if isinstance(mistake, dict):
        shutil.copytree(place, tmp_path / "other")
        config = tmp_path / "other" / "config.json"
        fields = json.loads(config.read_text())
        assert {**fields, **mistake} != fields
        config.write_text(json.dumps({**fields, **mistake}))
        return LanguageModel.from_pretrained(tmp_path / "other")
    model = LanguageModel.from_pretrained(place)
    if mistake in PATCHES:
        PATCHES[mistake](patch)
    elif mistake == "scores scaled":
        for part in model.transformer.blocks:
            config = part.attention.config
            part.attention.config = dataclasses.replace(config, score_scale=config.head_size**-0.5)
    elif mistake in MISTAKES:
        MISTAKES[mistake](model)
    else:
        zeroed(model, mistake.removeprefix("no ").replace(" bias", ".bias"))
    return model


# --- bases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers_on_either_side_of_padding(theirs, name):
    directory, found, inputs = theirs
    model = LanguageModel.from_pretrained(directory / "base" / name)
    for side in ("right", "left"):
        ours = logits(model, inputs, side)
        assert difference(ours, found[f"{name}/{side}"], inputs, side) < TOLERANCE, side


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        pytest.param(name, mistake, id=f"{name}-{mistake}")
        for name, case in CASES.items()
        for mistake in case.mistakes
    ],
)
def test_the_comparison_of_logits_sees_a_mistake(theirs, name, mistake, tmp_path, monkeypatch):
    directory, found, inputs = theirs
    model = mistaken(mistake, directory / "base" / name, tmp_path, monkeypatch)
    assert difference(logits(model, inputs), found[f"{name}/right"], inputs) > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["qwen2-windows", "qwen3-all"])
def test_layers_that_config_json_does_not_name_have_the_windows_of_transformers(theirs, name):
    fields = json.loads((theirs[0] / "base" / name / "config.json").read_text())
    assert set(fields["layer_types"]) == {"full_attention", "sliding_attention"}
    windows = known.config_of(fields).decoder.windows
    assert known.config_of({**fields, "layer_types": None}).decoder.windows == windows


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_are_those_of_transformers(theirs, name):
    directory, found, inputs = theirs
    model = LanguageModel.from_pretrained(directory / "base" / name)
    ids, mask = inputs["right_ids"], inputs["right_mask"]
    batch = inputs_of(inputs, "right")
    batch["target_positions"] = tf.constant(np.tile(np.arange(13, dtype=np.int32), (3, 1)))
    targets = tf.constant(ids[:, 1:])
    weights = tf.constant(mask[:, 1:] / mask[:, 1:].sum(), tf.float32)

    @tf.function(autograph=False)
    def loss_and_gradients():
        with tf.GradientTape() as tape:
            loss, _ = NextTokens(model).sums(batch, targets, weights, training=True)
        variables = model.base_weights()
        values = [variable.value for variable in variables.values()]
        return loss, dict(zip(variables, tape.gradient(loss, values), strict=True))

    loss, gradients = loss_and_gradients()
    np.testing.assert_allclose(loss, found[f"{name}/loss"], rtol=TOLERANCE)
    transposed = {s.name for s in model.family.weights(model.transformer.config) if s.transposed}
    for at, gradient in gradients.items():
        prefix = "" if at == model.family.head else model.family.base_prefix
        expected = found[f"{name}/gradient/{prefix}{at}"]
        ours = tf.convert_to_tensor(gradient).numpy()
        ours = ours.T if at in transposed else ours
        scale = max(np.abs(expected).max(), 1e-4)  # a key's bias of all heads alike has none
        assert np.abs(ours - expected).max() / scale < 10 * TOLERANCE, at


@pytest.mark.parametrize("name", CASES)
def test_packed_and_cached_tokens_have_the_logits_of_transformers(theirs, name):
    directory, found, inputs = theirs
    model = LanguageModel.from_pretrained(directory / "base" / name)
    lengths = inputs["right_mask"].sum(axis=1)
    ids = np.concatenate([row[:n] for row, n in zip(inputs["right_ids"], lengths, strict=True)])
    segments = np.repeat(np.arange(1, 4), lengths)
    packed = {"token_ids": ids[np.newaxis], "segment_ids": segments[np.newaxis].astype("int32")}
    expected = np.concatenate(
        [row[:n] for row, n in zip(found[f"{name}/right"], lengths, strict=True)]
    )
    ours = np.asarray(model({key: tf.constant(value) for key, value in packed.items()}))[0]
    assert np.abs(ours - expected).max() / np.abs(expected).max() < TOLERANCE
    left, cache, parts = inputs_of(inputs, "left"), model.empty_cache(3, 16), []
    for first, last in ((0, 6), (6, 7), (7, 11), (11, 14)):
        part = {key: value[:, first:last] for key, value in left.items()}
        hidden, cache = model.extend(cast(Inputs, part), cache)
        parts.append(hidden)
    ours = np.asarray(tf.concat(parts, 1) @ tf.transpose(model.table()))
    assert difference(ours, found[f"{name}/left"], inputs, "left") < TOLERANCE


@pytest.mark.parametrize("name", GREEDY)
def test_greedy_tokens_are_those_of_transformers(theirs, name):
    directory, found, inputs = theirs
    model = LanguageModel.from_pretrained(directory / "base" / name)
    tokens = decoder_of(model, 97, ends=[97])
    prompts = [
        row[mask == 1].tolist()
        for row, mask in zip(inputs["left_ids"], inputs["left_mask"], strict=True)
    ]
    values = RowValues.of([Generation(max_new_tokens=8)] * 3)
    weights = tokens.weights()
    state = tokens.start(weights, prompts, range(3), values)
    first = state.tokens.numpy()[:, np.newaxis]
    more, _ = tokens.extend(weights, state, 7)
    np.testing.assert_array_equal(np.concatenate([first, more], 1), found[f"{name}/greedy"])


@pytest.mark.parametrize("family", SHAPES)
def test_a_classifier_is_that_of_transformers(theirs, family):
    directory, found, inputs = theirs
    model = Classifier.from_pretrained(directory / "classifier" / family)
    batch = inputs_of({**inputs, "right_ids": inputs["right_ids"] % 96}, "right")
    ours, expected = np.asarray(model(batch)), found[f"{family}/classes"]
    assert np.abs(ours - expected).max() / np.abs(expected).max() < TOLERANCE


# --- adapters and exports --------------------------------------------------------------------

ADAPTED = [(family, number) for family in TARGETS for number in range(len(TARGETS[family]))]


@pytest.mark.parametrize(("family", "number"), ADAPTED)
def test_an_adapter_from_peft_computes_the_same_here(theirs, family, number):
    directory, found, inputs = theirs
    name = f"{family}-{number}"
    lora, _ = read_adapter_config(directory / "adapters" / name)
    model = LanguageModel.from_pretrained(directory / "adapted" / name, lora=lora)
    base = logits(model, inputs)
    model.load_adapter(directory / "adapters" / name)
    expected = found[f"{name}/adapted"]
    assert difference(base, expected, inputs) > 1e-2  # else the test would be vacuous
    assert difference(logits(model, inputs), expected, inputs) < TOLERANCE


@pytest.fixture(scope="module")
def ours(tmp_path_factory, theirs):
    """What our bases, adapters and merged models compute here and in transformers and PEFT."""
    directory, computed = tmp_path_factory.mktemp("ours"), {}
    shutil.copy(theirs[0] / "inputs.npz", directory)
    for family, number in ADAPTED:
        name, targets = f"{family}-{number}", TARGETS[family][number]
        targets = (targets,) if isinstance(targets, str) else targets
        lora = {"rank": 4, "alpha": 6, "targets": targets}
        fields = {"model_type": family, **SHAPES[family]}
        model = LanguageModel(known.config_of(fields), lora=lora).built_now()
        rng = np.random.default_rng(number)
        for variable in model.weights:
            variable.assign(variable + rng.normal(0, 0.2, variable.shape))
        model.save_pretrained(directory / "base" / name)
        model.save_adapter(directory / "adapters" / name)
        model.merge_and_export(directory / "merged" / name)
        computed[f"{name}/adapted"] = computed[f"{name}/merged"] = logits(model, theirs[2])
        with model.disable_lora():
            computed[f"{name}/base"] = logits(model, theirs[2])
    run_torch_side("read", directory, SIDE)
    with np.load(directory / "read.npz") as found:
        return computed, dict(found), theirs[2]


@pytest.mark.parametrize("what", ["base", "adapted", "merged"])
@pytest.mark.parametrize(("family", "number"), ADAPTED)
def test_what_is_written_here_computes_the_same_in_transformers_and_peft(
    ours, family, number, what
):
    computed, found, inputs = ours
    name = f"{family}-{number}/{what}"
    assert difference(computed[name], found[name], inputs) < TOLERANCE

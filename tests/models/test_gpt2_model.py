"""The forward pass: parity with transformers, and one rule for padded, packed, cached input."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from samples import inputs_of, randomize

from gpt2_tuning.data.inputs import Inputs
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models import attention, block, kernels, norm
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.models.inputs import visible_tokens

pytestmark = pytest.mark.usefixtures("all_bits")


@pytest.fixture
def model(small_config):
    return randomize(GPT2Model(small_config).built_now())


@pytest.fixture(scope="module")
def tf_model(transformers):
    """A random TFGPT2Model whose every weight matters."""
    config = transformers.GPT2Config(
        n_layer=3, n_embd=32, n_head=4, vocab_size=101, n_positions=40, initializer_range=0.2
    )
    model = transformers.TFGPT2Model(config)
    model.build()
    rng = np.random.default_rng(1)
    for variable in model.weights:
        if "gamma" in variable.name:
            variable.assign(rng.normal(1, 0.3, variable.shape))
        elif "bias" in variable.name or "beta" in variable.name:
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def their_states(tf_model, inputs):
    return tf_model(
        input_ids=inputs["token_ids"], attention_mask=inputs["attention_mask"]
    ).last_hidden_state.numpy()


def parity_error(tf_model, inputs, theirs):
    """Largest difference of hidden states at real tokens, relative to the largest of them."""
    ours = GPT2Model(GPT2Config.from_dict(tf_model.config.to_dict()))
    ours.load_tf_gpt2(tf_model)
    mask = inputs["attention_mask"].numpy()[..., np.newaxis]
    return np.abs((ours(inputs).numpy() - theirs) * mask).max() / np.abs(theirs * mask).max()


def random_rows(lengths, vocabulary=97, seed=3):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, vocabulary, length).tolist() for length in lengths]


@pytest.mark.parametrize("lengths", [[17, 17], [17, 9, 1]], ids=["full", "padded"])
def test_hidden_states_equal_transformers(tf_model, lengths):
    inputs = inputs_of(random_rows(lengths, 101))
    assert parity_error(tf_model, inputs, their_states(tf_model, inputs)) < 1e-5


@pytest.mark.parametrize("fault", ["exact gelu", "no mask", "no scale"])
def test_parity_test_sees_a_wrong_model(tf_model, monkeypatch, fault):
    """The bound of the parity test is tight enough to notice each of the usual mistakes."""
    inputs = inputs_of(random_rows([17, 9, 1], 101))
    theirs = their_states(tf_model, inputs)
    if fault == "exact gelu":
        exact = tf.nn.gelu
        monkeypatch.setattr(kernels.tf.nn, "gelu", lambda x, approximate: exact(x))
    elif fault == "no mask":
        monkeypatch.setattr(attention, "MASKED", 0.0)
    else:
        softmax = tf.nn.softmax
        monkeypatch.setattr(attention.tf.nn, "softmax", lambda scores: softmax(scores * 8**0.5))
    assert parity_error(tf_model, inputs, theirs) > 1e-4


@pytest.mark.parametrize("size", ["124M"])
def test_124m_has_its_number_of_parameters(size):
    config = GPT2Config.from_size(size)
    model = GPT2Model(config).built_now()
    assert sum(int(np.prod(weight.shape)) for weight in model.weights) == 124_439_808


def test_padding_changes_nothing(model):
    rows = random_rows([5, 11, 8])
    mixed = model(inputs_of(rows, length=20)).numpy()
    for index, row in enumerate(rows):
        alone = model(inputs_of([row])).numpy()[0]
        np.testing.assert_allclose(mixed[index, : len(row)], alone, atol=1e-5)


def test_what_stands_in_padding_is_never_seen(model):
    rows = random_rows([5, 11])
    zeros, nines = (model(inputs_of(rows, pad=pad)).numpy() for pad in (0, 9))
    np.testing.assert_array_equal(zeros[0, :5], nines[0, :5])


def test_no_token_sees_a_later_one(model):
    row = random_rows([12])[0]
    changed = [*row[:7], (row[7] + 1) % 97, *row[8:]]
    before, after = (model(inputs_of([r])).numpy()[0] for r in (row, changed))
    np.testing.assert_array_equal(before[:7], after[:7])
    assert np.abs(before[7:] - after[7:]).max(axis=1).min() > 1e-3


def test_packed_rows_equal_their_examples_alone(model):
    first, second, third = random_rows([5, 7, 3])
    packed = {
        "token_ids": tf.constant([first + second + third + [0]]),
        "segment_ids": tf.constant([[1] * 5 + [2] * 7 + [3] * 3 + [0]]),
    }
    together = model(packed).numpy()[0]
    for example, start in ((first, 0), (second, 5), (third, 12)):
        alone = model(inputs_of([example])).numpy()[0]
        np.testing.assert_allclose(together[start : start + len(example)], alone, atol=1e-5)


def test_visible_tokens_of_padding_and_of_segments():
    seen = visible_tokens(inputs_of([[1, 2]], length=3)).numpy()[0].astype(int)
    assert seen.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
    packed = Inputs(token_ids=tf.zeros([1, 4]), segment_ids=tf.constant([[1, 1, 2, 0]]))
    seen = visible_tokens(packed).numpy()[0].astype(int)
    assert seen.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("chunks", [[12], [5, 1, 1, 1, 4], [1] * 12])
def test_cached_states_equal_the_full_pass(model, chunks):
    rows = random_rows([12, 12])
    full = model(inputs_of(rows)).numpy()
    cache, start, parts = model.empty_cache(2, 16), 0, []
    for size in chunks:
        part = inputs_of([row[start : start + size] for row in rows])
        states, cache = model.extend(part, cache)
        parts.append(states.numpy())
        start += size
    np.testing.assert_allclose(np.concatenate(parts, axis=1), full, atol=1e-5)
    assert int(cache.filled) == 12


def test_left_padding_changes_nothing_with_a_cache(model):
    long, short = random_rows([9, 4])
    ids = tf.constant([long, [0] * 5 + short])
    mask = tf.constant([[1] * 9, [0] * 5 + [1] * 4])
    inputs = {"token_ids": ids, "attention_mask": mask}
    states, _ = model.extend(inputs, model.empty_cache(2, 10))
    np.testing.assert_allclose(states[1, 5:], model(inputs_of([short]))[0], atol=1e-5)


@pytest.mark.parametrize("rematerialize", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_states_at_some_places_are_those_of_the_full_pass(small_config, training, rematerialize):
    config = dataclasses.replace(small_config, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    model = randomize(GPT2Model(config, lora={"rank": 2}).built_now())
    model.rematerialize = rematerialize
    inputs = inputs_of(random_rows([9, 5]))
    at = tf.constant([[8, 0, 3], [4, 4, 2]])

    def states_and_gradients(**wanted):
        with tf.GradientTape() as tape:
            states = model(inputs, training=training, **wanted)
            if not wanted:
                states = tf.gather(states, at, axis=1, batch_dims=1)
            loss = tf.reduce_sum(tf.square(states))
        gradients = tape.gradient(loss, model.trainable_variables)
        return states, [tf.convert_to_tensor(gradient) for gradient in gradients]

    states, gradients = tf.function(states_and_gradients, autograph=False)(at=at)
    expected, true_gradients = tf.function(states_and_gradients, autograph=False)()
    np.testing.assert_allclose(states, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(gradients, true_gradients, strict=True):
        scale = tf.reduce_max(tf.abs(other))
        np.testing.assert_allclose(one / scale, other / scale, atol=1e-5)


def test_a_classifiers_last_block_computes_one_place_a_row(small_config, monkeypatch):
    """All others of its states are dropped anyway."""
    seen = []
    real = block.MLP.call

    def spy(self, x, *rest, **more):
        seen.append(x.shape)
        return real(self, x, *rest, **more)

    monkeypatch.setattr(block.MLP, "call", spy)
    GPT2Classifier(small_config, 3)(inputs_of(random_rows([9, 5])))
    assert [shape[1] for shape in seen] == [9] * (small_config.n_layer - 1) + [1]


RATES = {"embd_pdrop": 0.2, "attn_pdrop": 0.5, "resid_pdrop": 0.3}


@pytest.fixture
def dropping(small_config, monkeypatch):
    """A config with a rate of its own for every kind of dropout, and LayerNorms that do nothing."""
    monkeypatch.setattr(norm.LayerNorm, "call", lambda self, x, compiled=False: x)
    return dataclasses.replace(small_config, n_layer=1, **RATES)


def test_each_dropout_of_a_block_has_its_own_rate(dropping):
    """Embeddings add 1 to the stream, attention 10 and the MLP 100, as far as they are kept."""
    model = GPT2Model(dropping).built_now()
    for weight in model.weights:
        weight.assign(tf.zeros_like(weight))
    width = dropping.n_embd
    first, tokens = model.transformer.blocks[0], model.transformer.tokens
    tokens.embeddings.assign(tf.ones_like(tokens.embeddings))
    first.attention.qkv.bias.assign([0.0] * 2 * width + [10.0] * width)
    first.attention.out.kernel.assign(tf.eye(width))
    first.mlp.down.bias.assign([100.0] * width)
    # Of the first token, which sees itself alone: its weight in attention is there or not.
    stream = model(inputs_of([[1, 2]] * 1000), training=True).numpy()[:, 0]
    embeddings = 1 / (1 - RATES["embd_pdrop"])
    mlp = 100 / (1 - RATES["resid_pdrop"])
    attended = 10 / (1 - RATES["attn_pdrop"]) / (1 - RATES["resid_pdrop"])
    of_mlp = stream > 50
    rest = stream - of_mlp * mlp
    of_attention = rest > 5
    rest -= of_attention * attended
    of_embeddings = rest > 0.5
    np.testing.assert_allclose(rest, of_embeddings * embeddings, atol=1e-3)
    # A head's weight is dropped for all of its channels, what it writes into the stream for one.
    by_head = of_attention.reshape(-1, dropping.n_head, dropping.head_size)
    heads = by_head.any(axis=2)
    dropped = {
        "embeddings": (1 - of_embeddings.mean(), RATES["embd_pdrop"]),
        "attention's weights": (1 - heads.mean(), RATES["attn_pdrop"]),
        "attention's result": (1 - by_head[heads].mean(), RATES["resid_pdrop"]),
        "the MLP's result": (1 - of_mlp.mean(), RATES["resid_pdrop"]),
    }
    for place, (found, rate) in dropped.items():
        assert found == pytest.approx(rate, abs=0.04), place


def test_the_classifiers_dropout_has_the_rate_of_the_residual_ones(dropping):
    """Nothing but embeddings of 1 reaches it, and an identity for the scores shows what it left."""
    config = dataclasses.replace(dropping, embd_pdrop=0.0)
    model = GPT2Classifier(config, config.n_embd).built_now()
    for weight in model.weights:
        weight.assign(tf.zeros_like(weight))
    tokens = model.transformer.tokens
    tokens.embeddings.assign(tf.ones_like(tokens.embeddings))
    model.score.kernel.assign(tf.eye(config.n_embd))
    scores = model(inputs_of([[1, 2]] * 1000), training=True).numpy()
    assert (scores == 0).mean() == pytest.approx(RATES["resid_pdrop"], abs=0.02)
    np.testing.assert_allclose(scores[scores > 0], 1 / (1 - RATES["resid_pdrop"]), rtol=1e-5)


def test_too_many_tokens_are_refused(model):
    with pytest.raises(UserError, match="65 tokens are more than the model's 64"):
        model(inputs_of(random_rows([65])))


def test_config_rebuilds_the_model(small_config):
    model = GPT2Model(small_config, lora={"rank": 2, "alpha": 4})
    again = GPT2Model.from_config(model.get_config())
    assert again.config == model.config
    assert again.lora == model.lora


def test_bfloat16_stays_near_float32(small_config):
    exact = randomize(GPT2Model(small_config).built_now())
    rough = randomize(GPT2Model(small_config, dtype="mixed_bfloat16").built_now())
    inputs = inputs_of(random_rows([9, 5]))
    states = rough(inputs)
    assert states.dtype == tf.bfloat16
    difference = np.abs(tf.cast(states, tf.float32).numpy() - exact(inputs).numpy())
    assert difference.max() / np.abs(exact(inputs).numpy()).max() < 0.05


def test_rematerialized_gradients_are_the_same(small_config):
    """With dropout on: the second pass must drop what the first one did."""
    config = dataclasses.replace(small_config, attn_pdrop=0.2, resid_pdrop=0.2, embd_pdrop=0.2)
    model = randomize(GPT2Model(config, lora={"rank": 2, "dropout": 0.3}).built_now())
    inputs = inputs_of(random_rows([9, 5], config.vocab_size))
    state = model.transformer.seeds.state.numpy()

    def gradients():
        model.transformer.seeds.state.assign(state)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(inputs, training=True)))
        return tape.gradient(loss, model.trainable_variables)

    kept = tf.function(gradients, autograph=False)()
    model.rematerialize = True
    again = tf.function(gradients, autograph=False)()
    for one, other in zip(kept, again, strict=True):
        one, other = tf.convert_to_tensor(one), tf.convert_to_tensor(other)
        scale = tf.reduce_max(tf.abs(one))
        np.testing.assert_allclose(other / scale, one / scale, atol=1e-5)

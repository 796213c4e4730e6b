"""Samplers draw from exactly the distribution they name, and each row for itself."""

import math

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tuning.errors import UserError
from gpt2_tuning.inference import sampling
from gpt2_tuning.inference.sampling import Greedy, Temperature, TopK, TopP, draw, make_sampler

DRAWS = 20_000
TOLERANCE = 0.015  # four standard deviations of a share of one half, and more of any other
PROBABILITIES = [0.2, 0.05, 0.4, 0.1, 0.25]


def seeds_of(rows, seed=0):
    return tf.stack(
        [tf.fill([rows], tf.constant(seed, tf.int64)), tf.range(rows, dtype=tf.int64)], 1
    )


def shares(sampler, probabilities, draws=DRAWS):
    """How often each token is drawn, float [V]."""
    logits = tf.math.log(tf.constant([probabilities], tf.float32))
    choose = tf.function(lambda seeds: sampler.choose(tf.repeat(logits, draws, axis=0), seeds))
    drawn = choose(seeds_of(draws)).numpy()
    return np.bincount(drawn, minlength=len(probabilities)) / draws


def renormalised(probabilities, kept):
    chosen = np.array([p if token in kept else 0 for token, p in enumerate(probabilities)])
    return chosen / chosen.sum()


def test_greedy_takes_the_likeliest_and_of_equals_the_first():
    logits = tf.constant([[0.0, 2.0, 1.0], [3.0, 1.0, 3.0]])
    assert Greedy().choose(logits, seeds_of(2)).numpy().tolist() == [1, 0]


@pytest.mark.parametrize("t", [0.5, 1.0, 2.0])
def test_temperature_draws_from_the_scaled_distribution(t):
    powers = np.array(PROBABILITIES) ** (1 / t)
    np.testing.assert_allclose(
        shares(Temperature(t), PROBABILITIES), powers / powers.sum(), atol=TOLERANCE
    )


@pytest.mark.parametrize("sampler", [Temperature(1e-4), TopK(5, 1e-4), TopP(0.99, 1e-4)])
def test_a_temperature_near_zero_is_greedy(sampler):
    assert shares(sampler, PROBABILITIES, draws=200)[2] == 1


@pytest.mark.parametrize(("k", "kept"), [(1, {2}), (3, {2, 4, 0}), (9, {0, 1, 2, 3, 4})])
def test_top_k_draws_from_the_k_likeliest(k, kept):
    found = shares(TopK(k), PROBABILITIES)
    np.testing.assert_allclose(found, renormalised(PROBABILITIES, kept), atol=TOLERANCE)
    assert {token for token, share in enumerate(found) if share} == kept


@pytest.mark.parametrize(
    ("probabilities", "p", "kept"),
    [
        ([0.5, 0.3, 0.2], 0.6, {0, 1}),
        ([0.5, 0.3, 0.2], 0.5, {0}),
        ([0.5, 0.3, 0.2], 0.79, {0, 1}),
        ([0.5, 0.3, 0.2], 0.81, {0, 1, 2}),
        (PROBABILITIES, 0.7, {2, 4, 0}),
        (PROBABILITIES, 0.01, {2}),
        (PROBABILITIES, 1.0, {0, 1, 2, 3, 4}),
    ],
)
def test_nucleus_is_the_smallest_set_that_reaches_p(probabilities, p, kept):
    found = shares(TopP(p), probabilities)
    np.testing.assert_allclose(found, renormalised(probabilities, kept), atol=TOLERANCE)
    assert {token for token, share in enumerate(found) if share} == kept


def test_nucleus_is_that_of_the_distribution_after_the_temperature():
    # Halved logits make .5 .3 .2 into .415 .322 .263: now .6 needs two and .75 needs three.
    assert np.count_nonzero(shares(TopP(0.75), [0.5, 0.3, 0.2])) == 2
    assert np.count_nonzero(shares(TopP(0.75, t=2.0), [0.5, 0.3, 0.2])) == 3


def test_a_nucleus_beyond_the_candidates_is_still_exact(monkeypatch):
    monkeypatch.setattr(sampling, "NUCLEUS_CANDIDATES", 2)
    found = shares(TopP(0.8), PROBABILITIES)
    np.testing.assert_allclose(found, renormalised(PROBABILITIES, {0, 2, 4}), atol=TOLERANCE)


@pytest.mark.parametrize("sampler", [Temperature(1.0), TopK(40), TopP(0.9)])
def test_a_row_draws_the_same_whatever_the_others_are(sampler):
    logits = tf.random.stateless_normal([6, 2000], [1, 2])
    seeds = seeds_of(6, seed=5)
    together = sampler.choose(logits, seeds).numpy()
    alone = [sampler.choose(logits[i : i + 1], seeds[i : i + 1]).numpy()[0] for i in range(6)]
    assert together.tolist() == alone
    assert together.dtype == np.int32
    assert len(set(together)) > 1
    assert together.tolist() != sampler.choose(logits, seeds_of(6, seed=6)).numpy().tolist()


def test_a_draw_does_not_depend_on_the_order_of_the_candidates():
    """The last bits of the scores, which decide the order of near ties, depend on the batch."""
    scores = tf.random.stateless_normal([50, 30], [1, 2])
    tokens = tf.tile(tf.range(100, 160, 2)[tf.newaxis], [50, 1])
    order = tf.constant(np.random.default_rng(0).permutation(30))
    drawn = draw(scores, seeds_of(50), tokens, 160).numpy()
    scores, tokens = tf.gather(scores, order, axis=1), tf.gather(tokens, order, axis=1)
    assert draw(scores, seeds_of(50), tokens, 160).numpy().tolist() == drawn.tolist()
    assert len(set(drawn)) > 10


def test_flags_become_samplers():
    assert make_sampler() == Greedy()
    assert make_sampler("temperature", temperature=0.7) == Temperature(0.7)
    assert make_sampler("top_k", temperature=0.7, top_k=3) == TopK(3, 0.7)
    assert make_sampler("top_p", temperature=0.7, top_p=0.5) == TopP(0.5, 0.7)


@pytest.mark.parametrize("t", [0, -1.0, math.nan, math.inf, "1"])
@pytest.mark.parametrize("make", [Temperature, lambda t: TopK(1, t), lambda t: TopP(0.5, t)])
def test_bad_temperatures_are_refused(make, t):
    with pytest.raises(UserError, match="temperature must be a number above 0, not"):
        make(t)


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_bad_k_is_refused(k):
    with pytest.raises(UserError, match="top_k must be a whole number of at least 1, not"):
        TopK(k)


@pytest.mark.parametrize("p", [0, -0.1, 1.01, math.nan])
def test_bad_p_is_refused(p):
    with pytest.raises(UserError, match="top_p must be above 0 and at most 1, not"):
        TopP(p)


def test_bad_flags_are_refused_whatever_the_method():
    with pytest.raises(UserError, match="unknown sampling method 'beam': choose one of greedy, t"):
        make_sampler("beam")
    with pytest.raises(UserError, match="temperature"):
        make_sampler("greedy", temperature=0)

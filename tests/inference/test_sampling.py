"""Samplers draw from exactly the distribution they name, and each row for itself."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hostile import within

from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.choosing import RowValues, draw, next_tokens, noise_of
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.inference.sampling import Greedy, Temperature, TopK, TopP

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
    noise = noise_of(seeds_of(50), 160)
    drawn = draw(scores, noise, tokens).numpy()
    scores, tokens = tf.gather(scores, order, axis=1), tf.gather(tokens, order, axis=1)
    assert draw(scores, noise, tokens).numpy().tolist() == drawn.tolist()
    assert len(set(drawn)) > 10


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


def kept_of(scores, generation):
    """Which tokens may be drawn, as transformers' warpers say it, one after the other."""
    scores = np.array(scores, np.float64) / generation.temperature
    order = np.argsort(-scores, kind="stable")
    kept = order[: generation.top_k or None]
    shares = np.exp(scores[kept]) / np.exp(scores[kept]).sum()
    kept = kept[np.cumsum(shares) - shares < generation.top_p]
    kept = kept[np.exp(scores[kept] - scores.max()) >= generation.min_p]
    return kept


MANY = [0.3, 0.2, 0.15, 0.12, 0.1, 0.06, 0.04, 0.03]


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"temperature": 1.0, "min_p": 0.39}, 4),
        ({"temperature": 1.0, "min_p": 0.41}, 3),
        ({"temperature": 1.0, "min_p": 1.0}, 1),
        ({"temperature": 2.0, "min_p": 0.41}, 6),  # the share of .06 is .2, and its root .447
        ({"temperature": 1.0, "top_k": 5, "top_p": 0.7}, 3),  # they reach .65 of .87, which is .747
        ({"temperature": 1.0, "top_k": 5, "top_p": 0.9, "min_p": 0.35}, 4),
        ({"temperature": 1.0, "top_p": 0.8, "min_p": 0.6}, 2),
        ({"temperature": 0.5, "top_k": 3, "top_p": 0.99}, 3),
    ],
)
def test_cuts_of_one_row_come_one_after_the_other(values, count):
    order = np.random.default_rng(0).permutation(len(MANY))
    logits = np.log(MANY)[order].astype(np.float32)
    generation = Generation(**values)
    kept = kept_of(logits, generation)
    assert len(kept) == count
    rows, all_logits = RowValues.of([generation]).repeated(DRAWS), np.tile(logits, [DRAWS, 1])
    drawn = tf.function(lambda seeds: next_tokens(all_logits, seeds, rows))(seeds_of(DRAWS))
    found = np.bincount(drawn.numpy(), minlength=len(MANY)) / DRAWS
    powers = np.exp(logits.astype(np.float64) / generation.temperature)
    np.testing.assert_allclose(found, renormalised(powers, set(kept)), atol=TOLERANCE)
    assert set(np.flatnonzero(found)) == set(kept)


@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 8.0])
@pytest.mark.parametrize("coarse", [False, True])
def test_what_is_drawn_is_the_highest_noisy_score_of_those_that_the_cuts_leave(spread, coarse):
    """Without any order for all, the tokens are those of the sorted list; of equals the first."""
    ways = [
        Generation(temperature=1.0, top_k=k, top_p=p, min_p=min_p, seed=k)
        for k in (0, 40)
        for p in (0.0031, 0.1001, 0.5001, 0.9501, 1.0)  # of 3,000 equals no whole number
        for min_p in (0.0, 0.3)
    ] * 6
    logits = spread * np.random.default_rng(0).normal(size=(len(ways), 3000)).astype(np.float32)
    if coarse:
        logits = np.round(logits, 1)  # so that many are equal, as bfloat16's are
    seeds = seeds_of(len(ways))
    noise = noise_of(seeds, logits.shape[1]).numpy().astype(np.float64)
    drawn = tf.function(next_tokens)(tf.constant(logits), seeds, RowValues.of(ways)).numpy()
    for row, way in enumerate(ways):
        kept = kept_of(logits[row], way)
        sums = logits[row, kept] - np.log(-np.log(noise[row, kept]))
        assert drawn[row] == kept[np.argmax(sums)]


def test_scores_that_are_no_numbers_end_the_draw():
    logits, ways = tf.fill([2, 5], math.nan), [Generation(temperature=1.0, top_p=0.5)] * 2
    drawn = next_tokens(logits, seeds_of(2), RowValues.of(ways)).numpy()
    assert ((drawn >= 0) & (drawn < 5)).all()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("p", [1e-30, 1e-40, 5e-324])
def test_a_share_too_small_for_its_type_leaves_the_likeliest(p, compiled):
    """It counts as 0 then, which the share of no tokens reaches: a draw went on for ever."""
    ways = [Generation(temperature=1.0, top_p=p), Generation(temperature=1.0, top_p=p, top_k=5)]
    logits = np.random.default_rng(0).normal(size=(2, 100)).astype(np.float32)
    choose = tf.function(lambda: next_tokens(logits, seeds_of(2), RowValues.of(ways), compiled))
    with within(20):
        drawn = next_tokens(tf.constant(logits), seeds_of(2), RowValues.of(ways), compiled).numpy()
    assert drawn.tolist() == choose().numpy().tolist() == logits.argmax(axis=1).tolist()


def test_a_temperature_that_makes_scores_infinite_leaves_the_likeliest():
    logits = np.array([[1.0, 3.0, 2.0], [-2.0, -1.0, -3.0]], np.float32)
    for field in ({}, {"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.5}):
        ways = [Generation(temperature=1e-38 * 2, **field)] * 2
        drawn = next_tokens(tf.constant(logits * 100), seeds_of(2), RowValues.of(ways)).numpy()
        assert drawn.tolist() == [1, 1]


@pytest.mark.parametrize("compiled", [False, True])
def test_zeros_of_both_signs_are_equals(compiled):
    ways = [Generation(temperature=1.0, top_k=1), Generation(temperature=1.0, top_p=0.1)]
    logits = tf.constant([[-1.0, -0.0, 0.0]] * 2)

    @tf.function(jit_compile=compiled)
    def choose(logits):
        return next_tokens(logits, seeds_of(2), RowValues.of(ways), compiled)

    assert choose(logits).numpy().tolist() == [1, 1]

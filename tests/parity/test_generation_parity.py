"""The next token is drawn from what transformers' processors leave of the scores."""

import numpy as np
import tensorflow as tf
from parity.cases import GENERATIONS
from parity.torch_runs import NEEDS_TORCH, run_torch_side

from gpt2_tuning.inference.choosing import RowValues, gumbel, likeliest, next_tokens, noise_of
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.inference.penalties import penalised

pytestmark = NEEDS_TORCH

ROWS, LENGTH, VOCABULARY = 300, 12, 40


def test_every_way_of_choosing_draws_what_transformers_scores_draw(tmp_path):
    rng = np.random.default_rng(0)
    history = rng.integers(0, VOCABULARY, (ROWS, LENGTH)).astype(np.int32)
    history[:, -3:] = history[:, :3]  # else few n-grams would come twice
    logits = rng.normal(0, 3, (ROWS, VOCABULARY)).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", token_ids=history, logits=logits)
    run_torch_side("score", tmp_path)
    seeds = tf.stack([tf.zeros([ROWS], tf.int64), tf.range(ROWS, dtype=tf.int64)], axis=1)
    noise, tokens = noise_of(seeds, VOCABULARY), []
    with np.load(tmp_path / "scores.npz") as scores:
        for number, fields in enumerate(GENERATIONS):
            values = RowValues.of([Generation(**fields)] * ROWS)
            ours = penalised(logits, history, LENGTH, tf.fill([ROWS], LENGTH), values)
            theirs = tf.constant(scores[str(number)])
            if "temperature" not in fields:
                np.testing.assert_allclose(ours, theirs, rtol=1e-6)
            sums = theirs + gumbel(noise) if "temperature" in fields else theirs
            found = next_tokens(ours, seeds, values).numpy().tolist()
            assert found == likeliest(sums).numpy().tolist(), fields
            tokens.append(found)
    assert len(set(map(tuple, tokens))) == len(GENERATIONS)

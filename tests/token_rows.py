"""Rows for language models, and what their batches supervise."""

import numpy as np

from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.families.gpt2 import END_OF_TEXT


def records_of(*rows):
    """Each row is (tokens, prompt_length)."""
    prompts = np.array([prompt for _, prompt in rows], np.int32)
    return Records.of([tokens for tokens, _ in rows], END_OF_TEXT, prompt_length=prompts)


def random_records(count=80, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        length = int(rng.integers(2, 60))
        # No two examples share a token, so a mix-up shows.
        rows.append(
            (list(range(100 * number, 100 * number + length)), int(rng.integers(1, length)))
        )
    return records_of(*rows)


def targets_of(batch):
    """For each row, its (position, target) pairs of weight 1, in order."""
    found = []
    for positions, targets, weights in zip(
        batch.inputs["target_positions"], batch.targets, batch.weights, strict=True
    ):
        kept = weights == 1
        found.append(list(zip(positions[kept].tolist(), targets[kept].tolist(), strict=True)))
    return found

"""A training step whose blocks are a loop is the plain one, whatever is around the loop."""

import dataclasses

import keras
import numpy as np
import pytest
from samples import randomize

from gpt2_tuning.data.batch_arrays import PlannedBatch, language_model_batch
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.models.device_choices import CPU, choosing
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.training.objective import NextTokens
from gpt2_tuning.training.optimizer import make_optimizer
from gpt2_tuning.training.steps import StepFunctions
from gpt2_tuning.training.strategy import make_strategy

pytestmark = pytest.mark.usefixtures("all_bits")


def trained(config, strategy, loop):
    """The sums of two steps in micro-batches, and the weights after them."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 97, 12).tolist() for _ in range(8)]
    records = Records.of(rows, prompt_length=np.full(8, 3, np.int32))
    batch = language_model_batch(records, PlannedBatch(np.arange(8), 12), 8)
    keras.utils.set_random_seed(0)
    with choosing(dataclasses.replace(CPU, blocks_in_a_loop=loop)):
        strategy = make_strategy(strategy)
        with strategy.scope():
            model = randomize(GPT2LanguageModel(config, lora={"rank": 2}).built_now())
            model.freeze_all_but_lora()
            optimizer = make_optimizer("adamw", 1e-3, 0.01, 10, 0.1)
            optimizer.build(model.trainable_variables)
        steps = StepFunctions(NextTokens(model), strategy, optimizer, accumulation=2)
        sums = np.stack([steps.train(batch).numpy() for _ in range(2)])
    return sums, [variable.numpy() for variable in model.trainable_variables]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["one", "mirrored"])
def test_a_step_whose_blocks_are_a_loop_is_the_plain_one(small_config, strategy):
    config = dataclasses.replace(small_config, n_layer=3, attn_pdrop=0.2, resid_pdrop=0.2)
    (plain_sums, plain), (sums, weights) = (
        trained(config, strategy, loop) for loop in (False, True)
    )
    np.testing.assert_allclose(sums, plain_sums, rtol=1e-5)
    for one, other in zip(weights, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)

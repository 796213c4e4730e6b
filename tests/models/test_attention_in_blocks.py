"""A model whose attention exists block by block is the same, without a score for each pair."""

import dataclasses
import math
import re
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from samples import Descent, randomize

from gpt2_tuning.data.batch_arrays import Batch
from gpt2_tuning.models.device_choices import GPU, choosing
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.training.objective import objective_of
from gpt2_tuning.training.steps import StepFunctions
from gpt2_tuning.training.strategy import make_strategy

pytestmark = [pytest.mark.usefixtures("all_bits"), pytest.mark.slow]
LENGTH = 52
"""No other size of the models below."""
AT_ONCE = dataclasses.replace(GPU, attention_blocks_from=None)
IN_BLOCKS = dataclasses.replace(GPU, attention_block=16, attention_blocks_from=LENGTH)
LORA = {"rank": 2, "targets": ["all-linear"]}
COMMON = {"vocab_size": 97, "hidden_size": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {
        **{"model_type": "gpt2", "vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 2},
        **{"n_positions": 64, "attn_pdrop": 0.0},
    },
    "llama": {
        **{"model_type": "llama", **COMMON, "intermediate_size": 40, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2},
    },
    "gpt_neo": {
        **{"model_type": "gpt_neo", **COMMON, "num_layers": 2, "num_heads": 2},
        **{"max_position_embeddings": 64, "window_size": 5},
        **{"attention_types": [[["global", "local"], 1]]},
    },
}
"""Dropout of attention's weights is left out: with it the forms drop others."""


def batch_of(packed: bool) -> Batch:
    """Three rows, the last of padding alone, with targets all over them."""
    generator = np.random.default_rng(1)
    lengths = np.array([[LENGTH], [LENGTH - 9], [0]])
    real = (np.arange(LENGTH) < lengths).astype(np.int32)
    segments = real * (1 + np.arange(LENGTH) // 20)
    inputs: Any = {
        "token_ids": generator.integers(0, 97, (3, LENGTH)),
        "target_positions": np.sort(generator.integers(0, LENGTH - 9, (3, 8)), axis=1),
        **({"segment_ids": segments} if packed else {"attention_mask": real}),
    }
    inputs = {name: array.astype(np.int32) for name, array in inputs.items()}
    weights = np.ones((3, 8), np.float32) * (lengths > 0)
    return Batch(inputs, generator.integers(0, 97, (3, 8)).astype(np.int32), weights)


def steps_of(family, lora):
    keras.utils.set_random_seed(0)
    model = randomize(LanguageModel(FAMILIES[family], lora=lora).built_now())
    if lora:
        model.freeze_all_but_lora()
    optimizer = Descent(0.1)
    optimizer.build(model.trainable_variables)
    return StepFunctions(objective_of(model), make_strategy("one"), optimizer)


@pytest.mark.parametrize(
    ("family", "packed", "lora"),
    [
        ("gpt2", True, None),
        ("gpt2", False, LORA),
        ("llama", False, LORA),
        ("gpt_neo", True, LORA),
    ],
)
def test_a_step_is_the_same(family, packed, lora):
    batch, found = batch_of(packed), []
    for choices in (AT_ONCE, IN_BLOCKS):
        with choosing(choices):
            steps = steps_of(family, lora)
            sums = [steps.train(batch).numpy(), steps.evaluate(batch).numpy()]
        found.append([*sums, *(variable.numpy() for variable in steps.model.trainable_variables)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def arrays_of(choices, batch):
    """The shapes of all arrays that a compiled step has in memory, not of what is fused."""
    with choosing(choices):
        steps = steps_of("llama", LORA)
        steps.train(batch)
        text = steps._train.traced.experimental_get_compiler_ir(steps.tensors(batch))(
            "optimized_hlo"
        )
    parts = re.split(r"\n(?=\S)", text)
    kept = "\n".join(part for part in parts if not re.match(r"%?\S*fused", part))
    return [
        tuple(int(size) for size in found.split(",") if size)
        for found in re.findall(r"= \w+\[([\d,]*)\]", kept)
    ]


def test_no_array_has_a_place_for_each_pair_of_tokens():
    batch = batch_of(packed=True)
    pairs = LENGTH * LENGTH

    def largest(choices):
        return max(
            math.prod(shape) for shape in arrays_of(choices, batch) if shape.count(LENGTH) > 1
        )

    assert largest(AT_ONCE) >= pairs
    with pytest.raises(ValueError, match="empty"):
        largest(IN_BLOCKS)


def fitted(choices, directory):
    """The losses and weights that Keras's own loop gives; what is exported predicts the same."""
    inputs = {"token_ids": np.random.default_rng(0).integers(0, 97, (4, LENGTH), np.int32)}
    inputs["attention_mask"] = (np.arange(LENGTH) < [[LENGTH], [9], [40], [1]]).astype(np.int32)
    keras.utils.set_random_seed(0)
    with choosing(choices):
        model = randomize(LanguageModel(FAMILIES["gpt2"], lora=LORA).built_now())
        model.freeze_all_but_lora()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.SGD(0.03), loss=loss)
        targets = np.roll(inputs["token_ids"], -1, axis=1)
        history = model.fit(inputs, targets, batch_size=2, epochs=2, shuffle=False, verbose=0)
        predicted = model.predict(inputs, verbose=0)
        model.export(directory, verbose=False)
    exported = tf.saved_model.load(directory)  # which its function lives no longer than
    served = exported.serve({name: tf.constant(array) for name, array in inputs.items()})
    np.testing.assert_allclose(served, predicted, rtol=1e-5, atol=1e-4)
    return history.history["loss"], [weight.numpy() for weight in model.trainable_variables]


def test_so_it_is_in_kerass_loop_and_in_an_export(tmp_path):
    (losses, weights), (expected, of_all) = (
        fitted(choices, tmp_path / name)
        for name, choices in (("blocks", IN_BLOCKS), ("once", AT_ONCE))
    )
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[1] < losses[0]
    # Not what they predict: logits of such weights move by 300 times as much.
    for one, other in zip(weights, of_all, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)

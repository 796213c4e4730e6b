"""A case of the certificate: uneven data, a model with random weights, a handful of steps.

Dropout is off, since every layout would draw other masks; all else is as in training. The
learning rates are those that training takes by default. AdamW divides each gradient by its own
size, so where a gradient is nearly zero its rounding error, not its value, decides the update: the
difference between two layouts is bounded by the error over epsilon (1e-8), times the rate.
"""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.data.batch_arrays import (
    Batch,
    PlannedBatch,
    classification_batch,
    language_model_batch,
    packed_classification_batch,
)
from gpt2_tuning.data.batches import MakeBatch
from gpt2_tuning.data.examples import joined_pair
from gpt2_tuning.data.packed_examples import into_rows
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.training.base_model import learning_rate_of
from gpt2_tuning.training.objective import objective_of
from gpt2_tuning.training.optimizer import make_optimizer
from gpt2_tuning.training.steps import StepFunctions

BATCH_SIZE = 6
"""Not a multiple of four devices, and the last batch of an epoch has fewer rows."""
EXAMPLES = 23
EPOCHS = 2
ROW_LENGTH = 64
PACKED_ROWS, PACKED_LENGTH = 4, 96
CLASSES = 3
WEIGHTS = np.array([0.4, 1.0, 2.5], np.float32)
"""Of the classes, in entailment alone: without them all rows count the same."""
WORD = 50_000
"""Ids below this are drawn at random."""


def batches_of(task: str, packed: bool = False) -> list[Batch]:
    """Rows of very different length and number of supervised tokens, the same in every process.

    Rows are not sorted by length as in training, so that parts of a batch differ the more. Packed
    or not, an update has the same examples.
    """
    rng, tokenizer = np.random.default_rng(0), GPT2Tokenizer()
    lengths = np.minimum(2 + rng.geometric(0.08, EXAMPLES), 48)
    rows = [rng.integers(0, WORD, length).tolist() for length in lengths]
    if task == "instruction":
        make_batch: MakeBatch = language_model_batch
        prompts = rng.integers(1, lengths).astype(np.int32)
        records = Records.of(rows, tokenizer.pad, prompt_length=prompts)
    else:
        make_batch = packed_classification_batch if packed else classification_batch
        if task == "entailment":
            pairs = [(row[::-1], row[: 1 + len(row) // 3]) for row in rows]
            rows = [joined_pair(*pair, ROW_LENGTH, tokenizer.separator) for pair in pairs]
        labels = rng.integers(0, CLASSES, EXAMPLES).astype(np.int32)
        records = Records.of(rows, tokenizer.pad, label=labels)
        if task == "entailment":
            records = records.weighted(WEIGHTS[labels])
    updates = [
        order[start : start + BATCH_SIZE]
        for order in (rng.permutation(EXAMPLES) for _ in range(EPOCHS))
        for start in range(0, EXAMPLES, BATCH_SIZE)
    ]
    if packed:
        planned = [two_a_row(examples, records.lengths, task) for examples in updates]
        return [make_batch(records, one, PACKED_ROWS) for one in planned]
    # With one number of targets the steps are traced once.
    planned = [PlannedBatch(examples, ROW_LENGTH, places=ROW_LENGTH) for examples in updates]
    return [make_batch(records, one, BATCH_SIZE) for one in planned]


def two_a_row(examples: np.ndarray, lengths: np.ndarray, task: str) -> PlannedBatch:
    """An update's examples in PACKED_ROWS rows, two in a row at most."""
    examples = examples[np.argsort(-lengths[examples], kind="stable")]
    row_of = into_rows(lengths[examples][np.newaxis], PACKED_ROWS, 2)[0][0]
    by_row = np.argsort(row_of, kind="stable")
    places = PACKED_LENGTH if task == "instruction" else 2
    return PlannedBatch(examples[by_row], PACKED_LENGTH, row_of[by_row], places=places)


def model_of(task: str, kind: str) -> TunableModel:
    """The `tiny` model with random weights; a LoRA update that is not zero, as in mid-training."""
    keras.utils.set_random_seed(0)
    config = GPT2Config.from_size("tiny", embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    lora = LoRAConfig(8, 16.0, 0.0) if kind == "lora" else None
    model: TunableModel
    if task == "instruction":
        model = GPT2LanguageModel(config, lora=lora).built_now()
    else:
        model = GPT2Classifier(config, CLASSES, lora=lora).built_now()
    if lora:
        model.freeze_all_but_lora()
        rng = np.random.default_rng(1)
        for layer in model.lora_layers().values():
            layer.lora_B.assign(rng.normal(0, 0.02, layer.lora_B.shape))
    return model


def run_case(
    task: str,
    kind: str,
    batches: list[Batch],
    strategy: tf.distribute.Strategy,
    make_steps: Callable[..., StepFunctions],
    path: Path,
) -> None:
    """Trains, evaluates, and writes what can be compared.

    `make_steps` takes the objective, the strategy and the optimizer.

    The file holds the trained weights by path, and float32 arrays:
        train: [steps, 4], what each step returned.
        evaluate: [batches, 3], empty unless LoRA is tuned.
        moved: [1], the largest change of a weight.
        spread: [1], the largest difference between two local replicas' copies of a weight.
    """
    options = TrainOptions(
        pretrained="none", precision="float32", lora_rank=8 if kind == "lora" else 0
    )
    with strategy.scope():
        model = model_of(task, kind)
        rate = learning_rate_of(options)
        optimizer = make_optimizer(
            options.optimizer, rate, options.weight_decay, len(batches), options.warmup_share
        )
        optimizer.build(model.trainable_variables)
    before = [variable.numpy() for variable in model.trainable_variables]
    steps = make_steps(objective_of(model), strategy, optimizer)
    train = [steps.train(batch).numpy() for batch in batches]
    # Where LoRA is evaluated, so is its base: once is enough for a task.
    evaluated = [steps.evaluate(batch).numpy() for batch in batches if kind == "lora"]
    variables = model.trainable_variables
    # Without the model's own name, which Keras numbers.
    after = {variable.path.split("/", 1)[1]: variable.numpy() for variable in variables}
    copies = [strategy.experimental_local_results(variable.value) for variable in variables]
    figures = {
        "train": np.array(train),
        "evaluate": np.array(evaluated, np.float32),
        "moved": largest(zip(before, after.values(), strict=True)),
        "spread": largest((one.numpy(), copy.numpy()) for one, *rest in copies for copy in rest),
    }
    save_file({**after, **figures}, path)


def largest(pairs) -> np.ndarray:
    """The largest absolute difference between two arrays of a pair: float32 [1]; 0 of none."""
    return np.array([max((np.abs(a - b).max() for a, b in pairs), default=0.0)], np.float32)

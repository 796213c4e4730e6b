"""KerasHub on TensorFlow: `python -m benchmarks.kerashub SPEC` measures one case.

Variants: `xla` compiles with jit_compile=True, all others without; `mixed` is the policy
mixed_bfloat16, `weights` the policy bfloat16, which holds LoRA's weights in bfloat16 too, `float32`
all in float32 where the case is one of bfloat16; `dynamic` pads rows to the longest of their batch,
`fixed` to the longest of all, since XLA compiles for every shape.

Its enable_lora covers query and value by default; here it is told to cover what ours does, as three
projections of their own where ours is a fused one. It has no dropout and its scale is alpha = rank.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from benchmarks import common, worker
from benchmarks.common import Spec
from benchmarks.worker import Ready

TARGETS = ["query", "key", "value", "attention_output"]


def backbone(spec: Spec, dtype: str):
    """The base with the shared weights."""
    return keras_hub.models.GPT2Backbone.from_preset(spec.base, dtype=dtype)


def dtype_of(spec: Spec) -> str:
    """The Keras policy that the variant means."""
    return f"mixed_{spec.precision}" if "mixed" in spec.words else spec.precision


def training_model(spec: Spec):
    """The model to tune: its causal language model, or a dense head on the last real token."""
    settings, dtype = spec.settings, dtype_of(spec)
    if "weights" in spec.words:
        keras.config.set_floatx("bfloat16")  # as its guides do
    base = backbone(spec, dtype)
    if settings["tuning"] == "lora":
        base.enable_lora(settings["lora"]["rank"], target_layer_names=TARGETS)
    if settings.get("classes"):
        model = classifier(base, settings["classes"])
    else:
        model = keras_hub.models.GPT2CausalLM(base, preprocessor=None, dtype=dtype)
    model.compile(
        optimizer=keras.optimizers.AdamW(
            common.LEARNING_RATE,
            weight_decay=common.WEIGHT_DECAY,
            # Keras cannot clip bfloat16 gradients by their global norm: it mixes types there.
            global_clipnorm=None if "weights" in spec.words else common.MAX_GRAD_NORM,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        weighted_metrics=[],
        jit_compile="xla" in spec.words,
    )
    return model


def classifier(base, classes: int):
    """KerasHub has no classifier for GPT-2: its backbone with a dense head."""
    inputs = base.input
    ends = keras.ops.sum(inputs["padding_mask"], axis=1) - 1
    hidden = keras.ops.take_along_axis(base(inputs), ends[:, None, None], axis=1)[:, 0]
    head = keras.layers.Dense(classes, use_bias=False, dtype="float32", name="score")
    return keras.Model(inputs, head(keras.layers.Dropout(0.1)(hidden)))


def language_model_batch(ids, mask, prompts):
    """Inputs, the next tokens, and weights that are 1 where one is supervised."""
    learnt = mask * (np.arange(ids.shape[1]) >= np.maximum(prompts, 1)[:, np.newaxis])
    targets, weights = (np.roll(array, -1, axis=1) for array in (ids, learnt))
    return {"token_ids": ids, "padding_mask": mask}, targets, weights.astype(np.float32)


def shared_batch(settings):
    """The batch that all workers train on."""
    ids = common.token_ids(settings["batch"], settings["length"])
    prompts = np.full(len(ids), settings["prompt"])
    return language_model_batch(ids, np.ones_like(ids), prompts)


def loss_without_dropout(model, batch) -> float:
    """Of the weights as they are, with the logits of the supervised places."""
    inputs, targets, weights = batch
    logits = tf.boolean_mask(model(inputs, training=False), weights > 0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        targets[weights > 0], tf.cast(logits, tf.float32)
    )
    return float(tf.reduce_mean(losses))


def peak_mb() -> float:
    """Of the GPU, or of the process without one."""
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    return common.peak_mb()


def step(spec: Spec) -> Ready:
    """One training step on the shared batch, over and over."""
    model, batch = training_model(spec), shared_batch(spec.settings)
    loss = loss_without_dropout(model, batch)
    trained = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return worker.steps(spec, lambda: model.train_on_batch(*batch), peak_mb, loss, trained)


def start(spec: Spec) -> Ready:
    """From the command to the end of the first step."""
    model, batch = training_model(spec), shared_batch(spec.settings)
    return worker.started(spec, lambda: model.train_on_batch(*batch))


def epoch(spec: Spec) -> Ready:
    """Epochs over real rows that are tokenised already."""
    settings, rows, model = spec.settings, common.read_rows(spec), training_model(spec)
    size, longest = settings["batch"], max(map(len, rows.ids))

    def run(number: int) -> None:
        order = np.random.default_rng(number).permutation(len(rows))
        for first in range(0, len(order), size):
            chosen = order[first : first + size]
            picked = [rows.ids[row] for row in chosen]
            length = longest if "fixed" in spec.words else max(map(len, picked))
            ids, mask = common.padded(picked, length)
            if settings["classes"]:
                inputs = {"token_ids": ids, "padding_mask": mask}
                model.train_on_batch(inputs, rows.labels[chosen])
            else:
                batch = language_model_batch(ids, mask, rows.labels[chosen])
                model.train_on_batch(*batch)

    return worker.epochs(run, len(rows), peak_mb)


def prepare(spec: Spec) -> Ready:
    """From the raw file through tf.data and its preprocessor, which writes nothing."""
    assert spec.data
    tokenizer = keras_hub.models.GPT2Tokenizer(
        str(spec.work / common.TOKENIZER / "vocab.json"),
        str(spec.work / common.TOKENIZER / "merges.txt"),
    )
    preprocessor = keras_hub.models.GPT2Preprocessor(
        tokenizer, sequence_length=spec.settings["length"]
    )
    file = Path(spec.data)

    def run() -> None:
        lines = file.read_text(encoding="utf-8").splitlines()
        rows = tf.data.Dataset.from_tensor_slices([json.loads(line)["text"] for line in lines])
        for _ in rows.batch(32).map(preprocessor, num_parallel_calls=tf.data.AUTOTUNE):
            pass

    return worker.preparations(run, len(file.read_text(encoding="utf-8").splitlines()))


def generation(spec: Spec) -> Ready:
    """New tokens for prompts that are tokenised already."""
    settings, dtype = spec.settings, spec.settings["precision"]
    base, prompt = backbone(spec, dtype), spec.settings["prompt"]
    ids = common.token_ids(settings["batch"], prompt)
    # A model a sampler, over one backbone: to change a model's sampler is to compile it anew.
    models = {}
    for name, sampler in (
        ("greedy", "greedy"),
        ("top_p", keras_hub.samplers.TopPSampler(p=settings["top_p"])),
    ):
        models[name] = keras_hub.models.GPT2CausalLM(base, preprocessor=None, dtype=dtype)
        models[name].compile(sampler=sampler, jit_compile="xla" in spec.words)

    def run(sampler: str, count: int) -> list[list[int]]:
        padded, mask = common.padded(list(ids), prompt + count)
        inputs = {"token_ids": padded, "padding_mask": mask}
        done = models[sampler].generate(inputs, stop_token_ids=None)["token_ids"]
        return np.asarray(done)[:, prompt:].tolist()

    return worker.generations(spec, run, peak_mb)


def about() -> dict[str, Any]:
    """What it ran on."""
    gpus = [device.name for device in tf.config.list_physical_devices("GPU")]
    modules = (keras_hub, keras, tf)
    return {
        "device": ", ".join(gpus) or "CPU",
        "versions": {module.__name__: module.__version__ for module in modules},
    }


KINDS = {
    "step": step,
    "start": start,
    "epoch": epoch,
    "prepare": prepare,
    "generate": generation,
}

if __name__ == "__main__":
    worker.serve(KINDS, about)

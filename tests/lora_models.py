"""Small models whose adapters matter: with B at zero every test of LoRA would pass untested."""

import numpy as np

from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_model import GPT2Model

BOTH = (GPT2Model, GPT2Classifier)

SMALL = GPT2Config(
    n_layer=2,
    n_embd=32,
    n_head=2,
    n_positions=32,
    vocab_size=97,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
    resid_pdrop=0.0,
)


def small_model(model_class, config, lora=None, seed=0, **arguments):
    """A built model with every weight random, the same base for the same seed."""
    if model_class is GPT2Classifier and "label_names" not in arguments:
        arguments.setdefault("num_classes", 3)
    model = model_class(config, lora=lora, **arguments).built_now()
    adapted = [(layer.lora_A, layer.lora_B) for layer in model.lora_layers().values()]
    lora_ids = {id(variable) for variable in model.lora_weights().values()}
    lora_ids |= {id(variable) for variable in model.start_weights().values()}
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if id(variable) not in lora_ids:
            variable.assign(random.normal(0, 0.2, variable.shape))
    for pair in adapted:
        for variable in pair:
            variable.assign(random.normal(0, 0.3, variable.shape))
    model.start_adapter()
    return model


def batch(config, rows=3, length=9, seed=5):
    """Token ids and a mask with padding on the right."""
    random = np.random.default_rng(seed)
    mask = np.arange(length) < random.integers(2, length + 1, size=(rows, 1))
    return {
        "token_ids": random.integers(config.vocab_size, size=(rows, length)).astype("int32"),
        "attention_mask": mask.astype("int32"),
    }


def outputs(model, inputs):
    """A direct call's outputs as an array."""
    return np.asarray(model(inputs, training=False))


def values(model):
    """A copy of every weight."""
    return [variable.numpy() for variable in model.weights]


def unchanged(model, before):
    """Whether every weight has the bits it had when `before` was taken."""
    return all(np.array_equal(a, b) for a, b in zip(values(model), before, strict=True))

"""The weights of live GPT-2s of transformers' TF classes."""

import dataclasses
from typing import Any

import numpy as np

from gpt2_tuning.errors import UserError
from gpt2_tuning.families import gpt2
from gpt2_tuning.families.family import follow
from gpt2_tuning.formats.directory import Stored
from gpt2_tuning.formats.holder import Holder
from gpt2_tuning.formats.huggingface import assign_weights, check_computation, check_weights


def load_tf_gpt2(model: Holder, tf_model: Any) -> None:
    """Takes the base's weights from a live TFGPT2Model, TFGPT2LMHeadModel or the like.

    Raises:
        UserError: it is no such model, or a weight is missing, of another shape or not finite.
    """
    where = f"the {type(tf_model).__name__} given"
    try:
        source = tf_model.transformer
        table = gpt2.weights(dataclasses.replace(model.config.decoder, layers=len(source.h)))
        variables = {stored.name: follow(source, attribute(stored.name)) for stored in table}
        check_computation(model, tf_model.config.to_dict(), where)
    except AttributeError as error:
        raise UserError(
            f"{where} is not a TF GPT-2 with weights (is it built?): {error}"
        ) from error
    weights = {}
    for name, variable in variables.items():
        # Conv1D's biases have shape (1, n).
        array = np.squeeze(variable.numpy(), 0) if variable.shape[0] == 1 else variable.numpy()
        weights[name] = Stored.of(array, f"{where}: {name}")
    check_weights(model, weights, where, optional=set(model.head_weights()))
    assign_weights(model, weights)
    model.loading_notes = []


def attribute(name: str) -> str:
    """A weight's attribute path there: transformers' own layers have the names of its files.

    "ln_f.weight" gives "ln_f.gamma", as Keras's layer has it.
    """
    layer, _, kind = name.rpartition(".")
    last = layer.rpartition(".")[2]
    if last.startswith("ln_"):
        kind = {"weight": "gamma", "bias": "beta"}[kind]
    elif last in ("wte", "wpe"):
        kind = "embeddings"
    return f"{layer}.{kind}"

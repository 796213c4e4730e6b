"""What of an adapter goes by the base's weights, made when these are there."""

from typing import Protocol

import keras

from gpt2_tuning.formats.huggingface import as_float32
from gpt2_tuning.models import dora
from gpt2_tuning.models.gate import Gate
from gpt2_tuning.models.lora import LoRADense
from gpt2_tuning.models.own_weights import OwnWeights


class Startable(Protocol):
    """A model that was made with an adapter, or none."""

    gate: Gate | None

    def lora_layers(self) -> dict[str, LoRADense]:
        """The adapted layers by their name in the base."""

    def own_weights(self) -> dict[str, keras.Variable]:
        """The base's variables that its own adapter tunes, by their names in files."""


def start(model: Startable) -> None:
    """Has a model's own adapter begin from the base as it is now, where it goes by that."""
    if model.gate is None:
        return
    for layer in model.lora_layers().values():
        if layer.update is not None and layer.update.init != "default":
            layer.factors().begin(as_float32(layer.kernel), layer.update.init)
        if layer.update is not None and layer.update.dora:
            update = layer.factors().product()
            layer.lora_magnitude.assign(dora.length(as_float32(layer.kernel), update))
    if own := model.own_weights():
        model.gate.own_weights = OwnWeights(own)
        model.gate.own_weights.begin()
        model.gate.refresh()

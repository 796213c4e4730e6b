"""Adapters that are added to a model that exists already: made, and written and read by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import keras

from gpt2_tuning.checks import shown
from gpt2_tuning.config import LoRAConfig, LoRAUpdate
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import follow
from gpt2_tuning.formats import adapters
from gpt2_tuning.formats.classifier_head import unnamed
from gpt2_tuning.formats.huggingface import as_float32
from gpt2_tuning.models import dora
from gpt2_tuning.models.gate import OWN, Adapter
from gpt2_tuning.models.lora import LoRADense, trained_policy
from gpt2_tuning.models.mixture import Factors
from gpt2_tuning.models.pretrained import PretrainedModel

NAMES = "letters, digits, - and _, at most 64 of them"


def check_name(name: Any, taken: Sequence[str]) -> None:
    """Raises UserError where an adapter cannot be called so."""
    plain = isinstance(name, str) and name.isascii() and 0 < len(name) <= 64
    if not plain or not name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"an adapter's name is made of {NAMES}, not {shown(name)}")
    if name == OWN:
        raise UserError(f"{OWN!r} is the adapter that a model is made with: choose another name")
    if name in taken:
        raise UserError(
            f"the model has an adapter {name!r} already: choose another name, or "
            f"delete_adapter({name!r}) first"
        )


def new_adapter(
    model: PretrainedModel, lora: LoRAConfig, label_names: Sequence[str] | None = None
) -> Adapter:
    """An adapter for a built model, A random and B zero, which the model has not yet.

    Args:
        model: of the base.
        lora: where it goes, and of what size.
        label_names: of a classifier's head of its own, which is random; None makes none.

    Raises:
        UserError: the base has no such layer, or the adapter tunes weights of the base.
    """
    if lora.own_names(model.config):
        raise UserError(
            "an adapter that tunes weights of the base (bias, modules_to_save) cannot be added: "
            "make a model with it (lora=)"
        )
    updates = lora.updates_in(model.config)
    layers = {}
    for number, of_block in enumerate(updates):
        for target, place in model.family.lora_targets.items():
            if place in of_block:
                name = f"{model.family.block_prefix}{number}.{model.family.in_block(target)}"
                factors = new_factors(dense_at(model, number, place), of_block[place])
                layers[name] = (number, place, factors)
    adapter = Adapter(lora, layers)
    if label_names is not None:
        config = model.transformer.config
        adapter.label_names = list(label_names)
        adapter.head = keras.Variable(
            keras.initializers.RandomNormal(stddev=config.initial_spread),
            shape=(config.width, len(adapter.label_names)),
            dtype=trained_policy(model.dtype_policy).variable_dtype,
            name="score",
        )
    return adapter


def new_factors(layer: LoRADense, update: LoRAUpdate) -> Factors:
    """The factors of a layer, as LoRADense makes its own."""
    inputs, units = layer.kernel.shape
    bound = inputs**-0.5
    dtype = trained_policy(layer.dtype_policy).variable_dtype
    spread = keras.initializers.RandomUniform(-bound, bound)
    shape = (inputs, update.rank)
    magnitude = None
    if update.dora:
        length = dora.length(as_float32(layer.kernel))
        magnitude = keras.Variable(length, dtype=dtype, name="lora_magnitude")
    start = None
    if update.init != "default":
        frozen = {"dtype": dtype, "trainable": False}
        start = (
            keras.Variable("zeros", shape=shape, name="start_A", **frozen),
            keras.Variable("zeros", shape=(update.rank, units), name="start_B", **frozen),
        )
    factors = Factors(
        keras.Variable(spread, shape=shape, dtype=dtype, name="lora_A"),
        keras.Variable("zeros", shape=(update.rank, units), dtype=dtype, name="lora_B"),
        update.scaling,
        update.dropout,
        magnitude,
        start,
    )
    if start is not None:
        factors.begin(as_float32(layer.kernel), update.init)
    return factors


def own_layers(model: PretrainedModel) -> dict[str, tuple[int, str, Factors]]:
    """The adapter that a model was made with, as an Adapter's layers."""
    layers = {}
    for number, _ in enumerate(model.transformer.blocks):
        for target, place in model.family.lora_targets.items():
            layer = dense_at(model, number, place)
            if layer.update is not None:
                name = f"{model.family.block_prefix}{number}.{model.family.in_block(target)}"
                layers[name] = (number, place, layer.factors())
    return layers


def dense_at(model: PretrainedModel, block: int, place: str) -> LoRADense:
    """The dense layer at a place of a block."""
    return follow(model.transformer.blocks[block], place)


class NamedAdapter:
    """An adapter of a model as it is written and read: `formats.holder.Adapted`.

    Its base is the model's, the rest is its own.
    """

    task_type: ClassVar[str]

    def __init__(self, model: PretrainedModel, adapter: Adapter):
        self._model, self._adapter = model, adapter
        self.family, self.config, self.lora = model.family, model.config, adapter.lora
        self.task_type = model.task_type  # type: ignore[misc]
        self.pretrained_name = model.pretrained_name
        self.exact_base_sha256 = model.exact_base_sha256
        self.kept_kernels = model.kept_kernels
        self.label_names = adapter.label_names
        self.kept_adapter_fields = adapter.kept_fields

    def base_weights(self) -> dict[str, keras.Variable]:
        """The model's."""
        return self._model.base_weights()

    def head_weights(self) -> dict[str, keras.Variable]:
        """Its own head."""
        return self._adapter.head_weights()

    def lora_weights(self) -> dict[str, keras.Variable]:
        """Its own factors."""
        return self._adapter.lora_weights()

    def start_weights(self) -> dict[str, keras.Variable]:
        """Its own."""
        return self._adapter.start_weights()

    def own_weights(self) -> dict[str, keras.Variable]:
        """None: such an adapter is not added by name."""
        return {}

    def used_heads(self) -> set[str]:
        """As the model's."""
        return self._model.used_heads()


def read_named(model: PretrainedModel, directory: Path) -> Adapter:
    """An adapter of a built model from PEFT's format, which the model has not yet.

    Raises:
        UserError: it is not for this base, or for another kind of model.
    """
    lora, extra = adapters.read_adapter_config(directory)
    try:
        names = labels_of(extra.label_names, extra.num_classes)
        adapter = new_adapter(model, lora, names)
    except UserError as error:
        raise UserError(f"{directory}: {error}") from error
    if bool(extra.num_classes) != bool(model.head_weights()):
        has, wanted = ("a", "no") if extra.num_classes else ("no", "a")
        raise UserError(
            f"{directory}: the adapter has {has} classifier's head, but the model is {wanted} "
            "classifier"
        )
    holder = NamedAdapter(model, adapter)
    adapters.load_adapter(holder, directory)
    adapter.label_names, adapter.kept_fields = holder.label_names, holder.kept_adapter_fields
    model.pretrained_name = holder.pretrained_name
    return adapter


def labels_of(names: Sequence[str] | None, count: int | None) -> list[str] | None:
    """The names of a head's classes, or as many without names; None where neither is given."""
    return list(names) if names is not None else unnamed(count) if count else None

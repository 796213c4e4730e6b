"""What Keras's own files hold of a model: `.keras`, `.weights.h5`, and what `clone_model` copies.

Every weight has its name of Hugging Face's files. Keras would name it by the attributes and the
classes on the way to it, so that a file could not be read after one of them was renamed.
"""

import contextlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.errors import UserError
from gpt2_tuning.models.gate import OWN, Gate, MergedKernels
from gpt2_tuning.models.keras_types import Model

SAVED_APART = ("layers", "transformer", "dropout", "score", "lm_head", "forward_by_row")
"""Attributes of models that lead to what is saved here, or that only a model with adapters has."""

KEPT = "unmerged."
"""Before the name of a kernel from before updates were merged into it."""
DIFFERENCE = "merging.difference"
ADDED = "adapters."
"""Before the name of an adapter that was added, and of a weight of it."""
DROPOUT = "dropout."
"""Before the number of a state of dropout's random numbers."""

KNOWN = ("pretrained_name", "exact_base_sha256")
"""Attributes that say where the weights came from, as adapters record it."""


def named_weights(model: "SavedByName") -> dict[str, keras.Variable]:
    """All weights by their names in files, the head's and LoRA's among them; none is transposed."""
    own = {**model.base_weights(), **model.lora_weights(), **model.head_weights()}
    beside = {**model.start_weights(), **model.untied_weights()}
    return {**own, **beside, **model.added_weights()}


def seed_states(model: "SavedByName") -> dict[str, keras.Variable]:
    """The states of dropout's random numbers, which Keras counts among no weights."""
    weights = {id(weight) for weight in model.weights}
    states = [variable for variable in model.variables if id(variable) not in weights]
    return {f"{DROPOUT}{number}": state for number, state in enumerate(states)}


def save(model: "SavedByName", store: Any) -> None:
    """Writes all weights and states, and where updates are merged the kernels from before.

    `store` is what Keras gives: from names to arrays.
    """
    with model.gate.own_values() if model.gate else contextlib.nullcontext():
        write(model, store)


def write(model: "SavedByName", store: Any) -> None:
    """As `save`, of a model whose variables hold its own adapter's values."""
    arrays = {**named_weights(model), **seed_states(model)}
    arrays |= {KEPT + name: kernel for name, kernel in model.kept_kernels.items()}
    if model.gate and model.gate.merged:
        arrays[DIFFERENCE] = np.array(model.gate.merged.difference)
    for name, array in arrays.items():
        store[name] = array


def load(model: "SavedByName", store: Any) -> None:
    """Takes what `save` wrote. A model is merged afterwards if the one that was saved was.

    Raises:
        UserError: the file holds the weights of another kind of model, or those of a merged one
            are loaded inside disable_lora().
        ValueError: a weight has another shape.
    """
    weights = named_weights(model)
    beside = (KEPT, DIFFERENCE, DROPOUT)
    stored = {name for name in set(store.keys()) if not name.startswith(beside)}
    if stored != set(weights):
        name = min(stored ^ set(weights))
        where, other = ("file", "model") if name in stored else ("model", "file")
        raise UserError(
            f"the {where} has a weight {name}, which the {other} has not: load it into a model "
            "with the same head and the same LoRA"
        )
    kept = {name: store[KEPT + name] for name in weights if KEPT + name in store}
    gate = model.gate
    merged = DIFFERENCE in store.keys()  # noqa: SIM118
    if merged and gate and not gate.on and gate.merged is None:
        raise UserError("merged weights are loaded inside disable_lora(): leave that block first")
    own = gate.own_weights if gate else None
    if own:
        own.show(True)
        own.kept = {name: np.array(kept.pop(name, store[name])) for name in own.variables}
    for name, variable in weights.items():
        variable.assign(store[name])
    for name, state in seed_states(model).items():
        if name in store:
            state.assign(store[name])
    if gate and (kept or gate.merged):
        gate.merged = MergedKernels(kept, float(store[DIFFERENCE])) if kept else None
        model.forget_traces()
    if gate:
        gate.refresh()


def build_config(model: "SavedByName") -> dict[str, Any]:
    """What a model is built with beyond its constructor's arguments: plain values."""
    frozen = [name for name, weight in named_weights(model).items() if not weight.trainable]
    added = {} if model.gate is None else model.gate.added
    adapters = {
        name: {
            "lora": adapter.lora.to_dict(),
            "label_names": adapter.label_names,
            "kept_fields": dict(adapter.kept_fields),
        }
        for name, adapter in added.items()
    }
    chosen = {} if model.gate is None else {"adapters": adapters, "chosen": model.gate.chosen}
    if not adapters and chosen.get("chosen") == {OWN: 1.0}:
        chosen = {}  # as without a word of it
    return {
        **chosen,
        "frozen": frozen,
        "rematerialize": model.rematerialize,
        "kept_adapter_fields": dict(model.kept_adapter_fields),
        **{name: getattr(model, name) for name in KNOWN},
    }


def build(model: "SavedByName", config: dict[str, Any]) -> None:
    """Creates the weights, and freezes those that were frozen when `config` was taken."""
    model.built_now()
    for name, adapter in config.get("adapters", {}).items():
        model.add_again(name, **adapter)
    if model.gate and "chosen" in config:
        model.gate.choose(config["chosen"])
    weights = named_weights(model)
    for name in config.get("frozen", []):
        weights[name].trainable = False
    model.rematerialize = config.get("rematerialize", False)
    model.kept_adapter_fields = MappingProxyType(config.get("kept_adapter_fields", {}))
    for name in KNOWN:
        setattr(model, name, config.get(name))


class SavedByName(Model):
    """A Keras model whose files, copies and exports are as this module says.

    What is declared here is what they hold; `pretrained` and the models with heads give it.
    """

    gate: Gate | None = None
    rematerialize: bool
    pretrained_name: str | None
    exact_base_sha256: str | None
    kept_adapter_fields: Mapping[str, Any]

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # `compile(jit_compile="auto")` goes by it. On a CPU XLA is the slower for a whole step.
        self.supports_jit = bool(tf.config.get_visible_devices("GPU"))

    def built_now(self) -> Self:
        """The model itself, its weights created if they were not."""
        if not self.built:
            self.build()
        return self

    def base_weights(self) -> dict[str, keras.Variable]:
        """The base's variables by their names in files, without prefix."""
        raise NotImplementedError

    def lora_weights(self) -> dict[str, keras.Variable]:
        """The updates' variables by their names in adapters, which hold them transposed."""
        raise NotImplementedError

    def head_weights(self) -> dict[str, keras.Variable]:
        """The head's weights by their Hugging Face names; those are (out, in), ours (in, out)."""
        return {}

    def start_weights(self) -> dict[str, keras.Variable]:
        """What its own adapter began as, where that is a part of the base's kernels."""
        raise NotImplementedError

    def untied_weights(self) -> dict[str, keras.Variable]:
        """A head that an adapter has apart from the token embedding; usually none."""
        return {}

    def added_weights(self) -> dict[str, keras.Variable]:
        """Those of adapters that were added, by their names in Keras's files."""
        if self.gate is None:
            return {}
        return {
            f"{ADDED}{name}.{part}": variable
            for name, adapter in self.gate.added.items()
            for part, variable in adapter.weights().items()
        }

    def add_again(
        self,
        name: str,
        lora: Mapping[str, Any],
        label_names: list[str],
        kept_fields: Mapping[str, Any],
    ) -> None:
        """Adds an adapter as `build_config` described it."""
        raise NotImplementedError

    @property
    def variables(self) -> list[keras.Variable]:  # type: ignore[override]
        """As Keras's, with the weights of adapters that were added."""
        return [*super().variables, *self.added_weights().values()]

    @property
    def weights(self) -> list[keras.Variable]:  # type: ignore[override]
        """As Keras's, with those of adapters that were added."""
        return [*super().weights, *self.added_weights().values()]

    @property
    def kept_kernels(self) -> dict[str, np.ndarray]:
        """What the base has, by names in files, of weights that hold something else.

        That are kernels while updates are merged into them, and weights that an adapter tunes.
        """
        own = self.gate.own_weights if self.gate else None
        merged = self.gate.merged.kept if self.gate and self.gate.merged else {}
        return {**(own.kept if own else {}), **merged}

    def forget_traces(self) -> None:
        """Has what Keras traced of this model traced anew when it is next called."""
        self.train_function = self.test_function = self.predict_function = None

    def __dir__(self) -> Iterable[str]:
        """Without those of SAVED_APART: Keras's saving goes into whatever it finds here."""
        return [name for name in super().__dir__() if name not in SAVED_APART]

    def save_own_variables(self, store) -> None:
        """Keras's hook: writes the weights, if there are any yet."""
        if self.built:
            save(self, store)

    def load_own_variables(self, store) -> None:
        """Keras's hook: reads them. Raises as `load` does, which Keras reports in its own words."""
        load(self, store)

    def get_build_config(self) -> dict[str, Any] | None:
        """Keras's hook: see `build_config`; None for a model that has no weights yet."""
        return build_config(self) if self.built else None

    def build_from_config(self, config) -> None:
        """Keras's hook: see `build`."""
        build(self, config)

    def summary(self, *args, **kwargs) -> None:
        """As Keras's, of a model whose weights are made now if they were not."""
        self.built_now()
        super().summary(*args, **kwargs)

    def save(self, *args, **kwargs) -> None:
        """As Keras's, of a model whose weights are made now if they were not."""
        self.built_now()
        super().save(*args, **kwargs)

    def load_weights(self, *args, **kwargs) -> None:
        """As Keras's, into a model whose weights are made now if they were not."""
        self.built_now()
        super().load_weights(*args, **kwargs)

    def export(
        self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs
    ) -> None:
        """As Keras does; the inputs are `token_ids` and `attention_mask`, int32 [B, T] of any size.

        With `input_signature`, a list of one such dict of keras.InputSpec, they are others.
        """
        if input_signature is None:
            names = ("token_ids", "attention_mask")
            rows = {"dtype": "int32", "shape": (None, None)}
            input_signature = [{name: keras.InputSpec(**rows, name=name) for name in names}]
        self.built_now()
        super().export(filepath, format, verbose, input_signature, **kwargs)

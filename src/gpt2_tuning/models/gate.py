"""Which of a model's low-rank adapters are computed, and what is kept while they are merged."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.checks import is_share, shown
from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats.classifier_head import HEAD
from gpt2_tuning.models.mixture import Factors, Mixture
from gpt2_tuning.models.own_weights import OwnWeights

OWN = "default"
"""The adapter that a model was made with, in PEFT's word for the only one."""
Choice = str | Mapping[str, float] | None
"""One adapter, or several with their shares, or none."""


class MergedKernels(NamedTuple):
    """What a model remembers while its updates are merged into its kernels."""

    kept: dict[str, np.ndarray]
    """The kernels from before, by their names in files."""
    difference: float
    """That of the outputs on the probe batch, as a share of the largest output."""


@dataclasses.dataclass
class Adapter:
    """A low-rank adapter that was added to a model, of which Keras knows nothing."""

    lora: LoRAConfig
    layers: dict[str, tuple[int, str, Factors]]
    """By the adapted layer's name in the base: its block's number, its place there, its update."""
    head: keras.Variable | None = None
    """Of a classifier, [width, classes]."""
    label_names: list[str] = dataclasses.field(default_factory=list)
    kept_fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of adapter_config.json that mean nothing here."""

    def __post_init__(self) -> None:
        self.gate, self.head_gate = switch(0.0), switch(0.0)

    def lora_weights(self) -> dict[str, keras.Variable]:
        """The factors by their names in adapters, which hold them transposed."""
        variables: dict[str, keras.Variable] = {}
        for name, (_, _, factors) in self.layers.items():
            variables |= {f"{name}.{part}": one for part, one in factors.variables().items()}
        return variables

    def start_weights(self) -> dict[str, keras.Variable]:
        """What the factors began as, where they began as a part of the base's kernel."""
        return {
            f"{name}.{part}": variable
            for name, (_, _, factors) in self.layers.items()
            for part, variable in factors.start_weights().items()
        }

    def head_weights(self) -> dict[str, keras.Variable]:
        """The head by its name in files; none of what is no classifier."""
        return {} if self.head is None else {HEAD: self.head}

    def weights(self) -> dict[str, keras.Variable]:
        """The factors, what they began as, and the head."""
        return {**self.lora_weights(), **self.start_weights(), **self.head_weights()}


class Gate:
    """What a model's passes multiply its updates by, unless they are given something else.

    It is of variables, because Python numbers would be frozen into functions traced before they
    changed; and it is held in this plain object, with the adapters that were added, because Keras
    would otherwise count the former as weights of the model, and refuse the latter in a built one.

    Args:
        own: whether the model was made with an adapter, of which `variable` is the gate.
    """

    def __init__(self, own: bool = True) -> None:
        self.variable = switch(1.0 if own else 0.0)
        self.merged: MergedKernels | None = None
        self.own = own
        self.own_layers: dict[str, tuple[int, str, Factors]] = {}
        """As an Adapter's, of the model's own; known once others are added."""
        self.added: dict[str, Adapter] = {}
        self.revision = 0
        """Counts what makes traced functions useless: adapters that came or went."""
        self.stale_optimizer: keras.optimizers.Optimizer | None = None
        """One that was built before an adapter was added, whose weights it does not know."""
        self.chosen: dict[str, float] = {OWN: 1.0} if own else {}
        self.own_weights: OwnWeights | None = None
        """Those of the base that the model's own adapter has values of its own for."""
        self.on = True
        """Whether the updates are computed, where they are not merged."""

    @property
    def names(self) -> list[str]:
        """The adapters, in the order of shares."""
        return [*([OWN] if self.own else []), *self.added]

    def set(self, on: bool) -> None:
        """Turns every update on or off, in functions that are already traced too."""
        self.on = on
        self.refresh()

    def choose(self, shares: Mapping[str, float]) -> None:
        """Has passes compute these adapters, in functions that are already traced too."""
        self.chosen = dict(shares)
        self.refresh()

    def refresh(self) -> None:
        """Assigns what follows from what is chosen, switched off and merged."""
        if self.own_weights is not None:
            self.own_weights.show(self.on and OWN in self.chosen)
        shares = self.chosen if self.on and self.merged is None else {}
        self.variable.assign(shares.get(OWN, 0.0))
        heads = sum(self.chosen.values()) if self.on else 0.0
        for name, adapter in self.added.items():
            adapter.gate.assign(shares.get(name, 0.0))
            share = self.chosen.get(name, 0.0)
            adapter.head_gate.assign(share / heads if heads else 0.0)

    def own_values(self) -> AbstractContextManager[None]:
        """Inside the block the base's variables hold the values of the model's own adapter."""
        return self.own_weights.shown() if self.own_weights else nullcontext()

    def value(self) -> tf.Tensor | Mixture | None:
        """The gate of a pass: a float32 scalar, or a Mixture where adapters were added.

        None while the updates are merged. What is traced then has no products of updates, and would
        go on without them after `unmerge`; so it looks whether the updates are still merged.
        """
        gates = [tf.convert_to_tensor(variable) for variable in self._gates()]
        if self.merged is None:
            return self._mixture(tf.stack(gates), self.heads()) if self.added else gates[0]
        if not tf.executing_eagerly():
            tf.debugging.assert_equal(
                tf.reduce_max(tf.abs(tf.stack(gates))),
                0.0,
                "this function was traced while the model was merged: make it anew",
            )
        return None

    def heads(self) -> tf.Tensor:
        """As Mixture's `heads`, for what is chosen, float32 [n]."""
        own = [tf.zeros([])] if self.own else []
        gates = [tf.convert_to_tensor(adapter.head_gate) for adapter in self.added.values()]
        return tf.stack(own + gates)

    def scaled(self, gate: tf.Tensor) -> Mixture:
        """What is chosen, times one number, [], or one a row, [B, 1, 1]."""
        gates = tf.stack([tf.convert_to_tensor(variable) for variable in self._gates()])
        on = tf.cast(gate != 0, tf.float32)
        return self._mixture(gates * gate, self.heads() * on)

    def of_rows(self, shares: tf.Tensor) -> Mixture:
        """Each row under adapters of its own: float32 [B, n], in the order of `names`."""
        shares = shares[:, tf.newaxis]
        heads = tf.math.divide_no_nan(shares, tf.reduce_sum(shares, axis=-1, keepdims=True))
        return self._mixture(shares, heads)

    def _gates(self) -> list[keras.Variable]:
        own = [self.variable] if self.own or not self.added else []
        return [*own, *(adapter.gate for adapter in self.added.values())]

    def _mixture(self, shares: tf.Tensor, heads: tf.Tensor) -> Mixture:
        layers = [adapter.layers for adapter in self.added.values()]
        if self.own:
            layers.insert(0, self.own_layers)
        found: dict[int, dict[str, list[tuple[int, Factors]]]] = {}
        for number, of_adapter in enumerate(layers):
            for block, place, factors in of_adapter.values():
                places = found.setdefault(block, {})
                places.setdefault(place, []).append((number, factors))
        return Mixture(shares, heads, found)


def switch(value: float) -> keras.Variable:
    """A number that passes read. Without `autocast` it stays in float32 in any model."""
    return keras.Variable(value, trainable=False, dtype="float32", autocast=False, name="lora_gate")


def shares_of(choice: Choice, names: Sequence[str]) -> dict[str, float]:
    """The share of each adapter that is chosen; one of 0 is left out.

    Raises:
        UserError: there is no such adapter, or a share is no finite number.
    """
    if choice is None:
        return {}
    shares = {choice: 1.0} if isinstance(choice, str) else choice
    if not isinstance(shares, Mapping):
        raise UserError(
            f"{shown(choice)} chooses no adapter: give a name, a dict of names and shares, or None"
        )
    for name, share in shares.items():
        if name not in names:
            there = f"has {', '.join(names)}" if names else "has none"
            raise UserError(f"unknown adapter {shown(name)}: the model {there}")
        if not is_share(share):
            raise UserError(f"the share of adapter {name} must be a finite number, not {share!r}")
    return {name: float(share) for name, share in shares.items() if share}

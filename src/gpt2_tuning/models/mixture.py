"""Several low-rank adapters in one pass: their factors side by side, and a gate in the middle.

((x A) * gate) B, where A has the columns and B the rows of all adapters: which of them count, and
how much, is data, for the whole batch or for each row.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.models import dora, kernels, principal
from gpt2_tuning.models.products import project


class Factors(NamedTuple):
    """An adapter's update of one dense layer: scaling * dropout(x) A B."""

    a: keras.Variable  # [inputs, rank]
    b: keras.Variable  # [rank, units]
    scaling: float
    dropout: float
    magnitude: keras.Variable | None = None  # [units], with DoRA
    start: tuple[keras.Variable, keras.Variable] | None = None  # A0 and B0: see principal.py

    def parts(self) -> "list[Factors]":
        """Products that add up to the update: its own, less the one that it began as."""
        if self.start is None:
            return [self]
        return [self._replace(start=None), Factors(*self.start, -self.scaling, 0.0)]

    def product(self) -> np.ndarray:
        """scaling * A B, less scaling * A0 B0; float32 [inputs, units].

        Computed with numpy, since a GPU would round the factors to TensorFloat-32.
        """
        a, b = (factor.numpy().astype(np.float32) for factor in (self.a, self.b))
        update = np.float32(self.scaling) * (a @ b)
        if self.start is not None:
            a, b = (factor.numpy().astype(np.float32) for factor in self.start)
            update -= np.float32(self.scaling) * (a @ b)
        return update

    def delta(self, kernel: np.ndarray | keras.Variable) -> np.ndarray:
        """What the update adds to the base's kernel: float32 [inputs, units]."""
        update = self.product()
        if self.magnitude is None:
            return update
        base = np.asarray(getattr(kernel, "value", kernel), np.float32)
        return dora.delta(base, self.magnitude.numpy(), update)

    def begin(self, kernel: np.ndarray, init: str) -> None:
        """Takes a part of the base's kernel for A and B, and for A0 and B0."""
        assert self.start is not None
        rank = self.a.shape[1]
        values = principal.beginning(kernel, rank, self.scaling, init)
        for pair in ((self.a, self.b), self.start):
            for variable, value in zip(pair, values, strict=True):
                variable.assign(value)

    def start_weights(self) -> dict[str, keras.Variable]:
        """A0 and B0, by what stands after the layer's name in Keras's files; often none."""
        return dict(zip(("lora_start_A", "lora_start_B"), self.start or (), strict=False))

    def variables(self) -> dict[str, keras.Variable]:
        """Its weights, by what stands after the layer's name in adapters."""
        found = {"lora_A.weight": self.a, "lora_B.weight": self.b}
        if self.magnitude is not None:
            found["lora_magnitude_vector"] = self.magnitude
        return found


Updates = Sequence[tuple[int, Factors]]
"""Those of one dense layer, each with its adapter's number in `shares`."""

ROUNDED = 1e-6
"""What shares that add up to 1 may lack of it."""


@dataclasses.dataclass(frozen=True)
class Mixture:
    """What a pass computes of a model's adapters."""

    shares: tf.Tensor
    """float32 [n], what the update of each of n adapters is multiplied by; or [B, 1, n]."""
    heads: tf.Tensor
    """float32 [n], how much each one's head counts, in a sum of 1; or [B, 1, n]. What is missing
    from 1 is the model's own head's."""
    blocks: Mapping[int, Mapping[str, Updates]]
    """The updates of each block that has some, by the dense layer's place in it."""

    def of_block(self, number: int) -> "BlockMixture":
        """What is computed in one block."""
        return BlockMixture(self.shares, self.blocks.get(number, {}))


@dataclasses.dataclass(frozen=True)
class BlockMixture:
    """The part of a Mixture that one block computes."""

    shares: tf.Tensor
    places: Mapping[str, Updates]

    def added(self, outputs, place: str, inputs, kernel, bias=None, seed=None):
        """A dense layer's outputs with the updates of its place.

        Args:
            outputs: [B, T, units], of the base.
            place: the layer's.
            inputs: [B, T, inputs].
            kernel, bias: the base's, of which DoRA computes.
            seed: int32 [2], of the updates' dropout, which is that of each adapter; None in
                inference.
        """

        def rate(update: tuple[int, Factors]) -> float:
            return update[1].dropout if seed is not None else 0.0

        base = outputs
        there = [(at, part) for at, one in self.places.get(place, ()) for part in one.parts()]
        for dropped, group in itertools.groupby(sorted(there, key=rate), rate):
            x = inputs
            if dropped:
                x = kernels.dropout(inputs, seed, rate=dropped, compiled=True)
            updates = list(group)
            if plain := [update for update in updates if update[1].magnitude is None]:
                outputs += side_by_side(x, plain, self.shares)
            for number, factors in updates:
                if factors.magnitude is not None:
                    product = project(x, kernel) if dropped else without(base, bias)
                    share = self.shares[..., number : number + 1]
                    outputs += with_lengths(product, x, kernel, factors, share)
        return outputs


def side_by_side(inputs, updates: Updates, shares):
    """The sum of updates [B, T, units] of inputs [B, T, inputs], each times its share.

    A share of 0 leaves an adapter out of the rows that have it, whatever its weights hold; rows
    that take part in one that is not finite become NaN.
    """
    dtype = inputs.dtype
    a = tf.concat([cast(factors.a, dtype) for _, factors in updates], axis=1)
    b = tf.concat([cast(factors.b, dtype) for _, factors in updates], axis=0)
    ranks = [factors.a.shape[1] for _, factors in updates]
    numbers = np.repeat([number for number, _ in updates], ranks)
    scalings = np.repeat([factors.scaling for _, factors in updates], ranks)
    gate = tf.gather(shares, numbers, axis=-1) * scalings.astype(np.float32)
    # What is not finite must not reach rows of others, which have it multiplied by 0.
    sound = tf.reduce_all(tf.math.is_finite(a), axis=0)
    sound &= tf.reduce_all(tf.math.is_finite(b), axis=1)
    a, b = tf.where(sound, a, 0), tf.where(sound[:, tf.newaxis], b, 0)
    damaged = tf.reduce_any((gate != 0) & ~sound, axis=-1, keepdims=True)
    update = project(project(inputs, a) * tf.cast(gate, dtype), b)
    return update + tf.where(damaged, tf.constant(np.nan, dtype), tf.zeros([], dtype))


def without(outputs, bias):
    """A dense layer's outputs before its bias, which may be None, was added."""
    return outputs if bias is None else outputs - bias


def with_lengths(product, inputs, kernel, factors: Factors, share):
    """What DoRA adds [B, T, units] to outputs, times its share, [1] or [B, 1, 1].

    As in `side_by_side` a share of 0 leaves it out, whatever its weights hold.

    Args:
        product: [B, T, units], inputs times kernel.
        inputs: [B, T, inputs].
        kernel: [inputs, units].
        factors: of the update.
        share: float32.
    """
    dtype = inputs.dtype
    weights = [tf.convert_to_tensor(one) for one in (factors.a, factors.b, factors.magnitude)]
    sound = tf.reduce_all([tf.reduce_all(tf.math.is_finite(one)) for one in weights])
    a, b, magnitude = (tf.where(sound, one, tf.zeros_like(one)) for one in weights)
    ratio = dora.ratio(magnitude, kernel, a, b, factors.scaling)
    low_rank = project(project(inputs, tf.cast(a, dtype)), tf.cast(factors.scaling * b, dtype))
    update = tf.cast(share, dtype) * dora.difference(product, low_rank, ratio)
    nothing = tf.zeros([], dtype)
    damaged = tf.where(sound, nothing, tf.constant(np.nan, dtype))
    return tf.where(share != 0, update, nothing) + tf.where(share != 0, damaged, nothing)


def cast(variable: keras.Variable, dtype):
    """A variable's value in another type."""
    return tf.cast(tf.convert_to_tensor(variable), dtype)


def gate_of_block(gate, number: int):
    """What a block is given of a pass's gate, which is the same for all unless it is a Mixture."""
    return gate.of_block(number) if isinstance(gate, Mixture) else gate

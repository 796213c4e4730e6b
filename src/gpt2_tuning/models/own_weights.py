"""Weights of the base that an adapter has values of its own for: biases, embeddings, norms, heads.

They are tuned where they lie, so a pass computes what it always did; what the base has there is
kept beside them, and put back while the adapter is switched off.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import keras
import numpy as np


class OwnWeights:
    """The variables that the base and an adapter take turns in.

    Args:
        variables: by their names in the base's files.
    """

    def __init__(self, variables: Mapping[str, keras.Variable]) -> None:
        self.variables = dict(variables)
        self.kept: dict[str, np.ndarray] = {}
        """The base's values, as they lie here."""
        self.aside: dict[str, np.ndarray] = {}
        """The adapter's, while the base's are in their place."""

    def begin(self) -> None:
        """Takes what the variables hold for the base's, from which the adapter begins."""
        self.kept, self.aside = values(self.variables), {}

    def show(self, on: bool) -> None:
        """Puts the adapter's values into the variables, or the base's."""
        if on and self.aside:
            assign(self.variables, self.aside)
            self.aside = {}
        elif not on and not self.aside and self.kept:
            self.aside = values(self.variables)
            assign(self.variables, self.kept)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside the block the variables hold the adapter's values."""
        hidden = bool(self.aside)
        self.show(True)
        try:
            yield
        finally:
            self.show(not hidden)


def values(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """A copy of what they hold."""
    return {name: np.array(variable.numpy()) for name, variable in variables.items()}


def assign(variables: Mapping[str, keras.Variable], arrays: Mapping[str, np.ndarray]) -> None:
    """Gives each its array."""
    for name, variable in variables.items():
        variable.assign(arrays[name])

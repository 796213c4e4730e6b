"""Which decoder is computed, in the words of no family.

Every field has a place for what other families do. A value that no code computes yet is refused
here, by name, so that a new one is built in `models/` and then allowed in COMPUTED.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gpt2_tuning.errors import UserError

EVERY_DENSE = frozenset({"attention.qkv", "attention.out", "mlp.up", "mlp.down"})
"""The dense layers of a block, by their place in it."""


@dataclasses.dataclass(frozen=True)
class Dropouts:
    """The shares of numbers that are dropped in training."""

    embedding: float = 0.0
    """Of the sum of the embeddings."""
    attention: float = 0.0
    """Of attention's weights."""
    residual: float = 0.0
    """Of what attention and MLP add to the stream."""


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder, and which of its parts' forms it has.

    Raises:
        UserError: no code computes one of the forms.
    """

    family: str
    """The name of the family that the files of this decoder are of."""
    layers: int
    width: int
    """Of the residual stream."""
    heads: int
    kv_heads: int
    """Heads of keys and values, which groups of query heads share."""
    head_size: int
    mlp_width: int
    positions: int
    """The longest row without segments."""
    vocabulary: int
    norm_epsilon: float
    score_scale: float
    """What a query's product with a key is multiplied by."""
    initial_spread: float
    """The standard deviation of random weights."""
    residual_spread: float
    """The same of layers that write into the residual stream."""
    dropouts: Dropouts = dataclasses.field(default_factory=Dropouts)
    norm: str = "layer"
    place: str = "learned"
    """How a token's position comes in."""
    mlp: str = "gelu_tanh"
    biases: frozenset[str] = EVERY_DENSE
    """The dense layers of a block that have one."""
    windows: tuple[int | None, ...] = ()
    """How far each layer's attention looks back, in tokens; none given, or None, is all the way."""
    score_cap: float | None = None
    logit_cap: float | None = None
    parallel: bool = False
    """Whether attention and MLP read the same input."""
    norms_after: bool = False
    """Whether what attention and MLP give is normalised too."""
    tied_head: bool = True
    """Whether the token embedding, transposed, scores the next token."""

    def __post_init__(self) -> None:
        for name, values in COMPUTED.items():
            if getattr(self, name) not in values:
                raise UserError(
                    f"{self.family}: {name}={getattr(self, name)!r} is not supported; "
                    f"what is: {', '.join(map(repr, values))}"
                )
        if self.kv_heads != self.heads:
            raise UserError(
                f"{self.family}: kv_heads={self.kv_heads} is not supported; what is: as many as "
                f"heads, {self.heads}"
            )
        if any(window is not None for window in self.windows):
            raise UserError(
                f"{self.family}: windows={self.windows} is not supported; what is: None for each"
            )

    @property
    def attention_width(self) -> int:
        """Of all heads' results side by side."""
        return self.heads * self.head_size

    @property
    def dense(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a block's dense layers, by their place in it."""
        return {
            "attention.qkv": (self.width, (self.heads + 2 * self.kv_heads) * self.head_size),
            "attention.out": (self.attention_width, self.width),
            "mlp.up": (self.width, self.mlp_width),
            "mlp.down": (self.mlp_width, self.width),
        }

    def shape_of(self, path: str) -> tuple[int, ...]:
        """The shape of a weight, by its attribute path in a Decoder.

        "blocks.0.attention.qkv.bias" gives (2304,) for 124M.
        """
        layer, _, kind = path.rpartition(".")
        if kind == "embeddings":
            return (self.vocabulary if layer == "tokens" else self.positions), self.width
        if kind in ("gamma", "beta"):
            return (self.width,)
        inputs, outputs = self.dense[layer.split(".", 2)[2]]
        return (inputs, outputs) if kind == "kernel" else (outputs,)

    @property
    def parameters(self) -> int:
        """How many weights it has; GPT-2 124M has 124,439,808."""
        matrices = sum(inputs * outputs for inputs, outputs in self.dense.values())
        biases = sum(outputs for place, (_, outputs) in self.dense.items() if place in self.biases)
        norm = 2 * self.width
        embeddings = (self.vocabulary + self.positions) * self.width
        return embeddings + self.layers * (matrices + biases + 2 * norm) + norm


COMPUTED: Mapping[str, tuple[Any, ...]] = {
    "norm": ("layer",),
    "place": ("learned",),
    "mlp": ("gelu_tanh",),
    "biases": (EVERY_DENSE,),
    "score_cap": (None,),
    "logit_cap": (None,),
    "parallel": (False,),
    "norms_after": (False,),
    "tied_head": (True,),
}
"""The forms of a decoder's parts that `models/` computes."""

"""Which decoder is computed, in the words of no family.

Every field has a place for what other families do. A value that no code computes yet is refused
here, by name, so that a new one is built in `models/` and then allowed in COMPUTED.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gpt2_tuning.errors import UserError
from gpt2_tuning.families.rotary import Rotary

EVERY_DENSE = frozenset({"attention.qkv", "attention.out", "mlp.up", "mlp.down"})
"""The dense layers of a block that has one for query, key and value, by their place in it."""
GATED = ("silu_gated",)
"""The kinds of MLP whose first layer is two: one's result, activated, multiplies the other's."""


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
    """Heads of keys and values, which groups of query heads share: the first `heads / kv_heads`
    query heads the first of them, and so on."""
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
    rotary: Rotary | None = None
    """By how much queries and keys are rotated, with the place `rotary`."""
    rotary_share: float = 1.0
    """How much of each head is rotated: so many of its channels, from the first on."""
    mlp: str = "gelu_tanh"
    fused: bool = True
    """Whether one dense layer gives query, key and value."""
    fused_by_head: bool = False
    """Whether that layer gives each head's query, key and value in turn, where it would give all
    queries first."""
    biases: frozenset[str] = EVERY_DENSE
    """The dense layers of a block that have one."""
    head_norms: bool = False
    """Whether each head's query and key is normalised before it is rotated."""
    windows: tuple[int | None, ...] = ()
    """How many tokens each layer's attention sees, the token itself among them; none given, or
    None, is all before it."""
    score_cap: float | None = None
    logit_cap: float | None = None
    parallel: bool = False
    """Whether attention and MLP read the same input, each through a norm of its own."""
    norms_after: bool = False
    """Whether what attention and MLP give is normalised too."""
    tied_head: bool = True
    """Whether the token embedding, transposed, scores the next token."""

    def __post_init__(self) -> None:
        for name, values in COMPUTED.items():
            if getattr(self, name) not in values:
                self._refuse(name, ", ".join(map(repr, values)))
        if self.heads % self.kv_heads or (self.fused and self.kv_heads != self.heads):
            what = "as many as heads" if self.fused else "a divisor of heads"
            self._refuse("kv_heads", f"{what}, {self.heads}")
        if self.fused_by_head and not self.fused:
            self._refuse(
                "fused_by_head", "False where query, key and value have layers of their own"
            )
        if self.biases - set(self.dense):
            self._refuse("biases", f"some of {', '.join(self.dense)}")
        if self.windows and (
            len(self.windows) != self.layers or any(w is not None and w < 1 for w in self.windows)
        ):
            self._refuse("windows", f"None or at least 1 for each of {self.layers} layers")
        if (self.place == "rotary") != (self.rotary is not None):
            self._refuse("rotary", "a Rotary with place='rotary', and None without")
        if self.rotary and (self.rotated % 2 or not self.rotated):
            channels = f"an even number of a head's {self.head_size} channels"
            self._refuse("rotary_share", f"{channels}, of which it is {self.rotated}")

    def _refuse(self, name: str, supported: str) -> None:
        raise UserError(
            f"{self.family}: {name}={getattr(self, name)!r} is not supported; what is: {supported}"
        )

    @property
    def attention_width(self) -> int:
        """Of all heads' results side by side."""
        return self.heads * self.head_size

    @property
    def rotated(self) -> int:
        """How many channels of each head are rotated."""
        return int(self.head_size * self.rotary_share) if self.rotary else 0

    @property
    def group(self) -> int:
        """How many query heads share a head of keys and values."""
        return self.heads // self.kv_heads

    @property
    def dense(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a block's dense layers, by their place in it."""
        shared = self.kv_heads * self.head_size
        if self.fused:
            attention = {"attention.qkv": (self.width, self.attention_width + 2 * shared)}
        else:
            attention = {
                "attention.query": (self.width, self.attention_width),
                "attention.key": (self.width, shared),
                "attention.value": (self.width, shared),
            }
        gate = {"mlp.gate": (self.width, self.mlp_width)} if self.mlp in GATED else {}
        return {
            **attention,
            "attention.out": (self.attention_width, self.width),
            **gate,
            "mlp.up": (self.width, self.mlp_width),
            "mlp.down": (self.mlp_width, self.width),
        }

    def shape_of(self, path: str) -> tuple[int, ...]:
        """The shape of a weight, by its attribute path in a Decoder.

        "blocks.0.attention.qkv.bias" gives (2304,) for 124M.
        """
        layer, _, kind = path.rpartition(".")
        if kind == "embeddings":
            return (self.positions if layer == "places" else self.vocabulary), self.width
        if kind in ("gamma", "beta"):
            return (self.head_size if ".attention." in layer else self.width,)
        inputs, outputs = self.dense[layer.split(".", 2)[2]]
        return (inputs, outputs) if kind == "kernel" else (outputs,)

    @property
    def parameters(self) -> int:
        """How many weights it has, with a head of its own; GPT-2 124M has 124,439,808."""
        matrices = sum(inputs * outputs for inputs, outputs in self.dense.values())
        biases = sum(outputs for place, (_, outputs) in self.dense.items() if place in self.biases)
        norm = self.width * (2 if self.norm == "layer" else 1)
        rows = self.vocabulary * (1 if self.tied_head else 2)
        rows += self.positions if self.place == "learned" else 0
        block = matrices + biases + 2 * norm + (2 * self.head_size if self.head_norms else 0)
        return rows * self.width + self.layers * block + norm


COMPUTED: Mapping[str, tuple[Any, ...]] = {
    "norm": ("layer", "rms"),
    "place": ("learned", "rotary"),
    "mlp": ("gelu_tanh", "gelu", *GATED),
    "score_cap": (None,),
    "logit_cap": (None,),
    "parallel": (False, True),
    "norms_after": (False,),
}
"""The forms of a decoder's parts that `models/` computes."""

"""What a GPT-2 is made of: its sizes, and where LoRA goes."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

from gpt2_tuning.errors import UserError

END_OF_TEXT = 50256
"""`<|endoftext|>`: ends a document, separates a pair, and fills padding (which masks hide)."""

TOKENIZER_IDS = END_OF_TEXT + 1
"""How many ids the tokenizer has; a model may have rows for more, which no text leads to."""


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """The shape of a GPT-2. Field names are those of Hugging Face's config.json.

    The parameters are vocab x width + positions x width + layers x (12 x width^2 + 13 x width)
    + 2 x width; for 124M: 38,597,376 + 786,432 + 12 x 7,087,872 + 1,536 = 124,439,808.
    """

    n_layer: int = 12
    n_embd: int = 768
    n_head: int = 12
    n_positions: int = 1024
    vocab_size: int = 50257
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    resid_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name in ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{name} must be a whole number of at least 1, not {value!r}")
        for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value < 1:
                raise UserError(f"{name} must be a number in [0, 1), not {value!r}")
        for name in ("layer_norm_epsilon", "initializer_range"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value < math.inf:
                raise UserError(f"{name} must be a number of at least 0, not {value!r}")
        if self.n_embd % self.n_head:
            raise UserError(f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}")

    @classmethod
    def from_size(cls, size: str, **changes: Any) -> Self:
        """The config of a named size, such as "124M"; keyword arguments change single fields.

        Raises:
            UserError: there is no such size.
        """
        shape = SIZES.get(ALIASES.get(size, size))
        if shape is None:
            raise UserError(f"unknown model size {size!r}: choose one of {', '.join(SIZES)}")
        return cls(**{**shape, **changes})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The config held in a Hugging Face config.json (other fields there are ignored).

        Raises:
            UserError: the file describes a model that this code would compute differently.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        config = cls(**{name: value for name, value in fields.items() if name in known})
        # Other words for the same computation.
        same = {"n_inner": 4 * config.n_embd, "activation_function": "gelu_pytorch_tanh"}
        for name, expected in FIXED_FIELDS.items():
            found = fields.get(name, expected)
            if found not in (expected, same.get(name, expected)):
                raise UserError(f"config.json has {name}={found!r}; only {expected!r} works")
        return config

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict; `from_dict` reads it back."""
        return dataclasses.asdict(self)

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def size(self) -> str | None:
        """The name of the size that has this shape, whatever the dropout; None where none has."""
        names = ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size")
        for size in SIZES:
            config = GPT2Config.from_size(size)
            if all(getattr(config, name) == getattr(self, name) for name in names):
                return size
        return None


MAX_SEQ_LEN = GPT2Config.n_positions
"""Tokens of the longest example of a data set: as many as every size has positions."""

SIZES: dict[str, dict[str, Any]] = {
    # On a few thousand texts two layers from random weights overfit with a dropout of 0.1.
    "tiny": {
        "n_layer": 2,
        "n_embd": 128,
        "n_head": 2,
        "embd_pdrop": 0.2,
        "attn_pdrop": 0.2,
        "resid_pdrop": 0.2,
    },
    "mini": {"n_layer": 4, "n_embd": 256, "n_head": 4},
    "124M": {"n_layer": 12, "n_embd": 768, "n_head": 12},
    "355M": {"n_layer": 24, "n_embd": 1024, "n_head": 16},
    "774M": {"n_layer": 36, "n_embd": 1280, "n_head": 20},
    "1.5B": {"n_layer": 48, "n_embd": 1600, "n_head": 25},
}
ALIASES = {"1542M": "1.5B", "1.56B": "1.5B"}

HUB_NAMES = {
    "124M": "openai-community/gpt2",
    "355M": "openai-community/gpt2-medium",
    "774M": "openai-community/gpt2-large",
    "1.5B": "openai-community/gpt2-xl",
}
"""Where each pretrained size is published; `tiny` and `mini` are only ever trained from nothing."""

FIXED_FIELDS = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "n_inner": None,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
"""Fields of config.json that change the computation, with the only value that is GPT-2's."""

LORA_TARGETS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
"""The dense layers of a block that LoRA can adapt, by full suffix."""


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
    """Low-rank adaptation (Hu et al. 2021, https://arxiv.org/abs/2106.09685) of chosen layers.

    An adapted layer computes x W + b + scaling * dropout(x) A B, where scaling is alpha / rank,
    or alpha / sqrt(rank) with `use_rslora` (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732).
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ("attn.c_attn", "attn.c_proj")
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """A rank for single targets, by suffix, instead of `rank`."""
    alpha_pattern: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """An alpha for single targets, by suffix, instead of `alpha`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        if not self.targets:
            raise UserError(f"LoRA needs a target: choose among {', '.join(LORA_TARGETS)}")
        for target in (*self.targets, *self.rank_pattern, *self.alpha_pattern):
            if target not in LORA_TARGETS:
                raise UserError(
                    f"unknown LoRA target {target!r}: choose among {', '.join(LORA_TARGETS)}"
                )
        for target in (*self.rank_pattern, *self.alpha_pattern):
            if target not in self.targets:
                raise UserError(f"a LoRA pattern names {target}, which is not among the targets")
        for rank in (self.rank, *self.rank_pattern.values()):
            if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
                raise UserError(f"LoRA rank must be a whole number of at least 1, not {rank!r}")
        for alpha in (self.alpha, *self.alpha_pattern.values()):
            if not is_number(alpha) or not 0 < alpha < math.inf:
                raise UserError(f"LoRA alpha must be a number above 0, not {alpha!r}")
        if not is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise UserError(f"LoRA dropout must be in [0, 1), not {self.dropout!r}")

    @classmethod
    def of(cls, lora: "LoRAConfig | Mapping[str, Any] | None") -> "LoRAConfig | None":
        """Accepts what users may pass as `lora`: a LoRAConfig, a plain dict of its fields, None.

        Raises:
            UserError: the dict has a field that LoRAConfig has not.
        """
        if lora is None or isinstance(lora, LoRAConfig):
            return lora
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(lora) - set(known))
        if unknown:
            raise UserError(f"unknown LoRA field {unknown[0]!r}: choose among {', '.join(known)}")
        return cls(**lora)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict; `of` reads it back."""
        return {**dataclasses.asdict(self), "targets": list(self.targets)}

    def update_of(self, target: str) -> "LoRAUpdate | None":
        """The update of one layer, by its suffix; None where the layer is not a target."""
        if target not in self.targets:
            return None
        rank = self.rank_pattern.get(target, self.rank)
        alpha = self.alpha_pattern.get(target, self.alpha)
        return LoRAUpdate(rank, alpha / (rank**0.5 if self.use_rslora else rank), self.dropout)


@dataclasses.dataclass(frozen=True)
class LoRAUpdate:
    """What LoRAConfig comes to for one layer."""

    rank: int
    scaling: float
    dropout: float


def is_number(value: Any) -> bool:
    """Whether a value, which may come from a file, is a real number (True and False are not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)

"""GPT-2 (Radford et al. 2019): its sizes, and the names of its files.

Kernels are (in, out) in its files, as in Keras, so none of a base is transposed.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self

from gpt2_tuning import schema
from gpt2_tuning.checks import shown
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.config_fields import SHARE, SPREAD
from gpt2_tuning.families.decoder_config import DecoderConfig, Dropouts
from gpt2_tuning.families.family import Family, Heads, StoredWeight
from gpt2_tuning.schema import Schema

NAME = "gpt2"

END_OF_TEXT = 50256
"""`<|endoftext|>`: ends a document, separates a pair, and fills padding (which masks hide)."""

TOKENIZER_IDS = END_OF_TEXT + 1
"""How many ids the tokenizer has; a model may have rows for more, which no text leads to."""

WITH_GPT2_TOKENIZER = {
    "vocab_size": TOKENIZER_IDS,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "bos_token_id": END_OF_TEXT,
    "eos_token_id": END_OF_TEXT,
}
"""Fields of other families' sizes that are trained from nothing."""


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
        if wrong := schema.wrong_field(vars(self), FIELDS):
            raise UserError(wrong)
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
                raise UserError(f"config.json has {name}={shown(found)}; only {expected!r} works")
        return config

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict; `from_dict` reads it back."""
        return dataclasses.asdict(self)

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def decoder(self) -> DecoderConfig:
        """The same in the words of no family."""
        return DecoderConfig(
            family=NAME,
            layers=self.n_layer,
            width=self.n_embd,
            heads=self.n_head,
            kv_heads=self.n_head,
            head_size=self.head_size,
            mlp_width=4 * self.n_embd,
            positions=self.n_positions,
            vocabulary=self.vocab_size,
            norm_epsilon=self.layer_norm_epsilon,
            score_scale=self.head_size**-0.5,
            initial_spread=self.initializer_range,
            # As in the paper: what is added to the stream by all layers together keeps its size.
            residual_spread=self.initializer_range * (2 * self.n_layer) ** -0.5,
            dropouts=Dropouts(self.embd_pdrop, self.attn_pdrop, self.resid_pdrop),
        )

    @property
    def size(self) -> str | None:
        """The name of the size that has this shape, whatever the dropout; None where none has."""
        names = ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size")
        for size in SIZES:
            config = GPT2Config.from_size(size)
            if all(getattr(config, name) == getattr(self, name) for name in names):
                return size
        return None


FIELDS: Schema = {
    "n_layer": schema.whole(1, 1000),
    **dict.fromkeys(("n_embd", "n_head", "n_positions", "vocab_size"), schema.whole(1, 10**7)),
    **dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), SHARE),
    **dict.fromkeys(("layer_norm_epsilon", "initializer_range"), SPREAD),
}
"""What a config may hold; what has no bound here, a checkpoint's weights bound."""

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

BLOCK_NAMES = (
    ("ln_1.weight", "norm_1.gamma"),
    ("ln_1.bias", "norm_1.beta"),
    ("attn.c_attn.weight", "attention.qkv.kernel"),
    ("attn.c_attn.bias", "attention.qkv.bias"),
    ("attn.c_proj.weight", "attention.out.kernel"),
    ("attn.c_proj.bias", "attention.out.bias"),
    ("ln_2.weight", "norm_2.gamma"),
    ("ln_2.bias", "norm_2.beta"),
    ("mlp.c_fc.weight", "mlp.up.kernel"),
    ("mlp.c_fc.bias", "mlp.up.bias"),
    ("mlp.c_proj.weight", "mlp.down.kernel"),
    ("mlp.c_proj.bias", "mlp.down.bias"),
)
EMBEDDING = "wte.weight"


def weights(config: DecoderConfig) -> Iterator[StoredWeight]:
    """The table of a base's names."""
    yield StoredWeight(EMBEDDING, "tokens.embeddings")
    yield StoredWeight("wpe.weight", "places.embeddings")
    for block in range(config.layers):
        for name, path in BLOCK_NAMES:
            yield StoredWeight(f"h.{block}.{name}", f"blocks.{block}.{path}")
    yield StoredWeight("ln_f.weight", "norm.gamma")
    yield StoredWeight("ln_f.bias", "norm.beta")


def fields_of(config: GPT2Config, head: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json holds."""
    return {
        **FIXED_FIELDS,
        **config.to_dict(),
        **head,
        "n_ctx": config.n_positions,  # the older name, which converters to GGUF ask for
        "torch_dtype": "float32",
        "bos_token_id": END_OF_TEXT,
        "eos_token_id": END_OF_TEXT,
    }


FAMILY = Family(
    name=NAME,
    title="GPT-2",
    config_of=GPT2Config.from_dict,
    fields_of=fields_of,
    weights=weights,
    sizes={size: GPT2Config(**shape) for size, shape in SIZES.items()},
    aliases=ALIASES,
    hub_names=HUB_NAMES,
    unseen_fields=("n_head", "layer_norm_epsilon"),
    architectures=Heads("GPT2Model", "GPT2LMHeadModel", "GPT2ForSequenceClassification"),
    base_prefix="transformer.",
    block_prefix="h.",
    fan_in_fan_out=True,
    lora_targets={
        "attn.c_attn": "attention.qkv",
        "attn.c_proj": "attention.out",
        "mlp.c_fc": "mlp.up",
        "mlp.c_proj": "mlp.down",
    },
    usual_targets=("attn.c_attn", "attn.c_proj"),
    embedding=EMBEDDING,
    has_gpt2_tokenizer=True,
    constants=(".attn.bias", ".attn.masked_bias"),
)

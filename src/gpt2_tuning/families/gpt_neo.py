"""GPT-Neo (Black et al. 2021): GPT-2's tokenizer, a window in every second layer, unscaled scores.

Kernels are (out, in) in its files.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from gpt2_tuning.checks import are_texts, is_whole
from gpt2_tuning.errors import UserError
from gpt2_tuning.families import config_fields
from gpt2_tuning.families.config_fields import (
    COUNT,
    LAYERS,
    SHARE,
    SPREAD,
    ConfigFields,
    Fixed,
    Shapes,
)
from gpt2_tuning.families.decoder_config import DecoderConfig, Dropouts
from gpt2_tuning.families.family import Family, Heads, StoredWeight
from gpt2_tuning.schema import Rule, Schema, or_null

NAME = "gpt_neo"
KINDS = ("global", "local")
DROPOUTS = ("embed_dropout", "attention_dropout", "resid_dropout")


def alternating(layers: int) -> dict[str, Any]:
    """The fields of so many layers, every second of which has a window."""
    return {"num_layers": layers, "attention_types": [[list(KINDS), layers // 2]]}


def are_kinds(value: Any) -> bool:
    """Whether it is a list of pairs: kinds of layers, and how often they follow each other."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and are_texts(pair[0])
        and set(pair[0]) <= set(KINDS)
        and is_whole(pair[1], 1, 1000)
        for pair in value
    )


@dataclasses.dataclass(frozen=True)
class GPTNeoConfig(ConfigFields):
    """The shape of a GPT-Neo. Field names are those of Hugging Face's config.json."""

    NAME = NAME
    RULES: ClassVar[Schema] = {
        "num_layers": LAYERS,
        **dict.fromkeys(("vocab_size", "hidden_size", "num_heads", "window_size"), COUNT),
        "max_position_embeddings": COUNT,
        "intermediate_size": or_null(COUNT),
        "attention_types": Rule(are_kinds, f"a list of pairs such as [{list(KINDS)}, 6]"),
        **dict.fromkeys(DROPOUTS, SHARE),
        **dict.fromkeys(("layer_norm_epsilon", "initializer_range"), SPREAD),
    }
    FIXED: ClassVar[Fixed] = {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "tie_word_embeddings": (True,),
    }
    SHAPES: ClassVar[Shapes] = {
        "tiny": {
            **alternating(2),
            **{"hidden_size": 128, "num_heads": 2, "max_position_embeddings": 1024},
            **dict.fromkeys(DROPOUTS, 0.2),
        },
        "mini": {
            **alternating(4),
            **{"hidden_size": 256, "num_heads": 4, "max_position_embeddings": 1024},
            **dict.fromkeys(DROPOUTS, 0.1),
        },
        "125M": {**alternating(12), "hidden_size": 768, "num_heads": 12},
        "1.3B": {**alternating(24), "hidden_size": 2048, "num_heads": 16},
        "2.7B": {**alternating(32), "hidden_size": 2560, "num_heads": 20},
    }

    vocab_size: int = 50257
    max_position_embeddings: int = 2048
    hidden_size: int = 2048
    num_layers: int = 24
    attention_types: Any = dataclasses.field(default_factory=lambda: [[list(KINDS), 12]])
    num_heads: int = 16
    intermediate_size: int | None = None
    window_size: int = 256
    """Tokens that `local` layers see."""
    embed_dropout: float = 0.0
    attention_dropout: float = 0.0
    resid_dropout: float = 0.0
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02

    @property
    def decoder(self) -> DecoderConfig:
        """The same in the words of no family."""
        kinds = [kind for pair in self.attention_types for kind in [*pair[0]] * pair[1]]
        if len(kinds) != self.num_layers:
            raise UserError(
                f"attention_types has {len(kinds)} layers, num_layers is {self.num_layers}"
            )
        return DecoderConfig(
            family=NAME,
            layers=self.num_layers,
            width=self.hidden_size,
            heads=self.num_heads,
            kv_heads=self.num_heads,
            head_size=self.per_head("num_heads"),
            mlp_width=self.intermediate_size or 4 * self.hidden_size,
            positions=self.max_position_embeddings,
            vocabulary=self.vocab_size,
            norm_epsilon=self.layer_norm_epsilon,
            score_scale=1.0,
            initial_spread=self.initializer_range,
            residual_spread=self.initializer_range,
            dropouts=Dropouts(self.embed_dropout, self.attention_dropout, self.resid_dropout),
            fused=False,
            biases=frozenset({"attention.out", "mlp.up", "mlp.down"}),
            windows=tuple(self.window_size if kind == "local" else None for kind in kinds),
        )


BLOCK_NAMES = (
    StoredWeight("ln_1.weight", "norm_1.gamma"),
    StoredWeight("ln_1.bias", "norm_1.beta"),
    StoredWeight("attn.attention.q_proj.weight", "attention.query.kernel", True),
    StoredWeight("attn.attention.k_proj.weight", "attention.key.kernel", True),
    StoredWeight("attn.attention.v_proj.weight", "attention.value.kernel", True),
    StoredWeight("attn.attention.out_proj.weight", "attention.out.kernel", True),
    StoredWeight("attn.attention.out_proj.bias", "attention.out.bias"),
    StoredWeight("ln_2.weight", "norm_2.gamma"),
    StoredWeight("ln_2.bias", "norm_2.beta"),
    StoredWeight("mlp.c_fc.weight", "mlp.up.kernel", True),
    StoredWeight("mlp.c_fc.bias", "mlp.up.bias"),
    StoredWeight("mlp.c_proj.weight", "mlp.down.kernel", True),
    StoredWeight("mlp.c_proj.bias", "mlp.down.bias"),
)
EMBEDDING = "wte.weight"


def weights(config: DecoderConfig) -> Iterator[StoredWeight]:
    """The table of a base's names."""
    yield StoredWeight(EMBEDDING, "tokens.embeddings")
    yield StoredWeight("wpe.weight", "places.embeddings")
    for block in range(config.layers):
        for name, path, transposed in BLOCK_NAMES:
            yield StoredWeight(f"h.{block}.{name}", f"blocks.{block}.{path}", transposed)
    yield StoredWeight("ln_f.weight", "norm.gamma")
    yield StoredWeight("ln_f.bias", "norm.beta")


FAMILY = Family(
    name=NAME,
    title="GPT-Neo",
    config_of=GPTNeoConfig.from_dict,
    fields_of=config_fields.fields_of,
    weights=weights,
    sizes={size: GPTNeoConfig.from_size(size) for size in GPTNeoConfig.SHAPES},
    aliases={},
    hub_names={
        "125M": "EleutherAI/gpt-neo-125m",
        "1.3B": "EleutherAI/gpt-neo-1.3B",
        "2.7B": "EleutherAI/gpt-neo-2.7B",
    },
    unseen_fields=("num_heads", "attention_types", "window_size", "layer_norm_epsilon"),
    architectures=Heads("GPTNeoModel", "GPTNeoForCausalLM", "GPTNeoForSequenceClassification"),
    base_prefix="transformer.",
    block_prefix="h.",
    fan_in_fan_out=False,
    lora_targets={
        "q_proj": "attention.query",
        "k_proj": "attention.key",
        "v_proj": "attention.value",
        "out_proj": "attention.out",
        "c_fc": "mlp.up",
        "c_proj": "mlp.down",
    },
    usual_targets=("q_proj", "v_proj"),
    embedding=EMBEDDING,
    has_gpt2_tokenizer=True,
    parts={
        **{f"{part}_proj": f"attn.attention.{part}_proj" for part in ("q", "k", "v", "out")},
        **{part: f"mlp.{part}" for part in ("c_fc", "c_proj")},
    },
    constants=(".attn.attention.bias", ".attn.attention.masked_bias"),
)

"""GPT-NeoX (Black et al. 2022), Pythia (Biderman et al. 2023): attention and MLP side by side."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from gpt2_tuning import schema
from gpt2_tuning.families.config_fields import GELU, GELUS, USUAL, ConfigFields, Shapes
from gpt2_tuning.families.decoder_config import EVERY_DENSE, DecoderConfig, Dropouts
from gpt2_tuning.families.gpt2 import WITH_GPT2_TOKENIZER
from gpt2_tuning.families.names import Names, family_of
from gpt2_tuning.families.rotary import BASE, rotary_of
from gpt2_tuning.schema import Schema


def shape(layers: int, width: int, heads: int, **more: Any) -> dict[str, Any]:
    """The fields of a size; token 0 of Pythia's begins a text and ends it."""
    given = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return {**given, **ends, "intermediate_size": 4 * width, "vocab_size": 50304, **more}


PYTHIA = {
    **{"70M": shape(6, 512, 8), "160M": shape(12, 768, 12), "410M": shape(24, 1024, 16)},
    **{"1B": shape(16, 2048, 8), "1.4B": shape(24, 2048, 16), "2.8B": shape(32, 2560, 32)},
    "6.9B": shape(32, 4096, 32, vocab_size=50432),
}


@dataclasses.dataclass(frozen=True)
class GPTNeoXConfig(ConfigFields):
    """The shape of a GPT-NeoX. Field names are those of Hugging Face's config.json."""

    NAME = "gpt_neox"
    RULES: ClassVar[Schema] = {
        **{**USUAL, "hidden_act": GELU, "rotary_emb_base": BASE},
        "rotary_pct": schema.number(lambda value: 0 < value <= 1, "above 0, at most 1"),
        "use_parallel_residual": schema.SWITCH,
    }
    ROTARY = ("rotary_emb_base", "rotary_pct")
    SHAPES: ClassVar[Shapes] = {
        "tiny": shape(2, 128, 2, **WITH_GPT2_TOKENIZER),
        "mini": shape(4, 256, 4, **WITH_GPT2_TOKENIZER),
        **PYTHIA,
    }

    vocab_size: int = 50432
    hidden_size: int = 6144
    num_hidden_layers: int = 44
    num_attention_heads: int = 64
    intermediate_size: int = 24576
    hidden_act: str = "gelu"
    rotary_pct: float = 0.25
    rotary_emb_base: float = 10000
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    bos_token_id: Any = 0
    eos_token_id: Any = 2
    tie_word_embeddings: bool = False
    use_parallel_residual: bool = True
    rope_scaling: Mapping[str, Any] | None = None
    attention_bias: bool = True

    @property
    def decoder(self) -> DecoderConfig:
        """The same in the words of no family."""
        positions, head_size = self.max_position_embeddings, self.per_head("num_attention_heads")
        return DecoderConfig(
            family=self.NAME,
            layers=self.num_hidden_layers,
            width=self.hidden_size,
            heads=self.num_attention_heads,
            kv_heads=self.num_attention_heads,
            head_size=head_size,
            mlp_width=self.intermediate_size,
            positions=positions,
            vocabulary=self.vocab_size,
            norm_epsilon=self.layer_norm_eps,
            score_scale=head_size**-0.5,
            initial_spread=self.initializer_range,
            residual_spread=self.initializer_range,
            dropouts=Dropouts(self.hidden_dropout, self.attention_dropout, self.hidden_dropout),
            place="rotary",
            rotary=rotary_of(self.rotary_emb_base, self.rope_scaling, positions),
            rotary_share=self.even_share("rotary_pct", head_size),
            mlp=GELUS[self.hidden_act],
            fused_by_head=True,
            biases=EVERY_DENSE if self.attention_bias else frozenset({"mlp.up", "mlp.down"}),
            parallel=self.use_parallel_residual,
            tied_head=self.tie_word_embeddings,
        )


FAMILY = family_of(
    GPTNeoXConfig,
    "GPT-NeoX",
    Names(
        embedding="embed_in",
        dense={
            "attention.query_key_value": "attention.qkv",
            "attention.dense": "attention.out",
            "mlp.dense_h_to_4h": "mlp.up",
            "mlp.dense_4h_to_h": "mlp.down",
        },
        last_norm="final_layer_norm",
    ),
    classes="GPTNeoX",
    hub_names={size: f"EleutherAI/pythia-{size.lower()}" for size in PYTHIA},
    unseen_fields=(
        *("num_attention_heads", "hidden_act", "layer_norm_eps", "use_parallel_residual"),
        *(*GPTNeoXConfig.ROTARY, "rope_scaling", "tie_word_embeddings"),
    ),
    base_prefix="gpt_neox.",
    head="embed_out.weight",
    usual_targets=("query_key_value",),
    constants=(".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"),
)

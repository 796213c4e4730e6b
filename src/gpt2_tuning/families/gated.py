"""What Llama and the families after it share: rotary positions, RMSNorm, a gated MLP.

A family of them is its own fields, and what they come to. Kernels are (out, in) in their files.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from gpt2_tuning import schema
from gpt2_tuning.errors import UserError
from gpt2_tuning.families import config_fields, names
from gpt2_tuning.families.config_fields import COUNT, USUAL, ConfigFields, Fixed
from gpt2_tuning.families.decoder_config import DecoderConfig, Dropouts
from gpt2_tuning.families.family import Family
from gpt2_tuning.families.gpt2 import WITH_GPT2_TOKENIZER
from gpt2_tuning.families.names import Names
from gpt2_tuning.families.rotary import BASE, rotary_of
from gpt2_tuning.schema import Rule, Schema, or_null

FULL, SLIDING = "full_attention", "sliding_attention"
"""A layer's kind in `layer_types`."""
KINDS = Rule(
    lambda value: isinstance(value, list) and all(kind in (FULL, SLIDING) for kind in value),
    f"a list of {FULL} and {SLIDING}",
)
QKV = frozenset({"attention.query", "attention.key", "attention.value"})


@dataclasses.dataclass(frozen=True)
class GatedConfig(ConfigFields):
    """The fields that all of these families have."""

    RULES: ClassVar[Schema] = {
        **USUAL,
        **dict.fromkeys(("num_key_value_heads", "head_dim"), or_null(COUNT)),
        "rope_theta": BASE,
        **dict.fromkeys(("mlp_bias", "use_sliding_window"), schema.SWITCH),
        "sliding_window": or_null(COUNT),
        "max_window_layers": schema.whole(0, 1000),
        "layer_types": or_null(KINDS),
    }
    FIXED: ClassVar[Fixed] = {"hidden_act": ("silu", "swish"), "partial_rotary_factor": (1.0,)}

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    rope_theta: float = 10000.0
    rope_scaling: Mapping[str, Any] | None = None
    attention_dropout: float = 0.0
    tie_word_embeddings: bool = False
    bos_token_id: Any = None
    eos_token_id: Any = None

    @property
    def biases(self) -> frozenset[str]:
        """The dense layers of a block that have one."""
        return frozenset()

    @property
    def windows(self) -> tuple[int | None, ...]:
        """As DecoderConfig's."""
        return ()

    @property
    def head_norms(self) -> bool:
        """As DecoderConfig's."""
        return False

    @property
    def decoder(self) -> DecoderConfig:
        """The same in the words of no family."""
        head_size = self.head_dim or self.per_head("num_attention_heads")
        kv_heads = self.num_key_value_heads or self.num_attention_heads
        if self.num_attention_heads % kv_heads:
            raise UserError(
                f"num_attention_heads {self.num_attention_heads} is not divisible by "
                f"num_key_value_heads {kv_heads}"
            )
        if head_size % 2:
            what = "head_dim" if self.head_dim else "hidden_size / num_attention_heads"
            raise UserError(
                f"{what} must be even, as rotary positions turn pairs of channels, not {head_size}"
            )
        return DecoderConfig(
            family=self.NAME,
            layers=self.num_hidden_layers,
            width=self.hidden_size,
            heads=self.num_attention_heads,
            kv_heads=kv_heads,
            head_size=head_size,
            mlp_width=self.intermediate_size,
            positions=self.max_position_embeddings,
            vocabulary=self.vocab_size,
            norm_epsilon=self.rms_norm_eps,
            score_scale=head_size**-0.5,
            initial_spread=self.initializer_range,
            residual_spread=self.initializer_range,
            dropouts=Dropouts(attention=self.attention_dropout),
            norm="rms",
            place="rotary",
            rotary=rotary_of(self.rope_theta, self.rope_scaling, self.max_position_embeddings),
            mlp="silu_gated",
            fused=False,
            biases=self.biases,
            head_norms=self.head_norms,
            windows=self.windows,
            tied_head=self.tie_word_embeddings,
        )


@dataclasses.dataclass(frozen=True)
class WindowedConfig(GatedConfig):
    """With a window in the layers from `max_window_layers` on, or in those that are named."""

    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    """Tokens that layers with a window see."""
    max_window_layers: int = 28
    layer_types: list[str] | None = None

    @property
    def windows(self) -> tuple[int | None, ...]:
        """As DecoderConfig's."""
        window = self.sliding_window if self.use_sliding_window else None
        if self.layer_types is not None:
            if window is None and SLIDING in self.layer_types:
                raise UserError(f"layer_types has {SLIDING}, but there is no sliding_window")
            if len(self.layer_types) != self.num_hidden_layers:
                raise UserError(
                    f"layer_types has {len(self.layer_types)} layers, num_hidden_layers is "
                    f"{self.num_hidden_layers}"
                )
            return tuple(window if kind == SLIDING else None for kind in self.layer_types)
        if window is None:
            return ()
        full = min(self.max_window_layers, self.num_hidden_layers)
        return (None,) * full + (window,) * (self.num_hidden_layers - full)


NAMES = Names(
    embedding="embed_tokens",
    head_norms={
        "self_attn.q_norm": "attention.query_norm",
        "self_attn.k_norm": "attention.key_norm",
    },
    dense={
        "self_attn.q_proj": "attention.query",
        "self_attn.k_proj": "attention.key",
        "self_attn.v_proj": "attention.value",
        "self_attn.o_proj": "attention.out",
        "mlp.gate_proj": "mlp.gate",
        "mlp.up_proj": "mlp.up",
        "mlp.down_proj": "mlp.down",
    },
    last_norm="norm",
)


def fields_of(config: GatedConfig, head: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json holds.

    transformers would take a `head_dim` of null for a size, and a Mistral with `layer_types`, be it
    null, for a Ministral.
    """
    fields = config_fields.fields_of(config, head)
    absent = {name for name in ("head_dim", "layer_types") if fields.get(name) is None}
    return {name: value for name, value in fields.items() if name not in absent}


def family_of(config: type[GatedConfig], title: str, hub_names: Mapping[str, str]) -> Family:
    """The family of a config; without blanks, its title begins transformers' names of classes."""
    rotary = ("rope_theta", "rope_scaling")
    heads = ("num_attention_heads", "num_key_value_heads")
    return names.family_of(
        config,
        title,
        NAMES,
        classes=title.replace(" ", ""),
        fields_of=fields_of,
        hub_names=hub_names,
        unseen_fields=(*heads, *rotary, "rms_norm_eps", "windows", "tie_word_embeddings"),
        base_prefix="model.",
        usual_targets=("q_proj", "v_proj"),
        constants=(".rotary_emb.inv_freq",),
    )


def small(layers: int, width: int, mlp_width: int) -> dict[str, Any]:
    """The fields of a size that is trained from nothing, with GPT-2's tokenizer."""
    return {
        **WITH_GPT2_TOKENIZER,
        "hidden_size": width,
        "intermediate_size": mlp_width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": width // 4,
    }


SMALL = {"tiny": small(2, 128, 352), "mini": small(4, 256, 704)}
"""Both have heads that share keys and values."""

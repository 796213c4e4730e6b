"""Qwen 3 (Yang et al. 2025): Llama's block with each head's query and key normalised."""

import dataclasses
from typing import ClassVar

from gpt2_tuning.families import gated
from gpt2_tuning.families.config_fields import COUNT, Shapes
from gpt2_tuning.families.gated import QKV, WindowedConfig
from gpt2_tuning.schema import Schema

LARGE = {
    **{"rope_theta": 1000000.0, "bos_token_id": 151643, "eos_token_id": 151643},
    **{"num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True},
}


@dataclasses.dataclass(frozen=True)
class Qwen3Config(WindowedConfig):
    """The shape of a Qwen 3. Field names are those of Hugging Face's config.json."""

    NAME = "qwen3"
    RULES: ClassVar[Schema] = {**WindowedConfig.RULES, "head_dim": COUNT}
    SHAPES: ClassVar[Shapes] = {
        **gated.SMALL,
        "0.6B": {
            **LARGE,
            **{"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28},
            "num_attention_heads": 16,
        },
        "1.7B": {
            **LARGE,
            **{"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28},
            "num_attention_heads": 16,
        },
        "4B": {
            **LARGE,
            **{"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36},
            "num_attention_heads": 32,
        },
    }

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int | None = 32
    head_dim: int = 128
    max_position_embeddings: int = 32768
    attention_bias: bool = False

    @property
    def biases(self) -> frozenset[str]:
        """The dense layers of a block that have one."""
        return QKV | {"attention.out"} if self.attention_bias else frozenset()

    @property
    def head_norms(self) -> bool:
        """As DecoderConfig's."""
        return True


FAMILY = gated.family_of(
    Qwen3Config, "Qwen 3", {size: f"Qwen/Qwen3-{size}-Base" for size in ("0.6B", "1.7B", "4B")}
)

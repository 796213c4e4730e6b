"""Qwen 2 and 2.5 (Yang et al. 2024): Llama's block with biases of queries, keys and values."""

import dataclasses
from typing import ClassVar

from gpt2_tuning.families import gated
from gpt2_tuning.families.config_fields import Shapes
from gpt2_tuning.families.gated import QKV, WindowedConfig

LARGE = {"rope_theta": 1000000.0, "bos_token_id": 151643, "eos_token_id": 151643}


@dataclasses.dataclass(frozen=True)
class Qwen2Config(WindowedConfig):
    """The shape of a Qwen 2. Field names are those of Hugging Face's config.json."""

    NAME = "qwen2"
    SHAPES: ClassVar[Shapes] = {
        **gated.SMALL,
        "0.5B": {
            **LARGE,
            **{"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24},
            **{"num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True},
        },
        "1.5B": {
            **LARGE,
            **{"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28},
            **{"num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True},
            "max_position_embeddings": 131072,
        },
        "7B": {
            **LARGE,
            **{"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28},
            **{"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064},
            "max_position_embeddings": 131072,
        },
    }

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int | None = 32
    max_position_embeddings: int = 32768

    @property
    def biases(self) -> frozenset[str]:
        """The dense layers of a block that have one."""
        return QKV


FAMILY = gated.family_of(
    Qwen2Config, "Qwen 2", {size: f"Qwen/Qwen2.5-{size}" for size in ("0.5B", "1.5B", "7B")}
)

"""Llama (Touvron et al. 2023; Grattafiori et al. 2024): its fields and sizes."""

import dataclasses
from typing import Any, ClassVar

from gpt2_tuning.families import gated
from gpt2_tuning.families.config_fields import Shapes
from gpt2_tuning.families.gated import QKV, GatedConfig


def llama3(factor: float) -> dict[str, Any]:
    """What the sizes of Llama 3.1 and 3.2 have in common, but for their scaling's factor."""
    return {
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "num_key_value_heads": 8,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
    }


@dataclasses.dataclass(frozen=True)
class LlamaConfig(GatedConfig):
    """The shape of a Llama. Field names are those of Hugging Face's config.json."""

    NAME = "llama"
    SHAPES: ClassVar[Shapes] = {
        **gated.SMALL,
        "1B": {
            **llama3(32.0),
            **{"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16},
            **{"num_attention_heads": 32, "head_dim": 64, "tie_word_embeddings": True},
        },
        "3B": {
            **llama3(32.0),
            **{"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28},
            **{"num_attention_heads": 24, "head_dim": 128, "tie_word_embeddings": True},
        },
        "8B": {
            **llama3(8.0),
            **{"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
            **{"num_attention_heads": 32, "head_dim": 128},
        },
    }

    bos_token_id: Any = 1
    eos_token_id: Any = 2
    attention_bias: bool = False
    mlp_bias: bool = False

    @property
    def biases(self) -> frozenset[str]:
        """The dense layers of a block that have one."""
        attention = QKV | {"attention.out"} if self.attention_bias else frozenset()
        mlp = frozenset({"mlp.gate", "mlp.up", "mlp.down"}) if self.mlp_bias else frozenset()
        return attention | mlp


FAMILY = gated.family_of(
    LlamaConfig,
    "Llama",
    {
        "1B": "meta-llama/Llama-3.2-1B",
        "3B": "meta-llama/Llama-3.2-3B",
        "8B": "meta-llama/Llama-3.1-8B",
    },
)

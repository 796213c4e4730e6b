"""Mistral (Jiang et al. 2023): Llama's block with a window in every layer."""

import dataclasses
from typing import Any, ClassVar

from gpt2_tuning.families import gated
from gpt2_tuning.families.config_fields import Fixed, Shapes
from gpt2_tuning.families.gated import GatedConfig

LARGE = {"max_position_embeddings": 32768, "rms_norm_eps": 1e-5}


@dataclasses.dataclass(frozen=True)
class MistralConfig(GatedConfig):
    """The shape of a Mistral. Field names are those of Hugging Face's config.json."""

    NAME = "mistral"
    FIXED: ClassVar[Fixed] = {**GatedConfig.FIXED, "layer_types": (None,)}
    SHAPES: ClassVar[Shapes] = {
        **{size: {**shape, "sliding_window": 256} for size, shape in gated.SMALL.items()},
        "7B": {**LARGE, "sliding_window": 4096},
        "7B-v0.3": {
            **LARGE,
            **{"vocab_size": 32768, "rope_theta": 1000000.0, "sliding_window": None},
        },
    }

    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 131072
    bos_token_id: Any = 1
    eos_token_id: Any = 2
    sliding_window: int | None = 4096
    """Tokens that each layer sees."""

    @property
    def windows(self) -> tuple[int | None, ...]:
        """As DecoderConfig's."""
        return (self.sliding_window,) * self.num_hidden_layers


FAMILY = gated.family_of(
    MistralConfig,
    "Mistral",
    {"7B": "mistralai/Mistral-7B-v0.1", "7B-v0.3": "mistralai/Mistral-7B-v0.3"},
)

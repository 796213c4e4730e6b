"""The random base weights that all workers load, the same on every machine.

It runs in the peers' environment too, so it needs nothing but numpy and safetensors.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

GPT2 = {"n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
"""124M."""
DROPOUT = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), 0.1)
LLAMA = {
    **{"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 2304},
    **{"num_attention_heads": 12, "num_key_value_heads": 4, "max_position_embeddings": 1024},
    **{"vocab_size": 50257, "tie_word_embeddings": True},
    **{"bos_token_id": 50256, "eos_token_id": 50256},
}
"""About as many weights, 121M, three query heads a head of keys and values."""
Weights = Iterator[tuple[str, np.ndarray]]


class Normal:
    """Draws weights one after another."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def __call__(self, *shape: int, spread: float = 0.02) -> np.ndarray:
        """float32 of a shape."""
        return spread * self.generator.standard_normal(shape, dtype=np.float32)


def gpt2_weights() -> Weights:
    """The weights by name; biases and LayerNorms have GPT-2's initial values."""
    normal, width = Normal(), GPT2["n_embd"]
    yield "wte.weight", normal(GPT2["vocab_size"], width)
    yield "wpe.weight", normal(GPT2["n_positions"], width)
    small = 0.02 / (2 * GPT2["n_layer"]) ** 0.5
    norms = [f"h.{layer}.ln_{part}" for layer in range(GPT2["n_layer"]) for part in (1, 2)]
    for name in (*norms, "ln_f"):
        yield f"{name}.weight", np.ones(width, np.float32)
        yield f"{name}.bias", np.zeros(width, np.float32)
    for layer in range(GPT2["n_layer"]):
        for name, inputs, outputs, spread in (
            ("attn.c_attn", width, 3 * width, 0.02),
            ("attn.c_proj", width, width, small),
            ("mlp.c_fc", width, 4 * width, 0.02),
            ("mlp.c_proj", 4 * width, width, small),
        ):
            yield f"h.{layer}.{name}.weight", normal(inputs, outputs, spread=spread)
            yield f"h.{layer}.{name}.bias", np.zeros(outputs, np.float32)


def llama_weights() -> Weights:
    """The weights by name."""
    normal, width, inner = Normal(), LLAMA["hidden_size"], LLAMA["intermediate_size"]
    shared = width * LLAMA["num_key_value_heads"] // LLAMA["num_attention_heads"]
    yield "model.embed_tokens.weight", normal(LLAMA["vocab_size"], width)
    yield "model.norm.weight", np.ones(width, np.float32)
    for layer in range(LLAMA["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{block}.{name}.weight", np.ones(width, np.float32)
        for name, inputs, outputs in (
            ("self_attn.q_proj", width, width),
            ("self_attn.k_proj", width, shared),
            ("self_attn.v_proj", width, shared),
            ("self_attn.o_proj", width, width),
            ("mlp.gate_proj", width, inner),
            ("mlp.up_proj", width, inner),
            ("mlp.down_proj", inner, width),
        ):
            yield f"{block}.{name}.weight", normal(outputs, inputs)


WEIGHTS: dict[str, Callable[[], Weights]] = {"gpt2": gpt2_weights, "llama": llama_weights}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"architectures": ["GPT2LMHeadModel"], **GPT2, **DROPOUT},
    "llama": {"architectures": ["LlamaForCausalLM"], **LLAMA},
}


def write_base(directory: Path, family: str) -> None:
    """Writes a family's weights in Hugging Face's layout, unless they are there."""
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "model.safetensors"
    if not file.exists():
        partial = file.with_suffix(".partial")
        save_file(dict(WEIGHTS[family]()), str(partial), metadata={"format": "pt"})
        partial.replace(file)
    config = {"model_type": family, **CONFIGS[family]}
    (directory / "config.json").write_text(json.dumps(config))

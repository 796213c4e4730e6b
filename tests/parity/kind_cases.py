"""What PEFT can adapt beside whole targets, for both sides: plain data.

For each case the fields of PEFT's LoraConfig, and of our LoRAConfig where it says the same.
"""

from typing import Any, NamedTuple

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {
        "n_layer": 4,
        "n_embd": 32,
        "n_head": 4,
        "n_positions": 32,
        "vocab_size": 97,
        "initializer_range": 0.2,  # large enough for a wrong term to matter
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "resid_pdrop": 0.0,
    },
    "llama": {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": None,
        "attention_bias": True,
    },
    "mistral": {  # which has no bias at all
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "sliding_window": None,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": None,
    },
}


class Case(NamedTuple):
    """A way of adapting a family."""

    family: str
    peft: dict[str, Any] | None
    """LoraConfig's fields; None where PEFT does not write it."""
    lora: dict[str, Any]
    """LoRAConfig's fields."""


GPT2 = ("attn.c_attn", "mlp.c_proj")
LLAMA = ("q_proj", "down_proj")


def case(family, peft, lora):
    """A case with what all of them have."""
    targets = GPT2 if family == "gpt2" else LLAMA
    common = {"r": 4, "lora_alpha": 6, "target_modules": list(targets)}
    ours = {"rank": 4, "alpha": 6, "targets": targets}
    return Case(family, {**common, **peft}, {**ours, **lora})


CASES: dict[str, Case] = {
    "gpt2-blocks": case("gpt2", {"layers_to_transform": [1, 3]}, {"layers": (1, 3)}),
    "gpt2-one-block": case(
        "gpt2", {"layers_to_transform": 2, "layers_pattern": ["h"]}, {"layers": (2,)}
    ),
    "gpt2-excluded": case(
        "gpt2",
        {"exclude_modules": ["h.1.attn.c_attn", "h.2.mlp.c_proj"]},
        {"exclude": ("1.attn.c_attn", "2.mlp.c_proj")},
    ),
    "gpt2-excluded-by-pattern": case(
        "gpt2", {"exclude_modules": r".*\.[0-2]\.mlp\.c_proj"}, {"exclude": ("3.attn.c_attn",)}
    ),
    "gpt2-ranks": case(
        "gpt2",
        {
            "rank_pattern": {r"h\.[02]\.attn.c_attn": 2, r"h\.[13]\.attn\.c_attn": 7},
            "alpha_pattern": {r"^transformer.h.3.mlp.c_proj": 3},
        },
        {
            "rank_pattern": {"0.attn.c_attn": 2, "2.attn.c_attn": 3, "attn.c_attn": 7},
            "alpha_pattern": {"3.mlp.c_proj": 3, "attn.c_attn": 9},
        },
    ),
    "llama-blocks": case(
        "llama",
        {"layers_to_transform": [0, 3], "layers_pattern": "layers"},
        {"layers": (0, 3), "exclude": ("3.q_proj",)},
    ),
    "llama-ranks": case(
        "llama",
        {
            "target_modules": r".*\.layers\.(0|2|3)\.self_attn\.(q|v)_proj",
            "rank_pattern": {r"model.layers.0.self_attn.q_proj": 2},
            "alpha_pattern": {"3.self_attn.v_proj": 3},
            "use_rslora": True,
        },
        {
            "rank_pattern": {"0.q_proj": 2, "3.down_proj": 1},
            "alpha_pattern": {"down_proj": 3},
            "use_rslora": True,
        },
    ),
    "gpt2-all-biases": case("gpt2", {"bias": "all"}, {"bias": "all"}),
    "gpt2-own-biases": case(
        "gpt2",
        {"bias": "lora_only", "layers_to_transform": [0, 2]},
        {"bias": "lora_only", "layers": (0, 2)},
    ),
    "llama-all-biases": case("llama", {"bias": "all"}, {"bias": "all"}),
    "llama-own-biases": case("llama", {"bias": "lora_only"}, {"bias": "lora_only"}),
    "mistral-all-biases": case("mistral", {"bias": "all"}, {"bias": "all"}),
    "gpt2-rank-above-size": case("gpt2", {"r": 40}, {"rank": 40}),
    "gpt2-embedding": case("gpt2", {"modules_to_save": ["wte"]}, {"modules_to_save": ("wte",)}),
    "gpt2-head": case("gpt2", {"modules_to_save": ["lm_head"]}, {"modules_to_save": ("lm_head",)}),
    "gpt2-whole": case(
        "gpt2",
        {"modules_to_save": ["wpe", "ln_f", "lm_head", "wte"], "bias": "lora_only"},
        {"modules_to_save": ("wte", "wpe", "ln_f", "lm_head"), "bias": "lora_only"},
    ),
    "llama-whole": case(
        "llama",
        {"modules_to_save": ["embed_tokens", "model.norm", "lm_head"]},
        {"modules_to_save": ("embed_tokens", "norm", "lm_head")},
    ),
    "gpt2-dora": case("gpt2", {"use_dora": True}, {"use_dora": True}),
    "gpt2-dora-and-all": case(
        "gpt2",
        {"use_dora": True, "bias": "all", "layers_to_transform": [1, 2], "use_rslora": True},
        {"use_dora": True, "bias": "lora_only", "layers": (0, 3), "use_rslora": True},
    ),
    "llama-dora": case("llama", {"use_dora": True}, {"use_dora": True, "layers": (2,)}),
    "gpt2-pissa": case("gpt2", {"init_lora_weights": "pissa"}, {"init": "pissa"}),
    "llama-pissa": case(
        "llama",
        {"init_lora_weights": "pissa", "use_rslora": True, "layers_to_transform": [1, 2]},
        {"init": "pissa", "use_rslora": True, "rank_pattern": {"q_proj": 6, "1.down_proj": 2}},
    ),
    "llama-olora": case("llama", {"init_lora_weights": "olora"}, {"init": "olora"}),
    # PEFT decomposes GPT-2's kernels, which lie (in, out), as if they lay (out, in).
    "gpt2-olora": case("gpt2", {}, {"init": "olora"})._replace(peft=None),
}
FROM_PEFT = [name for name, case in CASES.items() if case.peft is not None]
CONVERTED = ("gpt2-pissa", "llama-pissa", "llama-olora")
"""Those that PEFT also writes as plain LoRA, under their names with this at the end."""
ENDING = "-converted"

"""Options of each family, as config.json has them, for both sides: plain data.

Beside each option stand the mistakes that its test must fail on: fields that are otherwise, or the
name of a mistake in the weights or the computation (`MISTAKES` in `test_family_parity.py`).
"""

from typing import Any, NamedTuple

COMMON = {
    "vocab_size": 97,
    "hidden_size": 32,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,  # large enough for a wrong term to matter
    "bos_token_id": None,
    "eos_token_id": None,  # so that greedy decoding never ends early
}
GATED = {
    **COMMON,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000.0,
}
NEO = {
    **COMMON,
    "num_layers": 3,
    "num_heads": 4,
    "attention_types": [[["local", "global", "local"], 1]],
    "window_size": 5,
    "embed_dropout": 0.0,
    "attention_dropout": 0.0,
    "resid_dropout": 0.0,
}
NEOX = {
    **COMMON,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "rotary_pct": 0.5,
    "rotary_emb_base": 1000.0,
}
SHAPES: dict[str, dict[str, Any]] = {
    "gpt_neo": NEO,
    "gpt_neox": NEOX,
    "llama": GATED,
    "mistral": {**GATED, "sliding_window": 5},
    "qwen2": {**GATED, "head_dim": 8},
    "qwen3": GATED,
}
TARGETS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        SHAPES, (("q_proj", "v_proj"), "all-linear", ("k_proj", "o_proj", "gate_proj"))
    ),
    "gpt_neo": (("q_proj", "v_proj"), "all-linear", ("out_proj", "c_fc")),
    "gpt_neox": (("query_key_value",), "all-linear", ("dense", "dense_4h_to_h")),
}
"""What people adapt, as PEFT's `target_modules`."""


class Case(NamedTuple):
    """An option of a family."""

    family: str
    fields: dict[str, Any]
    """Beside those of SHAPES."""
    mistakes: tuple[Any, ...]


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
MORE = {
    **{"original_max_position_embeddings": 48, "beta_fast": 3.0, "beta_slow": 0.5},
    **{"truncate": False, "mscale": 0.7, "mscale_all_dim": 0.4},
}
LINEAR = {"rope_type": "linear", "factor": 4.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0}
NO_SCALING = {"rope_scaling": None}
WINDOWS = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
NAMED = ["sliding_attention", "full_attention", "sliding_attention"]


def scaling(fields, **changes):
    """Rotary positions with such a scaling, and with changes to it."""
    return {"rope_scaling": {**fields, **changes}}


CASES = {
    "gpt_neo": Case(
        "gpt_neo",
        {},
        (
            {"window_size": 4},
            {"window_size": 6},
            {"attention_types": [[["global", "local", "local"], 1]]},
            {"layer_norm_epsilon": 1e-4},
            "scores scaled",
            "no attention.out bias",
            "no mlp.up bias",
            "positions after the window",
        ),
    ),
    "gpt_neo-width": Case("gpt_neo", {"intermediate_size": 40}, ("no mlp.down bias",)),
    "gpt_neox": Case(
        "gpt_neox",
        {},
        (
            {"use_parallel_residual": False},
            {"rotary_pct": 0.25},
            {"rotary_pct": 1.0},
            {"rotary_emb_base": 1100.0},
            {"layer_norm_eps": 1e-4},
            {"hidden_act": "gelu_new"},
            "last channels rotated",
            "frequencies of the whole head",
            "pairs of the whole head",
            "all queries first",
            "norms exchanged",
            "tied head",
            "no attention.qkv bias",
            "no attention.out bias",
            "no mlp.up bias",
            "no mlp.down bias",
        ),
    ),
    "gpt_neox-in-turn": Case(
        "gpt_neox",
        {"use_parallel_residual": False, "hidden_act": "gelu_new", "rotary_pct": 1.0},
        ({"use_parallel_residual": True}, {"hidden_act": "gelu"}, {"rotary_pct": 0.5}),
    ),
    "gpt_neox-no-biases": Case(
        "gpt_neox",
        {"attention_bias": False, "hidden_act": "gelu_fast"},
        ({"hidden_act": "gelu"}, "no mlp.up bias", "all queries first"),
    ),
    "gpt_neox-tied": Case(
        "gpt_neox",
        {"tie_word_embeddings": True, "hidden_act": "gelu_pytorch_tanh"},
        ({"hidden_act": "gelu"},),
    ),
    "gpt_neox-yarn": Case(
        "gpt_neox",
        scaling(YARN),
        (NO_SCALING, scaling(YARN, factor=4.5), scaling(YARN, attention_factor=1.0)),
    ),
    "llama": Case(
        "llama",
        {},
        (
            {"rope_theta": 1100.0},
            {"rms_norm_eps": 1e-4},
            "heads in turn",
            "gate and up exchanged",
            "tied head",
            "neighbours rotated",
        ),
    ),
    "llama-tied": Case("llama", {"tie_word_embeddings": True}, ({"rms_norm_eps": 1e-4},)),
    "llama-one-shared": Case("llama", {"num_key_value_heads": 1}, ({"rope_theta": 1100.0},)),
    "llama-none-shared": Case("llama", {"num_key_value_heads": 4}, ({"rope_theta": 1100.0},)),
    "llama-biases": Case(
        "llama",
        {"attention_bias": True, "mlp_bias": True},
        tuple(
            f"no {place} bias"
            for place in (
                *("attention.query", "attention.key", "attention.value", "attention.out"),
                *("mlp.gate", "mlp.up", "mlp.down"),
            )
        ),
    ),
    "llama-linear": Case("llama", scaling(LINEAR), (NO_SCALING, scaling(LINEAR, factor=4.4))),
    "llama-dynamic": Case("llama", scaling(DYNAMIC), (scaling(LINEAR),)),
    "llama-llama3": Case(
        "llama",
        scaling(LLAMA3),
        (
            NO_SCALING,
            scaling(LLAMA3, factor=4.0),
            scaling(LLAMA3, low_freq_factor=0.5),
            scaling(LLAMA3, high_freq_factor=5.0),
            scaling(LLAMA3, original_max_position_embeddings=40),
        ),
    ),
    "llama-yarn": Case(
        "llama",
        scaling(YARN),
        (
            NO_SCALING,
            scaling(YARN, factor=4.5),
            scaling(YARN, attention_factor=1.0),
            scaling(YARN, beta_slow=0.3),
            scaling(YARN, original_max_position_embeddings=60),
        ),
    ),
    "llama-yarn-more": Case(
        "llama",
        scaling(YARN, **MORE),
        (
            scaling(YARN, **{**MORE, "truncate": True}),
            scaling(YARN, **{**MORE, "mscale": None}),
            scaling(YARN, **{**MORE, "beta_fast": 2.0}),
            scaling(YARN, **{**MORE, "beta_slow": 0.7}),
        ),
    ),
    "mistral": Case(
        "mistral",
        {},
        (
            {"sliding_window": 4},
            {"sliding_window": 6},
            {"sliding_window": None},
            {"rope_theta": 1100.0},
            "heads in turn",
        ),
    ),
    "mistral-no-window": Case("mistral", {"sliding_window": None}, ({"sliding_window": 8},)),
    "qwen2": Case(
        "qwen2",
        {},
        (
            "no attention.query bias",
            "no attention.key bias",
            "no attention.value bias",
            {"rope_theta": 1100.0},
        ),
    ),
    "qwen2-windows": Case(
        "qwen2",
        WINDOWS,
        (
            {"layer_types": None, "max_window_layers": 0},
            {"layer_types": None, "max_window_layers": 2},
            {"layer_types": None, "use_sliding_window": False},
            {"sliding_window": 4},
            {"sliding_window": 6},
        ),
    ),
    "qwen2-named-windows": Case(
        "qwen2",
        {**WINDOWS, "layer_types": NAMED},
        ({"layer_types": [*NAMED[1:], NAMED[0]]},),
    ),
    "qwen3": Case(
        "qwen3",
        {},
        ("no query gain", "no key gain", "gains after rotation", {"rms_norm_eps": 1e-4}),
    ),
    "qwen3-all": Case(
        "qwen3",
        {"attention_bias": True, **WINDOWS, **scaling(YARN), "tie_word_embeddings": True},
        (
            {"sliding_window": 6},
            NO_SCALING,
            "no attention.key bias",
            "no attention.out bias",
        ),
    ),
}

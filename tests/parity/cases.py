"""What both sides of the parity tests agree on: plain data, with neither library imported."""

SHAPE = {
    "n_layer": 2,
    "n_embd": 32,
    "n_head": 4,
    "n_positions": 32,
    "vocab_size": 97,
    "initializer_range": 0.2,  # large enough for a wrong term to matter
}
PAD = 96
"""Padding's id; no text holds it, since PyTorch's classifier finds the last real token by it."""

CLASSES = 3

TASKS = {
    "GPT2Model": "FEATURE_EXTRACTION",
    "GPT2ForSequenceClassification": "SEQ_CLS",
    "GPT2LMHeadModel": "CAUSAL_LM",
}
"""PEFT's word for what each transformers class is for."""

TARGETS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
PLAIN = {"rank": 4, "alpha": 6, "targets": ("attn.c_attn", "attn.c_proj")}
LORAS = {
    **{target: {**PLAIN, "targets": (target,)} for target in TARGETS},
    "default": PLAIN,
    "all": {**PLAIN, "targets": TARGETS},
    "rslora": {**PLAIN, "targets": TARGETS, "use_rslora": True},
    "patterns": {
        **PLAIN,
        "targets": TARGETS,
        "rank_pattern": {"attn.c_proj": 2, "mlp.c_proj": 7},
        "alpha_pattern": {"attn.c_attn": 3, "mlp.c_proj": 1.5},
    },
    "rslora_patterns": {
        **PLAIN,
        "targets": ("attn.c_proj", "mlp.c_fc"),
        "use_rslora": True,
        "rank_pattern": {"mlp.c_fc": 2},
        "alpha_pattern": {"attn.c_proj": 5},
    },
}
"""Every way of adapting a model, by name, as LoRAConfig's fields."""

GENERATIONS: tuple[dict[str, float], ...] = (
    {},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7, "no_repeat_ngram": 2},
    {"no_repeat_ngram": 1},
    {"no_repeat_ngram": 3},
    {"temperature": 0.7},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 2.0, "top_p": 0.8},
    {"temperature": 1.5, "min_p": 0.1},
    {"temperature": 1.3, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "no_repeat_ngram": 2},
    {"temperature": 0.9, "top_k": 9, "top_p": 0.7, "repetition_penalty": 1.2},
)
"""Ways of choosing the next token, as a Generation's fields."""

CASES = [(task, lora) for task in TASKS for lora in LORAS]

MIXTURES = (("linear", 1.0), ("cat", 1.0), ("ties", 0.4), ("dare_linear", 1.0), ("dare_ties", 1.0))
"""Ways of mixing adapters, with the share of their numbers that is kept; DARE draws which."""
SHARES = (0.7, -0.3)

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

CASES = [(task, lora) for task in TASKS for lora in LORAS]

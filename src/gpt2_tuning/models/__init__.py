"""GPT-2 in Keras: the base model, its heads, LoRA."""

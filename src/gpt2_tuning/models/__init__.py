"""Decoders in Keras: the blocks, the heads, LoRA."""

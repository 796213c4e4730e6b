"""Commands of the library itself: `python -m gpt2_tuning.commands.<name>`."""

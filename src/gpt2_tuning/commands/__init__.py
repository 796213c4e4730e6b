"""What belongs to no task: `gpt2-tuning <name>`, or `python -m gpt2_tuning.commands.<name>`."""

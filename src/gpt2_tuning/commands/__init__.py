"""What belongs to no task: `gpt2-tuning <name>`, or `python -m gpt2_tuning.commands.<name>`."""

from gpt2_tuning import interrupts

interrupts.hook()  # first: imports are most of a start

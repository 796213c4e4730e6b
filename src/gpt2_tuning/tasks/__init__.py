"""What is tuned: a folder a task, which says which data, columns, defaults and words are its own.

Each has three steps, `prepare`, `train` and `test`, that meet through files alone. What the
`test` steps of a kind of model share lies beside the folders.
"""

from gpt2_tuning import interrupts

interrupts.hook()  # first: imports are most of a start

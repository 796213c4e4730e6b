"""`gpt2-tuning test text` as a script of a checkout."""

import sys

from gpt2_tuning.tasks.text.test import Options, main

__all__ = ["Options", "main"]

if __name__ == "__main__":
    sys.exit(main())

"""`gpt2-tuning test entailment` as a script of a checkout."""

import sys

from gpt2_tuning.tasks.entailment.test import Options, main

__all__ = ["Options", "main"]

if __name__ == "__main__":
    sys.exit(main())

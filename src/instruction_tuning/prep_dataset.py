"""`gpt2-tuning prepare instruction` as a script of a checkout."""

import sys

from gpt2_tuning.tasks.instruction.prepare import Options, main

__all__ = ["Options", "main"]

if __name__ == "__main__":
    sys.exit(main())

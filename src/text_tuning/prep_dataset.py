"""`gpt2-tuning prepare text` as a script of a checkout."""

import sys

from gpt2_tuning.tasks.text.prepare import Options, main

__all__ = ["Options", "main"]

if __name__ == "__main__":
    sys.exit(main())

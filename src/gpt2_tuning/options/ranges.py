"""What the values of flags may be."""

from gpt2_tuning.errors import UserError

SEEDS = 2**32
"""How many seeds NumPy and Keras take."""
COUNTS = 2**31 - 1
"""The most of what is counted over a run: updates, epochs, tokens."""
ROWS = 2**20
"""The most rows that are computed together."""
PARTS = 2**12
"""The most parts of a batch on a device, each of which is a pass of its own."""
DEVICES = 128
"""The most logical devices: each has threads and memory of its own."""
RUNS = 1000
"""The most runs of one command."""


def require(holds: bool, name: str, wanted: str, options: object) -> None:
    """Raises UserError, naming the flag, unless the condition holds."""
    if not holds:
        raise UserError(f"--{name} must be {wanted}, not {getattr(options, name)}")


def require_whole(name: str, least: int, most: int, options: object) -> None:
    """Raises UserError, naming the flag, unless it is left out or in a range."""
    value = getattr(options, name)
    if value is not None and value < least:
        require(False, name, f"at least {least}", options)
    require(value is None or value <= most, name, f"at most {most}", options)

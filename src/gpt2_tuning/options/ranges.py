"""What the values of flags may be."""

from gpt2_tuning.errors import UserError

SEEDS = 2**32
"""How many seeds NumPy and Keras take."""


def require(holds: bool, name: str, wanted: str, options: object) -> None:
    """Raises UserError, naming the flag, unless the condition holds."""
    if not holds:
        raise UserError(f"--{name} must be {wanted}, not {getattr(options, name)}")

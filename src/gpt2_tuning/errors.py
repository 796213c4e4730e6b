"""What is a user's to mend: commands print one line and exit with code 2."""


class UserError(ValueError):
    """Bad usage or bad input. The message is one line that says what is wrong and what to do."""


class OutOfMemory(UserError):
    """A step needs more memory than there is."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether TensorFlow says that a device's memory does not suffice, or CUDA does.

    Asks for no TensorFlow, which not every command imports.
    """
    return type(error).__name__ == "ResourceExhaustedError" or "OUT_OF_MEMORY" in str(error)

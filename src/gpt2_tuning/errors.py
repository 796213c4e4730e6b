"""The one exception that is a user's to mend: commands print its message and exit with code 2."""


class UserError(ValueError):
    """Bad usage or bad input. The message is one line that says what is wrong and what to do."""


class OutOfMemory(UserError):
    """A step needs more memory than there is."""

"""Errors that a user can mend: bad arguments, files and configurations."""


class InputError(ValueError):
    """Bad input from the user.

    The message is one line that says what is wrong, where, and what would be right.
    Commands print it as ``error: <message>`` on stderr and exit with code 2.
    """

"""Errors that commands tell in one line."""


class InputError(ValueError):
    """Bad input from the user: arguments, files and configurations that the user can mend.

    The message is one line that says what is wrong, where, and what would be right.
    Commands print it as ``error: <message>`` on stderr and exit with code 2.
    """


class MachineError(RuntimeError):
    """The machine ended with an error code; the message says which and where. Commands exit with code 1."""

"""Errors that commands tell in one line."""

import sys
from collections.abc import Callable
from functools import wraps


class InputError(ValueError):
    """Bad input from the user: arguments, files and configurations that the user can mend.

    The message is one line that says what is wrong, where, and what would be right.
    Commands print it as ``error: <message>`` on stderr and exit with code 2 (`command`).
    """


class MachineError(RuntimeError):
    """The machine ended with an error code; the message says which and where. Commands exit with code 1."""


def command(*failures: type[Exception]) -> Callable[[Callable[[list[str] | None], int]], Callable[..., int]]:
    """Decorate a command's ``main(arguments)``, which returns its exit code: errors become one line on stderr and an exit code.

    Args:
        failures: Exceptions other than `InputError` whose message tells all there is to know; their exit code is 1.
    """
    told: tuple[type[Exception], ...] = (InputError, *failures)

    def decorate(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
        @wraps(main)
        def run(arguments: list[str] | None = None) -> int:
            try:
                return main(arguments)
            except told as error:
                print(f"error: {error}", file=sys.stderr)
                return 2 if isinstance(error, InputError) else 1

        return run

    return decorate

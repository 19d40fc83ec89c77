"""Errors that commands tell in one line."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    SIGINT and SIGTERM end it in the same way, with what it has begun cleaned up; their exit codes are a shell's, 130 and 143.

    Args:
        failures: Exceptions other than `InputError` whose message tells all there is to know; their exit code is 1.
    """
    told: tuple[type[Exception], ...] = (InputError, *failures)

    def decorate(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
        @wraps(main)
        def run(arguments: list[str] | None = None) -> int:
            try:
                with _terminable():
                    return main(arguments)
            except told as error:
                print(f"error: {error}", file=sys.stderr)
                return 2 if isinstance(error, InputError) else 1
            except KeyboardInterrupt:
                return _ended("interrupted", signal.SIGINT)
            except _Terminated:
                return _ended("terminated", signal.SIGTERM)

        return run

    return decorate


class _Terminated(BaseException):
    """SIGTERM came."""


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds the stack as SIGINT does, so that simulations are stopped and temporary folders removed."""

    def unwind(number: int, frame: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ended(how: str, number: signal.Signals) -> int:
    print(f"error: {how}", file=sys.stderr)
    return 128 + number

"""Errors that commands tell in one line."""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any


class InputError(ValueError):
    """Bad input from the user: arguments, files and configurations that the user can mend.

    The message is one line that says what is wrong, where, and what would be right.
    Commands print it as ``error: <message>`` on stderr and exit with code 2 (`command`).
    """


class MachineError(RuntimeError):
    """The machine ended with an error code; the message says which and where. Commands exit with code 1."""


def command(*failures: type[Exception]) -> Callable[[Callable[[list[str] | None], int]], Callable[..., int]]:
    """Decorate a command's ``main(arguments)``, which returns its exit code: errors become one line on stderr and an exit code.

    What the operating system refuses (OSError) is told so, too, with exit code 1. SIGINT and SIGTERM end a command in the same
    way, with what it has begun cleaned up; their exit codes are a shell's, 130 and 143. Who reads the output may leave early: the
    work is done to its end. What the terminal's encoding does not have is written as an escape.

    Args:
        failures: Exceptions other than these whose message tells all there is to know; their exit code is 1.
    """
    told: tuple[type[Exception], ...] = (InputError, *failures)

    def decorate(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
        @wraps(main)
        def run(arguments: list[str] | None = None) -> int:
            with _output() as outputs:
                try:
                    with _terminable():
                        code = main(arguments)
                    return code or _refused(outputs)
                except told as error:
                    return _failed(str(error), 2 if isinstance(error, InputError) else 1)
                except OSError as error:
                    return _failed(": ".join(map(str, filter(None, (error.filename, error.strerror)))) or str(error), 1)
                except KeyboardInterrupt:
                    return _failed("interrupted", 128 + signal.SIGINT)
                except _Terminated:
                    return _failed("terminated", 128 + signal.SIGTERM)

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


class _Output(io.FileIO):
    """Standard output or error that does not end the work: once it takes no more, the rest goes nowhere.

    Attributes:
        problem: why, unless its reader has only left.
    """

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.problem = error
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            return len(data)


@contextmanager
def _output() -> Iterator[list[_Output]]:
    """Let the process's own stdout and stderr, unless somebody has replaced them, be of `_Output`, which is yielded.

    Descriptors 0 to 2 are opened where they are closed, so that no file of the work gets their numbers.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    outputs = []
    with ExitStack() as undo:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
                stream.flush()
                outputs.append(_Output(stream.fileno(), "w", closefd=False))
                buffer: Any = outputs[-1] if stream.write_through else io.BufferedWriter(outputs[-1])
                wrapped = io.TextIOWrapper(
                    buffer, stream.encoding, "backslashreplace",
                    line_buffering=stream.line_buffering, write_through=stream.write_through,
                )  # fmt: skip
                setattr(sys, name, wrapped)
                undo.callback(setattr, sys, name, stream)
                undo.callback(wrapped.flush)
        yield outputs


def _refused(outputs: list[_Output]) -> int:
    """The exit code of work that was done, 1 with a line where its output could not be written."""
    if sys.stdout is not None:
        sys.stdout.flush()
    problem = next((output.problem for output in outputs if output.problem), None)
    return 0 if problem is None else _failed(f"Standard output must be writable: {problem.strerror}", 1)


def _failed(why: str, code: int) -> int:
    print(f"error: {why}", file=sys.stderr)
    return code

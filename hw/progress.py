"""Progress of commands. What takes long names its stages; they are shown where a command asked for it, and nowhere else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Timer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE_S = 5.0
"""Where there is no terminal, a stage is told when it has lasted so many seconds."""
_shown: ContextVar["Progress | None"] = ContextVar("progress", default=None)


@contextmanager
def progress() -> Iterator[None]:
    """Show the stages of what runs inside on stderr: on a terminal those that run, else a line for each that takes long."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from hw.tables import terminal

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    console = terminal(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as display:
        before = _shown.set(display)
        try:
            yield
        finally:
            _shown.reset(before)


@contextmanager
def stage(name: str) -> Iterator[Callable[[str], None]]:
    """Name what runs inside, such as ``calibration on 32 images``; yields what gives it another name while it runs."""
    display = _shown.get()
    if display is None:
        yield lambda name: None
        return
    task = display.add_task(name, total=None)
    told = Timer(PATIENCE_S, lambda: display.console.print(f"{name} ..."))
    told.daemon = True
    if not display.console.is_terminal:
        told.start()
    try:
        yield lambda name: display.update(task, description=name)
    finally:
        told.cancel()
        display.remove_task(task)

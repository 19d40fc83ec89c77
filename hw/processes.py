"""Processes that a command begins: they end with it, however it ends, and leave nothing behind."""

import ctypes
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hw.files import plain_directory

_PR_SET_PDEATHSIG = 1
"""Of Linux's ``prctl``: the signal that a process gets when its parent ends."""


def parent_tie() -> Callable[[], None]:
    """What a new process calls to be killed when its parent ends, without effect where the kernel knows no such thing.

    To be had before a fork, after which little may be done.
    """
    control = getattr(ctypes.CDLL(None), "prctl", None)

    def tie() -> None:
        if control is not None:
            control(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return tie


class _Pool(ProcessPoolExecutor):
    """A pool whose workers do not hear the Ctrl-C that a terminal sends to all of them: it is their parent's."""

    def submit(self, *arguments: Any, **fields: Any) -> Future:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a process begins with the mask of whoever begins it
        try:
            return super().submit(*arguments, **fields)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(scratch: str) -> None:
    parent_tie()()
    tempfile.tempdir = os.environ["TMPDIR"] = scratch  # Yosys reads the variable


@contextmanager
def worker_pool(workers: int, *, tasks_per_worker: int | None = None) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes, which begin without what this one has imported.

    They end with the ``with``, after their work, or at once where an exception leaves it; their temporary files go with them.

    Args:
        workers: processes at a time.
        tasks_per_worker: tasks after which a process gives way to a new one; None for no end.
    """
    with tempfile.TemporaryDirectory(prefix="pivot-workers-") as name, plain_directory(Path(name)) as scratch:
        spawn = multiprocessing.get_context("spawn")
        pool = _Pool(workers, spawn, initializer=_begin, initargs=(str(scratch),), max_tasks_per_child=tasks_per_worker)
        with pool:
            try:
                yield pool
            except BaseException:
                for worker in multiprocessing.active_children():
                    worker.kill()
                pool.shutdown(cancel_futures=True)
                raise

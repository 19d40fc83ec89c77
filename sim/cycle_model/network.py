"""Sequences of event times, and the processes that extend them as far as their inputs are known.

A Kahn network: what a process finds out does not depend on the order in which processes run. Time enters at one place
only, where the memory chooses the earliest of all transfers that are known (`sim.cycle_model.memory`).
"""

from collections.abc import Generator, Iterable

Process = Generator["Times | tuple[Times, ...]", None, None]
"""Yields what it waits for: it is resumed when that sequence, or one of those sequences, has grown."""
Wait = Generator["Times | tuple[Times, ...]", None, int]
"""Part of a process that finds out a cycle."""


class Times(list):
    """Cycles (or other facts) of the events of one kind, in order; grows as they become known."""

    __slots__ = ("_ready", "_waiting")

    def __init__(self, ready: list[Process]) -> None:
        super().__init__()
        self._ready = ready
        self._waiting: list[Process] = []

    def put(self, item) -> None:
        """Append one item and wake who waits."""
        self.append(item)
        if self._waiting:
            self._ready += self._waiting
            self._waiting.clear()

    def put_all(self, items: Iterable) -> None:
        """Append items and wake who waits."""
        self.extend(items)
        if self._waiting:
            self._ready += self._waiting
            self._waiting.clear()

    def wake(self, process: Process) -> None:
        """Resume ``process`` when the sequence grows."""
        if process not in self._waiting:
            self._waiting.append(process)


class Network:
    """Processes and what they wait for."""

    def __init__(self) -> None:
        self._ready: list[Process] = []

    def times(self) -> Times:
        """A new, empty sequence."""
        return Times(self._ready)

    def start(self, process: Process) -> None:
        """Add a process."""
        self._ready.append(process)

    def settle(self) -> None:
        """Run every process as far as what is known allows."""
        ready = self._ready
        while ready:
            process = ready.pop()
            for wanted in process:
                if isinstance(wanted, tuple):
                    for times in wanted:
                        times.wake(process)
                else:
                    wanted.wake(process)
                break

"""Timing of the simulated memory: its parameters, and the recurrence that `memory_model.sv` follows.

The rule is told in docs/memory-model.md; a test holds the two equal, cycle for cycle.
"""

from dataclasses import dataclass, fields, replace

from hw.assignments import parse_assignments
from hw.errors import InputError

LIMITS = {"latency": (1, 100_000), "bytes_per_cycle": (1, 4096), "outstanding": (1, 64)}
"""Least and greatest value of each field of `MemoryTiming`."""


@dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """How fast the memory behind the machine's AXI ports answers.

    Attributes:
        latency: Cycles from the acceptance of a read address to its first beat, and from a burst's last write beat to
            the response, when nothing else is under way.
        bytes_per_cycle: Bandwidth that all ports share, reads and writes together.
        outstanding: Read bursts, and write bursts, that each port may have in flight.

    Raises:
        InputError: When a value is out of range.
    """

    latency: int = 120
    bytes_per_cycle: int = 48
    outstanding: int = 8

    def __post_init__(self) -> None:
        """Check the values."""
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"Memory {name} must be an integer from {low} to {high}, not {value!r}")

    @staticmethod
    def parse(text: str) -> "MemoryTiming":
        """Timing from ``latency=120,bytes_per_cycle=48,outstanding=8``; fields left out keep their defaults.

        Raises:
            InputError: For an unknown field, a value that is not an integer, or one out of range.
        """
        kinds = dict.fromkeys((field.name for field in fields(MemoryTiming)), int)
        return replace(MemoryTiming(), **dict(parse_assignments(text, kinds, "--memory")))

    @property
    def plusargs(self) -> list[str]:
        """The values as the simulation takes them."""
        return [f"+{field.name}={getattr(self, field.name)}" for field in fields(self)]


class MemorySchedule:
    """When the memory serves what: one queue for the bandwidth, first come, first served.

    Calls must come in the order in which the memory sees the transfers: by cycle; within a cycle read addresses by
    port number, then the write beat of the system port.

    Args:
        timing: The memory's parameters.
        beat_bytes: Bytes of a data beat.
    """

    def __init__(self, timing: MemoryTiming, beat_bytes: int) -> None:
        self.timing = timing
        self.beat_bytes = beat_bytes
        self.bus_free = 0
        """Bytes of bandwidth given away since cycle 0, idle time included."""

    def read(self, cycle: int, beats: int) -> list[int]:
        """Reserve a burst whose address was accepted in ``cycle``.

        Returns:
            For each beat the earliest cycle in which it can be valid. It is valid from that cycle on, or from the one
            after its port's preceding beat was taken, whichever is later.
        """
        rate = self.timing.bytes_per_cycle
        start = max(self.bus_free, (cycle + self.timing.latency) * rate)
        self.bus_free = start + beats * self.beat_bytes
        return [(start + (beat + 1) * self.beat_bytes - 1) // rate for beat in range(beats)]

    def write(self, cycle: int) -> int:
        """Reserve a write beat that was accepted in ``cycle``.

        Returns:
            The earliest cycle in which the response can be valid if this beat is its burst's last. It is valid from
            that cycle on, or from the one after the preceding response was taken, whichever is later.
        """
        rate = self.timing.bytes_per_cycle
        self.bus_free = max(self.bus_free, cycle * rate) + self.beat_bytes
        return max(cycle + self.timing.latency, (self.bus_free - 1) // rate)

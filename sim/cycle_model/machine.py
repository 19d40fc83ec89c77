"""The whole machine for one image: units, memory, and the loop that lets time pass."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.isa import COUNTERS, Descriptor, Opcode, Operation
from hw.program import Program
from sim.cycle_model.fetch import Fetch
from sim.cycle_model.issue import Issue
from sim.cycle_model.memory import BurstReader, Bus, Port
from sim.cycle_model.network import Network
from sim.cycle_model.record import RecordWriter
from sim.cycle_model.side import SideLoader
from sim.cycle_model.weights import WeightSide
from sim.memory_timing import MemoryTiming

START = 2
"""Cycle of the image's start; the batch's first busy cycle is 0."""
FLUSH_CYCLES = 2
"""Cycles from the first one of a flush to its end, if everything is idle."""
NEVER = 1 << 62


@dataclass(frozen=True)
class Prediction:
    """One image alone in its batch.

    Attributes:
        cycles: Busy cycles, as the counter of that name.
        counters: All of `isa.COUNTERS`, by name.
    """

    cycles: int
    counters: dict[str, int]


class _Image:
    """One image at work."""

    def __init__(
        self, config: AcceleratorConfig, timing: MemoryTiming, descriptors: list[Descriptor], masks: tuple[int, int],
        exits_low: bool,
    ) -> None:  # fmt: skip
        self.config = config
        self.network = network = Network()
        self.bus = Bus(timing, config.axi_bytes)
        self.weights, self.side = WeightSide(config, network), SideLoader(config, network)
        self.reader = BurstReader(config, network)
        self.fetch = Fetch(config, network, self.reader, self.weights, self.side, descriptors, masks, 0, START)
        self.issue = Issue(config, network, self.fetch.entries, self.weights, self.side, self.fetch.proceed, exits_low=exits_low)
        self.record = RecordWriter(config, network, self.bus)
        system = Port(self.bus, [self.reader, self.side.segments.reader])
        self.ports = [system, *(Port(self.bus, [port.reader]) for port in self.weights.ports)]
        self.exits_low = exits_low

    def _step(self) -> None:
        """Let the earliest transfer or table release happen that is known; nothing unknown can come before it."""
        earliest = NEVER
        act: Callable[[], None] | None = None
        for port in self.ports:
            following = port.next()
            if following is not None and following[0] < earliest:
                earliest, act = following[0], partial(port.accept, *following)
        if self.record.write is not None and self.record.write < earliest:
            earliest, act = self.record.write, partial(self.record.accept, self.record.write)
        for tables in self.issue.tables:
            if tables.due is not None and tables.due < earliest:
                earliest, act = tables.due, tables.release
        if act is None:
            raise RuntimeError("Cycle model must always know a next event")
        act()

    def run(self) -> Prediction:
        """From start to the end of the flush."""
        gates = 0
        while self.record.done is None:
            self.network.settle()
            for cycle, d in self.issue.gate_done[gates:]:
                gates += 1
                if d.opcode == Opcode.END or self.exits_low:
                    self.record.begin(cycle + 1, d.classes)
                    self.network.settle()
            if self.record.done is None:
                self._step()
        flush = self.record.done + 1
        end = max(flush + FLUSH_CYCLES, self._idle(flush))
        return self._result(end)

    def _idle(self, flush: int) -> int:
        """First cycle without a read in flight; no burst is issued from ``flush`` on."""
        while self.reader.rise is not None and self.reader.rise <= flush:
            following = self.ports[0].next()
            assert following is not None
            self.ports[0].accept(*following)
            self.network.settle()
        return self.reader.last_arrivals[-1] + 1

    def _result(self, end: int) -> Prediction:
        counters = dict.fromkeys((name for name, _ in COUNTERS), 0) | dict(self.issue.counters)
        last, descriptor = self.issue.gate_done[-1]
        counters["gate_cycles"] += end - last
        counters[f"operation_{Operation(descriptor.operation).name.lower()}"] += end - last
        beat_bytes = self.config.axi_bytes
        counters |= {
            "cycles": end + 1,
            "descriptors": self.fetch.executed,
            "descriptors_skipped": self.fetch.skipped,
            "weight_bytes": sum(port.beats for port in self.ports[1:]) * beat_bytes,
            "system_bytes_read": self.ports[0].beats * beat_bytes,
            "system_bytes_written": self.record.beats * beat_bytes,
            "exits_low": int(self.exits_low),
        }
        return Prediction(end + 1, counters)


def predict(
    program: Program,
    memory_timing: MemoryTiming | None = None,
    *,
    path_masks: tuple[int, int] | None = None,
    exits_low: bool = False,
) -> Prediction:
    """Cycles and counters of one image, equal to the RTL's.

    Args:
        program: The Program; it must be a good one: what the machine answers with an error is not modelled.
        memory_timing: Of the memory.
        path_masks: (low, high) masks of kept attentions; the Program's own when None.
        exits_low: Whether the image leaves at the first gate.

    Raises:
        InputError: When the image is to leave at a gate that the Program does not have.
    """
    masks = program.path_masks if path_masks is None else path_masks
    descriptors = program.descriptors()
    if exits_low and all(descriptor.opcode != Opcode.GATE for descriptor in descriptors):
        raise InputError("An image exits low only in a Program with a gate, got one without")
    image = _Image(program.config, memory_timing or MemoryTiming(), descriptors, masks, exits_low)
    return image.run()

"""The memory's read ports, and the burst readers behind them (hw/memory/burst_reader.py, read_arbiter.py)."""

from hw.config import AcceleratorConfig
from hw.memory.axi import BOUNDARY
from sim.cycle_model.network import Network, Process, Times
from sim.memory_timing import MemoryTiming


class Bus:
    """The bandwidth that all ports share: `sim.memory_timing.MemorySchedule` for whole bursts."""

    def __init__(self, timing: MemoryTiming, beat_bytes: int) -> None:
        self.timing = timing
        self.beat_bytes = beat_bytes
        self.given = 0

    def read(self, cycle: int, beats: int, earliest: int) -> range | list[int]:
        """Cycles in which the beats of a burst are taken; the first at ``earliest`` or later, then at most one a cycle."""
        rate, size = self.timing.bytes_per_cycle, self.beat_bytes
        start = max(self.given, (cycle + self.timing.latency) * rate)
        self.given = start + beats * size
        earliest = max(earliest, (start + size - 1) // rate)
        if size <= rate:
            return range(earliest, earliest + beats)
        # Slower than a beat a cycle, so each is later than the one before.
        due = range(start + size - 1, self.given, size)
        if earliest == due[0] // rate:
            return [at // rate for at in due]
        return [max(at // rate, earliest + beat) for beat, at in enumerate(due)]

    def write(self, cycle: int) -> int:
        """Earliest response to a beat written in ``cycle``, if it is its burst's last."""
        rate = self.timing.bytes_per_cycle
        self.given = max(self.given, cycle * rate) + self.beat_bytes
        return max(cycle + self.timing.latency, (self.given - 1) // rate)


class BurstReader:
    """One `BurstReader` of the machine.

    Attributes:
        commands: (cycle of acceptance, address, beats) in order; whoever asks obeys `final_issue`.
        final_issue: Cycle in which a command's last burst is issued: the next command may be accepted then.
        arrivals: Cycle of each beat on the bus.
        pops: Cycle in which each beat leaves the FIFO; extended by whoever takes them.
        latency: Cycles from arrival to pop, at least.
        rise: First cycle in which the address that is asked for is on the bus; None while none is.
    """

    def __init__(self, config: AcceleratorConfig, network: Network) -> None:
        self._config = config
        self._capacity = config.outstanding * config.burst_beats
        self.latency = 2 if self._capacity > 1 else 1
        self.commands, self.final_issue = network.times(), network.times()
        self.arrivals, self.pops = network.times(), network.times()
        self.accepted: Times = network.times()
        self.last_arrivals: list[int] = []
        self.rise: int | None = None
        self.size = 0
        network.start(self._issue())

    def _issue(self) -> Process:
        config, commands, pops = self._config, self.commands, self.pops
        burst_beats, outstanding = config.burst_beats, config.outstanding
        boundary = BOUNDARY // config.axi_bytes
        asked = bursts = number = 0
        while True:
            while len(commands) <= number:
                yield commands
            taken, address, left = commands[number]
            number += 1
            beat = address // config.axi_bytes
            cycle = taken + 1
            while left:
                size = min(burst_beats, left, boundary - beat % boundary)
                if bursts:
                    cycle = max(cycle, self.accepted[-1])
                asked += size
                if asked > self._capacity:
                    needed = asked - self._capacity - 1
                    while len(pops) <= needed:
                        yield pops
                    cycle = max(cycle, pops[needed] + 1)
                if bursts >= outstanding:
                    cycle = max(cycle, self.last_arrivals[bursts - outstanding] + 1)
                beat += size
                left -= size
                if not left:
                    self.final_issue.put(cycle)
                bursts += 1
                self.rise, self.size = cycle + 1, size
                while len(self.accepted) < bursts:
                    yield self.accepted


class Port:
    """One AXI read port of the memory with its readers, first come, first served, at a tie the first reader.

    Attributes:
        beats: Accepted, not all arrived yet.
    """

    def __init__(self, bus: Bus, readers: list[BurstReader]) -> None:
        self._bus = bus
        self.readers = readers
        self._last_arrivals: list[int] = []
        self._accepted = self._arrived = -1
        self.beats = 0

    def next(self) -> tuple[int, BurstReader] | None:
        """Cycle in which the next address is accepted, as far as is known, and its reader."""
        chosen: BurstReader | None = None
        rise = 0
        for reader in self.readers:
            if reader.rise is not None:
                seen = max(reader.rise, self._accepted + 1)
                if chosen is None or seen < rise:
                    chosen, rise = reader, seen
        if chosen is None:
            return None
        limit = self._bus.timing.outstanding
        if len(self._last_arrivals) >= limit:
            rise = max(rise, self._last_arrivals[-limit] + 1)
        return rise, chosen

    def accept(self, cycle: int, reader: BurstReader) -> None:
        """Take the address of ``reader``."""
        arrivals = self._bus.read(cycle, reader.size, self._arrived + 1)
        self._accepted, self._arrived = cycle, arrivals[-1]
        self._last_arrivals.append(self._arrived)
        reader.last_arrivals.append(self._arrived)
        reader.rise = None
        self.beats += reader.size
        reader.arrivals.put_all(arrivals)
        reader.accepted.put(cycle)

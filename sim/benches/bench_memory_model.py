"""Cocotb bench of the memory model alone: random bursts on every port against the recurrence of `MemorySchedule`.

The bench keeps its own account of what each port may expect and compares it with the ports in every cycle.
"""

import os
import random
from collections import deque
from dataclasses import dataclass, field

import cocotb
from cocotb.triggers import FallingEdge, Timer

from hw.memory_timing import MemorySchedule, MemoryTiming

BEAT_BYTES = 8
PORTS = 3
MEMORY_BYTES = 8192
CYCLES = 3000
BEAT_SIZE = 3
INCR = 1
DECERR = 3
WRITE_SHARE = 0.2


@dataclass
class Beat:
    """One expected read beat: not before cycle ``due``; ``data`` is set when it becomes valid."""

    due: int
    address: int
    last: bool
    data: int | None = None

    @property
    def outside(self) -> bool:
        """Whether it lies beyond the memory's end."""
        return self.address >= MEMORY_BYTES


@dataclass
class ReadPort:
    """What the bench knows of one port."""

    request: tuple[int, int] | None = None  # (address, beats) offered
    in_flight: int = 0
    free: int = 0  # first cycle in which the next beat may be valid, for the one before was taken
    beats: deque[Beat] = field(default_factory=deque)


@dataclass
class WritePort:
    """What the bench knows of the write channels."""

    request: tuple[int, int] | None = None
    bursts: deque[tuple[int, int]] = field(default_factory=deque)  # (address, beats) accepted, data to come
    beat: int = 0
    in_flight: int = 0
    free: int = 0
    responses: deque[tuple[int, bool]] = field(default_factory=deque)  # (due, error)
    stored: tuple[int, int, int] | None = None  # address, strobes and data accepted in the cycle before


def content(address: int) -> bytes:
    """Bytes of the memory's beat at ``address``, as the file holds them."""
    return bytes((address + i) * 37 + (address >> 8) & 0xFF for i in range(BEAT_BYTES))


def random_burst(rng: random.Random) -> tuple[int, int]:
    """(address, beats) of a burst that keeps AXI's rules; some lie beyond the memory's end."""
    beats = rng.choice([1, 1, 2, 5, 16, 64])
    page = rng.choice([0, 1, 1, 2]) * 4096
    return page + rng.randrange(0, 4096 // BEAT_BYTES - beats + 1) * BEAT_BYTES, beats


class Scoreboard:
    """Drives the ports at random and checks them against the recurrence; one call of each method per cycle.

    Args:
        dut: The memory model.
        timing: Its parameters.
        idle: Probability that a ready or a new request waits another cycle.
        rng: Source of everything random.
    """

    def __init__(self, dut, timing: MemoryTiming, idle: float, rng: random.Random) -> None:
        self.dut, self.timing, self.idle, self.rng = dut, timing, idle, rng
        self.schedule = MemorySchedule(timing, BEAT_BYTES)
        self.ports = [ReadPort() for _ in range(PORTS)]
        self.write = WritePort()
        self.memory = bytearray(b"".join(content(address) for address in range(0, MEMORY_BYTES, BEAT_BYTES)))
        self.driven: dict[str, int] = {}
        self.beats_seen = self.responses_seen = 0
        for name in ("dump", "arid", "araddr", "arlen", "arvalid", "rready", "awid", "awaddr", "awlen", "awvalid",
                     "wdata", "wstrb", "wlast", "wvalid", "bready"):  # fmt: skip
            getattr(dut, name).value = 0
        dut.awsize.value, dut.awburst.value = BEAT_SIZE, INCR
        for port in range(PORTS):
            self._put("arsize", port, 3, BEAT_SIZE)
            self._put("arburst", port, 2, INCR)

    def _put(self, name: str, port: int, width: int, value: int) -> None:
        mask = ((1 << width) - 1) << port * width
        self.driven[name] = self.driven.get(name, 0) & ~mask | value << port * width
        getattr(self.dut, name).value = self.driven[name]

    def _get(self, name: str, port: int, width: int) -> int:
        return int(getattr(self.dut, name).value) >> port * width & (1 << width) - 1

    def _now(self) -> bool:
        return self.rng.random() >= self.idle

    def drive(self) -> None:
        """Put this cycle's inputs on the ports."""
        for number, port in enumerate(self.ports):
            if port.request is None and self._now():
                port.request = address, beats = random_burst(self.rng)
                self._put("araddr", number, 16, address)
                self._put("arlen", number, 8, beats - 1)
            self._put("arvalid", number, 1, int(port.request is not None))
            self._put("rready", number, 1, int(self._now()))
        dut, write = self.dut, self.write
        if write.request is None and self.rng.random() < WRITE_SHARE:
            write.request = address, beats = random_burst(self.rng)
            dut.awaddr.value, dut.awlen.value = address, beats - 1
        dut.awvalid.value = int(write.request is not None)
        dut.wvalid.value = int(bool(write.bursts) and self._now())
        dut.wstrb.value, dut.wdata.value = self.rng.getrandbits(BEAT_BYTES), self.rng.getrandbits(8 * BEAT_BYTES)
        dut.wlast.value = int(bool(write.bursts) and write.beat == write.bursts[0][1] - 1)
        dut.bready.value = int(self._now())

    def check_reads(self, cycle: int) -> None:
        """Compare read beats, and take what the ports accept."""
        for number, port in enumerate(self.ports):
            valid = bool(self._get("rvalid", number, 1))
            expected = bool(port.beats) and max(port.beats[0].due, port.free) <= cycle
            assert valid == expected, f"cycle {cycle}: rvalid of port {number} is {valid}"
            if not valid:
                continue
            beat = port.beats[0]
            if beat.data is None:
                beat.data = int.from_bytes(self.memory[beat.address : beat.address + BEAT_BYTES], "little")
            assert self._get("rresp", number, 2) == (DECERR if beat.outside else 0)
            assert self._get("rdata", number, 8 * BEAT_BYTES) == beat.data, f"cycle {cycle}: data of port {number}"
            assert bool(self._get("rlast", number, 1)) == beat.last
            if self._get("rready", number, 1):
                port.beats.popleft()
                port.free = cycle + 1
                port.in_flight -= beat.last
                self.beats_seen += 1

    def check_responses(self, cycle: int) -> None:
        """Compare write responses; the memory's own copy takes the beat of the cycle before."""
        write = self.write
        if write.stored is not None:
            address, strobes, data = write.stored
            for lane in range(BEAT_BYTES):
                if strobes >> lane & 1 and address < MEMORY_BYTES:
                    self.memory[address + lane] = data >> 8 * lane & 0xFF
            write.stored = None
        valid = bool(int(self.dut.bvalid.value))
        expected = bool(write.responses) and max(write.responses[0][0], write.free) <= cycle
        assert valid == expected, f"cycle {cycle}: bvalid is {valid}"
        if valid and int(self.dut.bready.value):
            assert int(self.dut.bresp.value) == (DECERR if write.responses.popleft()[1] else 0)
            write.free = cycle + 1
            self.responses_seen += 1
            write.in_flight -= 1

    def accept(self, cycle: int) -> None:
        """Enter what the memory accepts in this cycle into the recurrence."""
        for number, port in enumerate(self.ports):
            if port.request is not None and self._get("arready", number, 1):
                address, beats = port.request
                for index, due in enumerate(self.schedule.read(cycle, beats)):
                    port.beats.append(Beat(due, address + index * BEAT_BYTES, index == beats - 1))
                port.in_flight += 1
                port.request = None
            assert port.in_flight <= self.timing.outstanding
        dut, write = self.dut, self.write
        if int(dut.wvalid.value) and int(dut.wready.value):
            due = self.schedule.write(cycle)
            address, beats = write.bursts[0]
            write.stored = address + write.beat * BEAT_BYTES, int(dut.wstrb.value), int(dut.wdata.value)
            write.beat += 1
            if write.beat == beats:
                write.responses.append((due, address + beats * BEAT_BYTES > MEMORY_BYTES))
                write.bursts.popleft()
                write.beat = 0
        if write.request is not None and int(dut.awready.value):
            write.bursts.append(write.request)
            write.request = None
            write.in_flight += 1
        assert write.in_flight <= self.timing.outstanding


async def _clock(dut) -> None:
    while True:
        dut.clk.value = 0
        await Timer(1, "ns")
        dut.clk.value = 1
        await Timer(1, "ns")


@cocotb.test()
async def follows_the_recurrence(dut) -> None:
    """Every beat and every response comes in exactly the cycle that the recurrence says, with the right content."""
    rng = random.Random(int(os.environ["PIVOT_SEED"]))
    board = Scoreboard(dut, MemoryTiming.parse(os.environ["PIVOT_MEMORY"]), float(os.environ["PIVOT_IDLE"]), rng)
    cocotb.start_soon(_clock(dut))
    await FallingEdge(dut.clk)  # the end of cycle 0, in which nothing happened
    for cycle in range(1, CYCLES):
        board.drive()
        await Timer(1, "step")  # what was driven settles; now the ports show what the coming edge will see
        board.check_reads(cycle)
        board.check_responses(cycle)
        board.accept(cycle)
        await FallingEdge(dut.clk)
    assert board.beats_seen > 100 and board.responses_seen > 3

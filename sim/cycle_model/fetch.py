"""Descriptor fetch, check and dispatch (hw/control/fetch.py, descriptor_check.py)."""

from hw.config import AcceleratorConfig
from hw.control.descriptor_check import CHECK_CYCLES
from hw.isa import (
    DESCRIPTOR_BYTES,
    FLAG_ATTENTION,
    FLAG_EXP,
    FLAG_HIGH,
    FLAG_IMAGE,
    FLAG_KV,
    FLAG_PER_COLUMN,
    Descriptor,
    Opcode,
    Post,
)
from hw.memory.jobs import JobKind
from sim.cycle_model.memory import BurstReader
from sim.cycle_model.network import Network, Process, Times, Wait
from sim.cycle_model.side import SideJob, SideLoader
from sim.cycle_model.weights import WeightSide


class EntryQueue:
    """The buffered queue of checked descriptors between fetch and issue.

    Attributes:
        pushes: (cycle, descriptor); pops: cycle in which the issue takes each.
    """

    def __init__(self, depth: int, network: Network) -> None:
        self._depth = depth
        self.pushes, self.pops = network.times(), network.times()

    def moves(self, number: int) -> Wait:
        """Cycle in which an entry moves to the queue's output register."""
        while len(self.pushes) <= number:
            yield self.pushes
        cycle = self.pushes[number][0] + 1
        if number:
            while len(self.pops) < number:
                yield self.pops
            cycle = max(cycle, self.pops[number - 1])
        return cycle

    def room(self, number: int) -> int | None:
        """First cycle in which entry ``number`` may enter; None while that is unknown."""
        blocking = number - (self._depth - 1)
        if blocking < 0:
            return 0
        if len(self.pops) < blocking:
            return None
        return max(self.pushes[blocking][0] + 1, self.pops[blocking - 1] if blocking else 0) + 1


def _queue_room(pops: Times, number: int, depth: int) -> int | None:
    if number < depth:
        return 0
    return pops[number - depth] + 1 if len(pops) > number - depth else None


class Fetch:
    """The fetch of one image.

    Attributes:
        proceed: Cycle of each gate's leave to go on.
        executed, skipped: Descriptors so far.
    """

    def __init__(
        self, config: AcceleratorConfig, network: Network, reader: BurstReader, weights: WeightSide, side: SideLoader,
        descriptors: list[Descriptor], masks: tuple[int, int], image_address: int, start: int,
    ) -> None:  # fmt: skip
        self._config, self._reader, self._weights, self._side = config, reader, weights, side
        self._masks, self._image_address = masks, image_address
        self._descriptors = descriptors
        self.entries = EntryQueue(config.queue_depth, network)
        self.proceed = network.times()
        self.executed = self.skipped = 0
        beats = DESCRIPTOR_BYTES // config.axi_bytes
        reader.commands.put((start + 1, 0, len(descriptors) * beats))
        network.start(self._run(start + 2, beats))

    def _run(self, free: int, beats: int) -> Process:
        reader = self._reader
        gates = 0
        for index, d in enumerate(self._descriptors):
            for beat in range(index * beats, (index + 1) * beats):
                while len(reader.arrivals) <= beat:
                    yield reader.arrivals
                free = max(free, reader.arrivals[beat] + reader.latency)
                reader.pops.put(free)
                free += 1
            if self._dropped(d):
                self.skipped += 1
                free += 1
                continue
            free = (yield from self._dispatch(d, free + CHECK_CYCLES[d.opcode] + 1)) + 1
            self.executed += 1
            if d.opcode == Opcode.END:
                return
            if d.opcode == Opcode.GATE:
                while len(self.proceed) <= gates:
                    yield self.proceed
                free = self.proceed[gates] + 1
                gates += 1

    def _dropped(self, d: Descriptor) -> bool:
        mask = self._masks[bool(d.flags & FLAG_HIGH)]
        return bool(d.flags & FLAG_ATTENTION) and not mask >> d.encoder & 1

    def _side_jobs(self, d: Descriptor) -> list[SideJob]:
        if d.opcode == Opcode.LOAD:
            return [SideJob(JobKind.ROWS, d.address + (self._image_address if d.flags & FLAG_IMAGE else 0), d)]
        if d.opcode == Opcode.SOFTMAX:
            return [SideJob(JobKind.TABLE, d.table, d, True)]
        jobs = []
        if d.opcode == Opcode.GEMM:
            exponential = bool(d.flags & FLAG_EXP) and not self._config.softmax_pass
            if exponential or d.post == Post.GELU:
                jobs.append(SideJob(JobKind.TABLE, d.table, d, exponential))
            if d.flags & FLAG_PER_COLUMN:
                jobs.append(SideJob(JobKind.PARAMETERS, d.parameters, d))
        return jobs

    def _dispatch(self, d: Descriptor, start: int) -> Wait:
        """Hand ``d`` to the units from ``start`` on; the cycle in which all have it."""
        weights, side, entries, depth = self._weights, self._side, self.entries, self._config.queue_depth
        weight_cycle = entry_cycle = None
        if d.opcode != Opcode.GEMM or d.flags & FLAG_KV:
            weight_cycle = start - 1
        jobs, side_cycle = self._side_jobs(d), start - 1
        while True:
            if entry_cycle is None and (room := entries.room(len(entries.pushes))) is not None:
                entry_cycle = max(start, room)
                entries.pushes.put((entry_cycle, d))
            if weight_cycle is None and (room := _queue_room(weights.pops, len(weights.pushes), depth)) is not None:
                weight_cycle = max(start, room)
                weights.pushes.put((weight_cycle, d))
            while jobs and (room := _queue_room(side.pops, len(side.pushes), depth)) is not None:
                side_cycle = max(side_cycle + 1, room)
                side.pushes.put((side_cycle, jobs.pop(0)))
            if entry_cycle is not None and weight_cycle is not None and not jobs:
                return max(entry_cycle, weight_cycle, side_cycle) + 1
            yield entries.pops, weights.pops, side.pops

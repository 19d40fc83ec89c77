"""The side loader: parameters, tables and rows (hw/memory/side_loader.py, segment_planner.py, word_placer.py)."""

from dataclasses import dataclass

from hw.config import PARAMETER_BYTES, TABLE_ENTRIES, AcceleratorConfig
from hw.isa import FLAG_CONTIGUOUS, Descriptor, Target
from hw.memory.jobs import JobKind, word_bytes
from hw.memory.word_placer import ROWS_MARGIN, TABLE_SLOTS
from sim.cycle_model.gearbox import Segment, SegmentReader, departures
from sim.cycle_model.network import Network, Process, Times, Wait

PLACEMENTS = 4
"""Jobs whose words may be under way."""


@dataclass(frozen=True, slots=True)
class SideJob:
    """A job of the side loader; `exponential` is the kind of a table."""

    kind: JobKind
    address: int
    descriptor: Descriptor
    exponential: bool = False


def passes(gemm: Descriptor) -> int:
    """How often the weights and parameters of a GEMM are streamed."""
    return 1 if gemm.resident else gemm.row_tiles


class SideLoader:
    """The side loader.

    Attributes:
        pushes: (cycle, job) that entered the queue; pops: cycle in which each leaves it.
        rows_go: Cycle of each go.
        rows_done: Cycle of each answer.
        parameter_credits: First cycle in which the issue sees each column tile's parameters.
        table_credits: The same of tables, GELU and exp.
        parameter_room, table_room: First cycle in which the placer sees each slot given back.
    """

    def __init__(self, config: AcceleratorConfig, network: Network) -> None:
        self._config = config
        self.pushes, self.pops = network.times(), network.times()
        self.rows_go, self.rows_done = network.times(), network.times()
        self.parameter_credits, self.parameter_room = network.times(), network.times()
        self.table_credits = [network.times(), network.times()]
        self.table_room = [network.times(), network.times()]
        self._placed = network.times()  # (cycle, job, words)
        self._placements_taken = network.times()
        sizes = word_bytes(config)
        self.segments = SegmentReader(config, network, beat_units=config.axi_bytes, most=max(sizes))
        self._word_bytes = sizes
        network.start(self._plan())
        network.start(self._place())

    def _segments(self, job: SideJob) -> list[tuple[int, int, bool]]:
        """(address, bytes, end of a run) of a job."""
        d = job.descriptor
        if job.kind == JobKind.PARAMETERS:
            return [(job.address, d.column_tiles * self._config.cols * PARAMETER_BYTES, True)] * passes(d)
        if job.kind == JobKind.TABLE:
            return [(job.address, TABLE_ENTRIES, True)]
        if d.flags & FLAG_CONTIGUOUS:
            segments = [
                (job.address + run * d.outer_stride + index * d.segment_stride, d.tokens_inner * d.segment_bytes, False)
                for run in range(d.tokens_outer)
                for index in range(d.segments)
            ]
            return [*segments[:-1], (*segments[-1][:2], True)]
        return [
            (
                job.address + run * d.outer_stride + token * d.inner_stride + index * d.segment_stride,
                d.segment_bytes,
                index == d.segments - 1,
            )
            for run in range(d.tokens_outer)
            for token in range(d.tokens_inner)
            for index in range(d.segments)
        ]

    def _words(self, job: SideJob) -> int:
        d = job.descriptor
        if job.kind == JobKind.PARAMETERS:
            return d.column_tiles * self._config.cols * passes(d)
        if job.kind == JobKind.TABLE:
            return TABLE_ENTRIES
        word = self._word_size(job)
        return d.tokens_outer * d.tokens_inner * -(-d.segments * d.segment_bytes // word)

    def _word_size(self, job: SideJob) -> int:
        residual = job.kind == JobKind.ROWS and job.descriptor.target == Target.RESIDUAL
        return self._word_bytes[job.kind + residual]

    def _plan(self) -> Process:
        beat = self._config.axi_bytes
        free = 0  # first cycle in which the planner looks for a job
        number = 0
        while True:
            while len(self.pushes) <= number:
                yield self.pushes
            pushed, job = self.pushes[number]
            cycle = max(free, pushed + 1)
            cycle += 1
            if number >= PLACEMENTS:
                while len(self._placements_taken) <= number - PLACEMENTS:
                    yield self._placements_taken
                cycle = max(cycle, self._placements_taken[number - PLACEMENTS] + 1)
            self._placed.put((cycle, job, self._words(job)))
            word = self._word_size(job)
            for address, size, last in self._segments(job):
                first = address % beat
                beats = -(-(first + size) // beat)
                segment = Segment(beats, first, (first + size - 1) % beat + 1, word, last)
                cycle = yield from self.segments.acceptance(cycle + 2)
                self.segments.enter(cycle, address, segment)
            self.pops.put(cycle)
            free = cycle + 1
            number += 1

    def _place(self) -> Process:
        available, fires = self.segments.available, self.segments.fires
        fired = -1
        number = word = tiles = rows = 0
        table_numbers = [0, 0]
        while True:
            while len(self._placed) <= number:
                yield self._placed
            placed, job, words = self._placed[number]
            number += 1
            earliest = max(placed, fired) + 2
            if job.kind == JobKind.ROWS:
                while len(self.rows_go) <= rows:
                    yield self.rows_go
                earliest = max(earliest, self.rows_go[rows] + 2)
                rows += 1
            chunk = self._config.cols if job.kind == JobKind.PARAMETERS else words
            for start in range(word, word + words, chunk):
                while len(available) <= start:
                    yield available
                if job.kind == JobKind.PARAMETERS:
                    earliest = max(earliest, (yield from _room(self.parameter_room, tiles - self._config.parameter_tiles)))
                    tiles += 1
                elif job.kind == JobKind.TABLE:
                    kind = int(job.exponential)
                    earliest = max(earliest, (yield from _room(self.table_room[kind], table_numbers[kind] - TABLE_SLOTS)))
                    table_numbers[kind] += 1
                fired = max(fired, earliest - 1)
                done = start
                while done < start + chunk:
                    while len(available) <= done:
                        yield available
                    cycles = departures(available[done : start + chunk], fired)
                    fired = cycles[-1]
                    done += len(cycles)
                    fires.put_all(cycles)
                if job.kind == JobKind.PARAMETERS:
                    self.parameter_credits.put(fired + 2)
            word += words
            self._placements_taken.put(fired)
            if job.kind == JobKind.TABLE:
                self.table_credits[job.exponential].put(fired + 2)
            elif job.kind == JobKind.ROWS:
                self.rows_done.put(fired + self._config.rows + ROWS_MARGIN + 1)


def _room(released: Times, number: int) -> Wait:
    """First cycle in which a slot is free that release ``number`` gives back; 0 where it is below 0."""
    if number < 0:
        return 0
    while len(released) <= number:
        yield released
    return released[number]

"""The weight side: queue, job expander, ports and the credits of column tiles (hw/weights)."""

from math import gcd

from hw.config import AcceleratorConfig
from hw.isa import Descriptor
from hw.weights.job_expander import JobExpander
from sim.cycle_model.gearbox import Segment, SegmentReader, departures
from sim.cycle_model.memory import BurstReader
from sim.cycle_model.network import Network, Process, Times, Wait
from sim.cycle_model.side import passes


class WeightPort:
    """One weight port.

    Attributes:
        tiles: First cycle in which the issue sees each column tile.
        room: (first cycle in which the port sees them, words given back since the image's start).
    """

    def __init__(self, config: AcceleratorConfig, network: Network, room: Times) -> None:
        self._config = config
        self._room, self._room_found = room, 0
        self.tiles = network.times()
        self._jobs, self._jobs_done = network.times(), network.times()
        word_bytes = config.columns_per_beat * config.depth
        self._unit = gcd(word_bytes, config.axi_bytes)
        self._word_units = word_bytes // self._unit
        self.segments = SegmentReader(
            config, network, beat_units=config.axi_bytes // self._unit, most=self._word_units,
            words_are_beats=word_bytes == config.axi_bytes,
        )  # fmt: skip
        network.start(self._write())

    @property
    def reader(self) -> BurstReader:
        """The port's reader."""
        return self.segments.reader

    def take(self, cycle: int, descriptor: Descriptor, address: int, beats: int, last_bytes: int) -> Wait:
        """Cycle in which a job offered from ``cycle`` on is taken."""
        number = len(self._jobs) - self._config.queue_depth
        if number >= 0:
            while len(self._jobs_done) <= number:
                yield self._jobs_done
            cycle = max(cycle, self._jobs_done[number] + 1)
        cycle = yield from self.segments.acceptance(cycle)
        self._jobs.put(descriptor)
        self.segments.enter(cycle, address, Segment(beats, 0, last_bytes // self._unit, self._word_units, True))
        return cycle

    def _write(self) -> Process:
        segments = self.segments
        available, fires, delay = segments.available, segments.fires, segments.delay
        taken = -self._config.weight_words  # words that had to be given back
        fired = -1
        number = word = 0
        while True:
            while len(self._jobs) <= number:
                segments.pop_beats()
                yield self._jobs
            job = self._jobs[number]
            number += 1
            k_words = job.k_words
            for _ in range(job.column_tiles):
                taken += k_words
                fired = max(fired, (yield from self._space(taken)) - 1)
                end = word + k_words * self._config.groups_per_port
                while word < end:
                    while len(available) <= word:
                        segments.pop_beats()
                        yield available
                    words = available[word:end]
                    cycles = departures([at + delay for at in words] if delay else words, fired)
                    fired = cycles[-1]
                    word += len(cycles)
                    fires.put_all(cycles)
                self.tiles.put(fired + 2)
            self._jobs_done.put(fired)

    def _space(self, words: int) -> Wait:
        """First cycle in which ``words`` have been given back."""
        if words <= 0:
            return 0
        room = self._room
        while True:
            while len(room) <= self._room_found:
                self.segments.pop_beats()
                yield room, self.segments.available
            if room[self._room_found][1] >= words:
                return room[self._room_found][0]
            self._room_found += 1


class WeightSide:
    """Queue, expander and ports.

    Attributes:
        pushes: (cycle, descriptor) of jobs; pops: cycle in which each leaves the queue.
        room: As `WeightPort`; extended by the issue.
    """

    def __init__(self, config: AcceleratorConfig, network: Network) -> None:
        self._config = config
        self.pushes, self.pops, self.room = network.times(), network.times(), network.times()
        self.ports = [WeightPort(config, network, self.room) for _ in range(config.weight_ports)]
        network.start(self._expand())

    def tile(self, number: int) -> Wait:
        """First cycle in which the issue sees column tile ``number`` in every port."""
        cycle = 0
        for port in self.ports:
            while len(port.tiles) <= number:
                yield port.tiles
            cycle = max(cycle, port.tiles[number])
        return cycle

    def _expand(self) -> Process:
        free = number = 0
        while True:
            while len(self.pushes) <= number:
                yield self.pushes
            pushed, job = self.pushes[number]
            number += 1
            cycle = max(free, pushed + 1) + 1
            regions = JobExpander.model(self._config, job.weights, job.k_words, job.column_tiles)
            for port, (address, beats, last_bytes) in list(zip(self.ports, regions, strict=True)) * passes(job):
                cycle = yield from port.take(cycle + 1, job, address, beats, last_bytes)
            self.pops.put(cycle)
            free = cycle + 1

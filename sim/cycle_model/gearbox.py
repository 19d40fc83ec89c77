"""Beats into words (hw/memory/segment_reader.py, gearbox.py)."""

from dataclasses import dataclass

from hw.config import AcceleratorConfig
from sim.cycle_model.memory import BurstReader
from sim.cycle_model.network import Network, Process, Wait


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of memory, lengths in units of the gearbox.

    Attributes:
        beats: Beats that cover it.
        first: Units of its first beat that come before it.
        end: Units of its last beat up to its end.
        word: Units of a word.
        last: It ends a run: the last word is filled up.
    """

    beats: int
    first: int
    end: int
    word: int
    last: bool


def departures(available: list[int], earlier: int) -> range | list[int]:
    """Cycles in which words leave, one a cycle, the first after ``earlier``, each when it is available at the earliest.

    Args:
        available: Not empty; in no falling order.
        earlier: Cycle in which the word before left.
    """
    count = len(available)
    first, last = max(available[0], earlier + 1), available[-1]
    if last <= first or last - available[0] == count - 1 == len(set(available)) - 1:
        return range(first, first + count)
    cycles = []
    for at in available:
        earlier = at if at > earlier else earlier + 1
        cycles.append(earlier)
    return cycles


class SegmentReader:
    """Burst reader and gearbox.

    Args:
        config: The machine.
        network: Where the processes run.
        beat_units: Units of a beat.
        most: Units of the longest word.
        words_are_beats: Whether every beat is a word; `pop_beats` then follows from `fires`.

    Attributes:
        reader: Its burst reader.
        available: Cycle from which, after `delay`, each word stands at the output, if those before it have left.
        fires: Cycle in which each word leaves; extended by whoever takes them.
    """

    def __init__(
        self, config: AcceleratorConfig, network: Network, *, beat_units: int, most: int, words_are_beats: bool = False
    ) -> None:  # fmt: skip
        self._config = config
        self._beat_units, self._most = beat_units, most
        self.reader = BurstReader(config, network)
        self.segments = network.times()
        self.fires = network.times()
        self._segment_ends: list[int] = []
        self._words_are_beats = words_are_beats
        if words_are_beats:
            self.available, self.delay = self.reader.arrivals, self.reader.latency + 2
            self.fires.put_all([-1, -1])  # so that entry i lets beat i go
        else:
            self.available, self.delay = network.times(), 0
            network.start(self._beats())

    def acceptance(self, cycle: int) -> Wait:
        """Cycle in which a segment offered from ``cycle`` on is accepted."""
        reader = self.reader
        number = len(reader.commands)
        if number:
            while len(reader.final_issue) < number:
                yield reader.final_issue
            cycle = max(cycle, reader.final_issue[number - 1])
        room = 2 * self._config.outstanding + 2
        if number >= room:
            last = self._segment_ends[number - room] - 1
            while len(reader.pops) <= last:
                yield reader.pops
            cycle = max(cycle, reader.pops[last] + 1)
        return cycle

    def enter(self, cycle: int, address: int, segment: Segment) -> None:
        """Accept a segment in ``cycle``."""
        self._segment_ends.append((self._segment_ends[-1] if self._segment_ends else 0) + segment.beats)
        self.segments.put(segment)
        self.reader.commands.put((cycle, address, segment.beats))

    def pop_beats(self) -> None:
        """Where every beat is a word: find the pops out. To be called before any wait of who takes the words.

        Two registers follow the FIFO, so a beat waits for the word two before it to leave.
        """
        if self._words_are_beats:
            arrivals, pops, latency = self.reader.arrivals, self.reader.pops, self.reader.latency
            start, end = len(pops), min(len(arrivals), len(self.fires))
            if start < end:
                pops.put_all(map(max, [at + latency for at in arrivals[start:end]], self.fires[start:end]))

    def _beats(self) -> Process:
        reader, segments, fires = self.reader, self.segments, self.fires
        arrivals, pops, available = reader.arrivals, reader.pops, self.available
        most, beat_units = self._most, self._beat_units
        number = beat = 0
        units = words = 0  # of the run: taken into the buffer, and complete
        earlier_words = 0  # of earlier runs
        popped = taken = -1
        while True:
            while len(segments) <= number:
                yield segments
            segment = segments[number]
            number += 1
            word = segment.word
            for index in range(segment.beats):
                final = index == segment.beats - 1
                while len(arrivals) <= beat:
                    yield arrivals
                popped = max(arrivals[beat] + reader.latency, popped + 1, taken)
                pops.put(popped)
                beat += 1
                needed = earlier_words + ((units - most) // word + 1 if units >= most else 0)
                while len(fires) < needed:
                    yield fires
                taken = max(popped + 1, fires[needed - 1] if needed else 0)
                units += (segment.end if final else beat_units) - (0 if index else segment.first)
                complete = -(-units // word) if final and segment.last else units // word
                if complete > words:
                    available.put_all([taken + 1] * (complete - words))
                    words = complete
            if segment.last:
                earlier_words += words
                units = words = 0

"""When the issue decides what, as recurrences: weights always at hand, descriptors always in the queue."""

from collections import Counter

from hw import isa
from hw.isa import Opcode, Post
from hw.timing import NORM_LATENCY, STATISTICS_LATENCY, Timing


def gemm_tiles(g):
    """(first row tile of its group or token_major, last one, row tile, column tile) of every tile of a GEMM, in order."""
    size = g.resident or g.column_tiles
    for first in range(0, g.column_tiles, size):
        for i in range(g.row_tiles):
            for n in range(first, min(first + size, g.column_tiles)):
                yield i == 0 or not g.resident, i == g.row_tiles - 1 or not g.resident, i, n


class NormModel:
    """A NORM handed over in a cycle; its row tiles are computed when they are asked for.

    Args:
        complete: cycle from which the statistics of each row tile of the RESIDUAL GEMM before may begin, without FLAG_WAIT.
        quiet: first cycle from a given one on in which no GEMM completes a row tile, by all that is issued so far.
    """

    def __init__(self, machine, descriptor, handed, complete, quiet):
        self.descriptor, self.handed = descriptor, handed
        self._complete, self._quiet = [] if descriptor.flags & isa.FLAG_WAIT else complete, quiet
        self._pass = Timing(machine).norm_pass(descriptor.words)
        self._ready = Timing(machine).norm_ready(descriptor.words)
        self.statistics, self.begins = [], []

    def _until(self, row_tile):
        while len(self.begins) <= row_tile:
            i = len(self.begins)
            earliest = self.begins[-1] if i else self.handed + 1
            complete = self._complete[i] if i < len(self._complete) else self._quiet(self.handed + 1)
            start = max(earliest, complete)
            self.statistics.append(start)
            self.begins.append(max(start + STATISTICS_LATENCY, self.begins[-1] + self._pass if i else 0))

    def free(self):
        """First cycle in which it is not at work any more."""
        self._until(self.descriptor.row_tiles - 1)
        return self.begins[-1] + self._pass - 1 + NORM_LATENCY

    def feeds(self, row_tile):
        """First cycle in which the first word of a row tile may be decided."""
        if row_tile >= self.descriptor.row_tiles:
            return self.free()
        self._until(row_tile)
        return self.begins[row_tile] + self._ready


class IssueModel:
    """Decisions of the issue for descriptors that end with END.

    Attributes:
        tiles: (cycle of the first word, descriptor, first use, last use, row tile, column tile).
        norms: `NormModel` of every NORM.
        begins: cycle in which each LOAD or END begins.
        causes: cycles of each cause up to the END's begin, it included.
    """

    def __init__(self, machine, descriptors, load_cycles):
        self._machine, self._timing = machine, Timing(machine)
        self.tiles, self.norms, self.begins, self.causes = [], [], [], Counter()
        self._unsettled = []  # (first, last) cycle
        self._residual_at_work = []
        self._complete = []
        self._drained = 0  # earliest next last word
        self._gemm, self._gemm_begin, self._gemm_last = None, -1, -1
        self._parameters = []  # cycle in which a tile's parameters are seen
        self._released = []
        self._taken = -1  # nothing else is taken up to this cycle
        self._idle = 0  # first cycle without a cause so far
        for d in descriptors:
            if d.opcode == Opcode.GEMM:
                self._take_gemm(d)
            elif d.opcode == Opcode.NORM:
                self._take_norm(d)
            else:
                self._take_other(d, load_cycles)

    def _settled(self, cycle):
        """First cycle from ``cycle`` on in which all has settled."""
        return self._outside(cycle, self._unsettled)

    def _quiet(self, cycle):
        return self._outside(cycle, self._unsettled + self._residual_at_work)

    @staticmethod
    def _outside(cycle, intervals):
        for first, last in sorted(intervals):
            if first <= cycle <= last:
                cycle = last + 1
        return cycle

    def _fetch(self, taken):
        """A descriptor is taken; without a GEMM at hand that is a cycle, and all before it, of waiting for it."""
        self.causes["fetch"] += max(0, taken + 1 - self._idle)
        self._idle = max(self._idle, taken + 1)
        self._taken = taken

    def _take_norm(self, d):
        at = max(self._taken + 1, self._gemm_last)
        g = self._gemm
        if g is not None and g.post == Post.RESIDUAL and not g.flags & isa.FLAG_NORMALIZED:
            at = max(self._taken + 1, min(self._gemm_last, self._gemm_begin + 1))
        if self.norms and (free := self.norms[-1].free()) > at:
            waiting = max(at, self._idle)
            if free > waiting:
                self.causes["norm"] += free - waiting
                self._idle = free
            at = free
        self._fetch(at)
        self.norms.append(NormModel(self._machine, d, at, self._complete, self._quiet))

    def _take_other(self, d, load_cycles):
        taken = max(self._taken + 1, self._gemm_last)
        self._fetch(taken)
        drained = self._settled(taken + 1)
        begin = max(drained, self.norms[-1].free() if self.norms else 0)
        self.causes["norm"] += begin - drained
        self.causes["drain"] += drained - taken
        self.begins.append(begin)
        self._taken = begin
        if d.opcode == Opcode.LOAD:
            self.causes["load"] += load_cycles
            self._taken += load_cycles
        self._idle = self._taken + 1

    def _wait(self, cause, cycle, until):
        self.causes[cause] += max(0, until - cycle)
        return max(cycle, until)

    def _take_gemm(self, g):
        timing, post = self._timing, Post(g.post)
        self._fetch(max(self._taken + 1, self._gemm_last))
        normalized, residual = g.flags & isa.FLAG_NORMALIZED, post == Post.RESIDUAL
        cycle = self._taken + 1
        complete = []
        for number, (first_use, last_use, i, n) in enumerate(gemm_tiles(g)):
            drained = max(cycle, self._drained - g.k_words + 1)
            if not number and g.flags & isa.FLAG_WAIT:
                drained = self._settled(drained)
            cycle = self._wait("drain", cycle, drained)
            if self.norms and not number and (residual or not normalized or g.segment_words):
                cycle = self._wait("norm", cycle, self.norms[-1].free())
            elif self.norms and normalized:
                cycle = self._wait("norm", cycle, self.norms[-1].feeds(i))
            if first_use and g.flags & isa.FLAG_PER_COLUMN:
                cycle = self._wait("parameters", cycle, self._parameter())
            if not number:
                self._gemm, self._gemm_begin = g, cycle
                if residual:
                    self._complete = complete
            self.tiles.append((cycle, g, first_use, last_use, i, n))
            last = cycle + g.k_words - 1
            self.causes["array"] += g.k_words
            if last_use and g.flags & isa.FLAG_PER_COLUMN:
                self._released.append(last)
            if n == g.column_tiles - 1 and residual:
                complete.append(last + timing.residual_settle)
            self._drained = last + timing.drain_interval(post, bool(g.flags & isa.FLAG_EXP) and n == 0)
            self._unsettled.append((last + 1, last + timing.settle(post) - 1))
            cycle = last + 1
        if residual:
            self._residual_at_work.append((self._gemm_begin + 1, last))
        self._gemm_last, self._idle = last, cycle

    def _parameter(self):
        """Cycle in which the next tile's parameters are seen: `Bench` loads one a cycle, 2 after the release of a slot."""
        loaded = max(0, self._parameters[-1]) if self._parameters else 0
        number = len(self._parameters)
        if number >= self._machine.parameter_tiles:
            loaded = max(loaded, self._released[number - self._machine.parameter_tiles] + 2)
        self._parameters.append(loaded + 1)
        return loaded + 1

"""The issue: the only place where the machine waits (hw/control/issue.py, gemm_issue.py, norm_issue.py, table_credits.py)."""

from collections import Counter
from dataclasses import dataclass

from hw.config import AcceleratorConfig
from hw.control.gate import EVALUATE_CYCLES
from hw.isa import (
    FLAG_ATTENTION,
    FLAG_EXP,
    FLAG_KV,
    FLAG_NORMALIZED,
    FLAG_PER_COLUMN,
    FLAG_WAIT,
    Descriptor,
    Opcode,
    Operation,
    Post,
)
from hw.timing import FEED_LATENCY, NORM_LATENCY, SOFTMAX_LATENCY, STATISTICS_LATENCY, Timing
from sim.cycle_model.fetch import EntryQueue
from sim.cycle_model.network import Network, Process, Times, Wait
from sim.cycle_model.side import SideLoader
from sim.cycle_model.weights import WeightSide


class TableReleases:
    """When the slots of one kind of table are free again: ``delay`` cycles after a use that no other follows.

    Attributes:
        due: Cycle of the next release unless a further use comes before it; None without a slot to give back.
    """

    def __init__(self, delay: int, room: Times) -> None:
        self._delay, self._room = delay, room
        self._owed = 0
        self.due: int | None = None

    def end(self, cycle: int) -> None:
        """A use ends."""
        while self.due is not None and self.due <= cycle:
            self.release()
        self._owed += 1
        self.due = cycle + 1 + self._delay

    def release(self) -> None:
        """The release that is due is certain."""
        assert self.due is not None
        self._room.put(self.due + 1)
        self._owed -= 1
        self.due = self.due + 1 if self._owed else None


@dataclass(frozen=True)
class _Norm:
    """A NORM at work beside the issue.

    Attributes:
        ready: Cycle from which each row tile may be fed.
        idle: One entry: the first cycle in which it is no longer at work.
    """

    ready: Times
    idle: Times


class Issue:
    """The issue of one image.

    Three processes: `_take` finds when descriptors leave the queue, `_execute` what the issue does with them, and `_normalise`
    what the NORM unit does beside it.

    Attributes:
        counters: By the names of `isa.COUNTERS`, without those of other units; up to the last decision.
        gate_done: Cycle in which the gate has evaluated, and the descriptor, for every GATE and the END.
    """

    def __init__(
        self, config: AcceleratorConfig, network: Network, entries: EntryQueue, weights: WeightSide, side: SideLoader,
        proceed: Times, *, exits_low: bool,
    ) -> None:  # fmt: skip
        self._config, self._timing = config, Timing(config)
        self._network, self._entries, self._weights, self._side = network, entries, weights, side
        self._proceed, self._exits_low = proceed, exits_low
        self.counters: Counter[str] = Counter()
        self.gate_done = network.times()
        timing = self._timing
        self.tables = [
            TableReleases(timing.settle(Post.GELU), side.table_room[0]),
            TableReleases((SOFTMAX_LATENCY if config.softmax_pass else FEED_LATENCY) + config.rows, side.table_room[1]),
        ]
        self._intervals = {
            (post, reciprocal, sends): timing.drain_interval(post, reciprocal, sends=sends)
            for post in Post
            for reciprocal in (False, True)
            for sends in (False, True)
        }
        self._settles = {post: timing.settle(post) for post in Post}
        self._weight_release = FEED_LATENCY + config.pairs + 3
        self._parameter_release = timing.drain_latency - 4 + 3 + config.cols
        # Last decision of a tile, its interval, and when all has settled.
        self._tile_end, self._interval, self._settled = -1, 0, 0
        self._tiles = self._parameter_tiles = 0  # column tiles taken
        self._released = 0  # weight words given back
        self._tables_used = [0, 0]
        # (cycle, descriptor, its NORM's or the last NORM's number, first cycle in which only a NORM at work was waited for)
        self._taken = network.times()
        self._begun = network.times()  # of each GEMM: cycle from which a NORM may be taken beside it
        self._free = network.times()  # of each descriptor but NORMs: cycle from which the next one may be taken
        self._norms: list[_Norm] = []
        self._residual: Times | None = None  # of the last RESIDUAL GEMM: cycle from which each row tile's sums are complete
        network.start(self._take())
        network.start(self._execute())

    def _take(self) -> Process:
        """Cycles in which descriptors are taken: in order, a NORM beside the GEMM before it."""
        entries, taken = self._entries, -1
        number = others = gemms = 0
        before: Descriptor | None = None  # the last one that is no NORM
        while True:
            moved = yield from entries.moves(number)
            d = entries.pushes[number][1]
            number += 1
            taken = max(moved, taken) + 1
            early = (
                before is not None
                and before.opcode == Opcode.GEMM
                and before.post == Post.RESIDUAL
                and not before.flags & FLAG_NORMALIZED
            )
            if d.opcode == Opcode.NORM and early:
                while len(self._begun) < gemms:
                    yield self._begun
                taken = max(taken, self._begun[gemms - 1])
            elif others:
                while len(self._free) < others:
                    yield self._free
                taken = max(taken, self._free[others - 1])
            available = taken
            if d.opcode == Opcode.NORM:
                taken = max(taken, (yield from self._norm_idle(len(self._norms) - 1)))
                norm = _Norm(self._network.times(), self._network.times())
                self._norms.append(norm)
            else:
                others += 1
                gemms += d.opcode == Opcode.GEMM
                before = d
            entries.pops.put(taken)
            self._taken.put((taken, d, len(self._norms) - 1, available))
            if d.opcode == Opcode.END or (d.opcode == Opcode.GATE and self._exits_low):
                return

    def _execute(self) -> Process:
        counters = self.counters
        last = -1  # last cycle that is accounted for
        number = 0
        while True:
            while len(self._taken) <= number:
                yield self._taken
            taken, d, norm, available = self._taken[number]
            number += 1
            if taken > last:
                waits = max(0, taken - max(available, last + 1))
                counters["stall_norm"] += waits
                counters["operation_norm"] += waits
                counters["stall_fetch"] += taken - last - waits
                counters["operation_other"] += taken - last - waits
                last = taken
            if d.opcode == Opcode.NORM:
                self._network.start(self._normalise(taken, d, self._norms[norm], self._residual))
                continue
            waits = 0
            if d.opcode == Opcode.GEMM:
                before = counters["stall_norm"]
                last = yield from self._gemm(d, taken + 1, self._norms[norm] if norm >= 0 else None)
                waits = counters["stall_norm"] - before
                self._free.put(last)
            else:
                settled = max(taken + 1, self._settled)
                waits = max(0, (yield from self._norm_idle(norm)) - settled)
                begin = settled + waits
                counters["stall_norm"] += waits
                counters["stall_drain"] += settled - taken
                if d.opcode == Opcode.LOAD:
                    last = yield from self._load(begin)
                elif d.opcode == Opcode.SOFTMAX:
                    last = yield from self._softmax(d, begin)
                else:
                    last = begin + d.classes + EVALUATE_CYCLES
                    counters["gate_cycles"] += last - begin
                    self.gate_done.put((last, d))
                self._free.put(last + 1)
            counters["operation_norm"] += waits
            counters[f"operation_{Operation(d.operation).name.lower()}"] += last - taken - waits
            if d.opcode == Opcode.END or (d.opcode == Opcode.GATE and self._exits_low):
                return
            if d.opcode == Opcode.GATE:
                self._proceed.put(last)

    def _norm_idle(self, norm: int) -> Wait:
        """First cycle in which no NORM is at work."""
        return 0 if norm < 0 else (yield from self._idle(self._norms[norm]))

    @staticmethod
    def _idle(norm: "_Norm") -> Wait:
        while not norm.idle:
            yield norm.idle
        return norm.idle[0]

    def _load(self, begin: int) -> Wait:
        self._side.rows_go.put(begin)
        loads = len(self._side.rows_go)
        while len(self._side.rows_done) < loads:
            yield self._side.rows_done
        done = self._side.rows_done[loads - 1]
        self.counters["stall_load"] += done - begin
        return done

    def _softmax(self, d: Descriptor, begin: int) -> Wait:
        """`SoftmaxIssue`: its tokens, then `SOFTMAX_LATENCY` less the cycle in which the next descriptor is taken."""
        first = yield from self._table(1)
        self.counters["stall_table"] += max(0, first - begin - 1)
        end = max(first, begin + 1) + self._timing.softmax_pass(d.tokens, d.keys) - 1
        self.tables[1].end(end)
        return end + SOFTMAX_LATENCY - 1

    def _normalise(self, taken: int, d: Descriptor, norm: "_Norm", residual: Times | None) -> Process:
        """`NormIssue`: statistics of one row tile beside the pass of the one before."""
        timing = self._timing
        length, ready = timing.norm_pass(d.words), timing.norm_ready(d.words)
        begin = passed = taken + 1  # earliest next statistics; end of the pass before
        for row_tile in range(d.row_tiles):
            at = begin
            if residual is not None:
                while len(residual) <= row_tile:
                    yield residual
                at = max(at, residual[row_tile])
            begin = max(at + STATISTICS_LATENCY, passed)  # the pass, and the next statistics
            passed = begin + length
            norm.ready.put(begin + ready)
        self.counters["norm_cycles"] += d.row_tiles * length
        norm.idle.put(passed - 1 + NORM_LATENCY)

    def _gemm(self, d: Descriptor, cycle: int, norm: "_Norm | None") -> Wait:
        """Issue a GEMM whose first decision may be in ``cycle``; its last decision."""
        counters, k_words, row_tiles, post = self.counters, d.k_words, d.row_tiles, Post(d.post)
        exponential, per_column, streams = bool(d.flags & FLAG_EXP), bool(d.flags & FLAG_PER_COLUMN), not d.flags & FLAG_KV
        by_rows = norm if d.flags & FLAG_NORMALIZED and post != Post.RESIDUAL else None
        complete = self._network.times()
        if post == Post.RESIDUAL:
            self._residual = complete
        group = min(d.resident, d.column_tiles) or d.column_tiles
        for start in range(0, d.column_tiles, group):
            tiles = min(group, d.column_tiles - start)
            intervals = [
                self._intervals[post, exponential and tile == 0, tile + 1 == start + tiles or self._sends(d, tile)]
                for tile in range(start, start + tiles)
            ]
            steps = [max(k_words, interval) for interval in intervals]
            first_ends = [sum(steps[:tile]) + k_words - 1 for tile in range(tiles)]  # after the row tile's first decision
            idle = sum(steps) - tiles * k_words - (steps[-1] - k_words)  # of these cycles, those without a word
            ends = first_ends
            for row_tile in range(row_tiles):
                last = row_tile == row_tiles - 1 or not d.resident  # use of the column tiles
                begin = max(cycle, self._tile_end + self._interval - k_words + 1)
                if start == row_tile == 0 and d.flags & FLAG_WAIT:
                    begin = max(begin, self._settled)
                counters["stall_drain"] += begin - cycle
                at = begin
                if by_rows is not None:
                    while len(by_rows.ready) <= row_tile:
                        yield by_rows.ready
                    at = max(begin, by_rows.ready[row_tile])
                elif norm is not None and start == row_tile == 0:
                    at = max(begin, (yield from self._idle(norm)))
                counters["stall_norm"] += at - begin
                begin = at
                if row_tile == 0 or not d.resident:
                    ends = []
                    for tile in range(tiles):
                        if tile:
                            begin = max(ends[-1] + 1, ends[-1] + intervals[tile - 1] - k_words + 1)
                            counters["stall_drain"] += begin - ends[-1] - 1
                        first = start == row_tile == tile == 0
                        begin = yield from self._operands(d, begin, first, streams, per_column)
                        if first:
                            self._begun.put(begin + 1)
                        ends.append(begin + k_words - 1)
                        if last:  # at once: what comes next may need the room
                            self._release(ends[-1], k_words, streams, per_column)
                else:
                    ends = [begin + end for end in first_ends]
                    counters["stall_drain"] += idle
                    if last:
                        for end in ends:
                            self._release(end, k_words, streams, per_column)
                self._tile_end, self._interval, cycle = ends[-1], intervals[-1], ends[-1] + 1
                if post == Post.RESIDUAL and start + tiles == d.column_tiles:
                    complete.put(self._tile_end + self._timing.residual_settle)
        end = self._tile_end
        self._settled = max(self._settled, end + self._settles[post])
        words = d.column_tiles * row_tiles * k_words
        counters["array_cycles"] += words
        counters["attention_array_cycles"] += words if d.flags & FLAG_ATTENTION else 0
        counters["tiles"] += d.column_tiles * row_tiles
        for kind, used in enumerate((post == Post.GELU, exponential and not self._config.softmax_pass)):
            if used:
                self.tables[kind].end(end)
        return end

    def _sends(self, d: Descriptor, tile: int) -> bool:
        """Whether a KEY tile that is not its group's last sends words to the collector."""
        return not self._config.gathers or (d.element + tile) % self._config.depth == self._config.depth - 1

    def _operands(self, d: Descriptor, begin: int, first: bool, streams: bool, per_column: bool) -> Wait:
        """First cycle from ``begin`` on with a tile's weights and parameters, of a GEMM's first tile with its table, too."""
        counters = self.counters
        if streams:
            at = max(begin, (yield from self._weights.tile(self._tiles)))
            counters["stall_weights"] += at - begin
            begin = at
            self._tiles += 1
        if per_column:
            parameters = self._side.parameter_credits
            while len(parameters) <= self._parameter_tiles:
                yield parameters
            at = max(begin, parameters[self._parameter_tiles])
            counters["stall_parameters"] += at - begin
            begin = at
            self._parameter_tiles += 1
        if first:
            for kind, used in enumerate((d.post == Post.GELU, d.flags & FLAG_EXP and not self._config.softmax_pass)):
                if used:
                    at = max(begin, (yield from self._table(kind)))
                    counters["stall_table"] += at - begin
                    begin = at
        return begin

    def _release(self, end: int, k_words: int, streams: bool, per_column: bool) -> None:
        """Give a column tile back whose last tile ends in cycle ``end``."""
        if streams:
            self._released += k_words
            self._weights.room.put((end + self._weight_release, self._released))
        if per_column:
            self._side.parameter_room.put(end + self._parameter_release)

    def _table(self, kind: int) -> Wait:
        """First cycle in which the issue sees the next table of a kind."""
        credits, number = self._side.table_credits[kind], self._tables_used[kind]
        while len(credits) <= number:
            yield credits
        self._tables_used[kind] += 1
        return credits[number]

"""The issue: the only place where the machine waits (hw/control/issue.py, gemm_issue.py, norm_issue.py, table_credits.py)."""

from collections import Counter

from hw.config import AcceleratorConfig
from hw.control.gate import EVALUATE_CYCLES
from hw.isa import FLAG_ATTENTION, FLAG_EXP, FLAG_KV, FLAG_PER_COLUMN, FLAG_WAIT, Descriptor, Opcode, Operation, Post
from hw.timing import FEED_LATENCY, STATISTICS_LATENCY, Timing
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


class Issue:
    """The issue of one image.

    Attributes:
        counters: By the names of `isa.COUNTERS`, without those of other units; up to the last decision.
        logits_done: Cycle in which the gate has evaluated, and the descriptor, for every GATE and the END.
    """

    def __init__(
        self, config: AcceleratorConfig, network: Network, entries: EntryQueue, weights: WeightSide, side: SideLoader,
        proceed: Times, *, exits_low: bool,
    ) -> None:  # fmt: skip
        self._config, self._timing = config, Timing(config)
        self._entries, self._weights, self._side = entries, weights, side
        self._proceed, self._exits_low = proceed, exits_low
        self.counters: Counter[str] = Counter()
        self.gate_done = network.times()
        timing = self._timing
        self.tables = [
            TableReleases(timing.settle(Post.GELU), side.table_room[0]),
            TableReleases(FEED_LATENCY + config.rows, side.table_room[1]),
        ]
        self._intervals = {
            (post, reciprocal): timing.drain_interval(post, reciprocal) for post in Post for reciprocal in (False, True)
        }
        self._settles = {post: timing.settle(post) for post in Post}
        self._weight_release = FEED_LATENCY + config.pairs + 3
        self._parameter_release = timing.drain_latency - 4 + 3 + config.cols
        # Last decision of a tile, its interval, and when all has settled.
        self._tile_end, self._interval, self._settled = -1, 0, 0
        self._tiles = self._parameter_tiles = 0  # column tiles taken
        self._tables_used = [0, 0]
        network.start(self._run())

    def _run(self) -> Process:
        counters, entries = self.counters, self._entries
        last, ready = -1, 0  # last cycle that is accounted for; first one in which a descriptor may be taken
        number = 0
        while True:
            moved = yield from entries.moves(number)
            d = entries.pushes[number][1]
            number += 1
            taken = max(moved + 1, ready)
            entries.pops.put(taken)
            counters["stall_fetch"] += taken - last
            counters["operation_other"] += taken - last
            last = taken
            if d.opcode == Opcode.GEMM:
                last = ready = yield from self._gemm(d, taken + 1)
            else:
                begin = max(taken + 1, self._settled)
                counters["stall_drain"] += begin - taken
                if d.opcode == Opcode.LOAD:
                    last = yield from self._load(begin)
                elif d.opcode == Opcode.NORM:
                    last = begin + self._norm_cycles(d)
                    counters["norm_cycles"] += last - begin
                else:
                    last = begin + d.classes + EVALUATE_CYCLES
                    counters["gate_cycles"] += last - begin
                    self.gate_done.put((last, d))
                ready = last + 1
            counters[f"operation_{Operation(d.operation).name.lower()}"] += last - taken
            if d.opcode == Opcode.END or (d.opcode == Opcode.GATE and self._exits_low):
                return
            if d.opcode == Opcode.GATE:
                self._proceed.put(last)

    def _load(self, begin: int) -> Wait:
        self._side.rows_go.put(begin)
        loads = len(self._side.rows_go)
        while len(self._side.rows_done) < loads:
            yield self._side.rows_done
        done = self._side.rows_done[loads - 1]
        self.counters["stall_load"] += done - begin
        return done

    def _norm_cycles(self, d: Descriptor) -> int:
        """`NormIssue`: start to done."""
        config = self._config
        interval = self._timing.norm_interval(d.words) * (d.row_tiles - 1)
        return STATISTICS_LATENCY + interval + d.words * config.depth // config.norm_elements + self._timing.norm_settle

    def _gemm(self, d: Descriptor, cycle: int) -> Wait:
        """Issue a GEMM whose first decision may be in ``cycle``; its last decision."""
        counters, k_words, row_tiles, flags, post = self.counters, d.k_words, d.row_tiles, d.flags, Post(d.post)
        exponential, per_column, streams = bool(flags & FLAG_EXP), bool(flags & FLAG_PER_COLUMN), not flags & FLAG_KV
        room, parameters = self._weights.room, self._side.parameter_credits
        given = room[-1][1] if room else 0
        for column_tile in range(d.column_tiles):
            begin = max(cycle, self._tile_end + self._interval - k_words + 1)
            if column_tile == 0 and flags & FLAG_WAIT:
                begin = max(begin, self._settled)
            counters["stall_drain"] += begin - cycle
            if streams:
                at = max(begin, (yield from self._weights.tile(self._tiles)))
                counters["stall_weights"] += at - begin
                begin = at
                self._tiles += 1
            if per_column:
                while len(parameters) <= self._parameter_tiles:
                    yield parameters
                at = max(begin, parameters[self._parameter_tiles])
                counters["stall_parameters"] += at - begin
                begin = at
                self._parameter_tiles += 1
            if column_tile == 0:
                for kind, used in enumerate((post == Post.GELU, exponential)):
                    if used:
                        at = max(begin, (yield from self._table(kind)))
                        counters["stall_table"] += at - begin
                        begin = at
            interval = self._interval = self._intervals[post, exponential and column_tile == 0]
            end = begin + (row_tiles - 1) * max(k_words, interval) + k_words - 1
            counters["stall_drain"] += (row_tiles - 1) * max(0, interval - k_words)
            self._tile_end = end
            self._settled = max(self._settled, end + self._settles[post])
            if streams:
                given += k_words
                room.put((end + self._weight_release, given))
            if per_column:
                self._side.parameter_room.put(end + self._parameter_release)
            cycle = end + 1
        words = d.column_tiles * row_tiles * k_words
        counters["array_cycles"] += words
        counters["attention_array_cycles"] += words if flags & FLAG_ATTENTION else 0
        counters["tiles"] += d.column_tiles * row_tiles
        for kind, used in enumerate((post == Post.GELU, exponential)):
            if used:
                self.tables[kind].end(end)
        return end

    def _table(self, kind: int) -> Wait:
        """First cycle in which the issue sees the next table of a kind."""
        credits, number = self._side.table_credits[kind], self._tables_used[kind]
        while len(credits) <= number:
            yield credits
        self._tables_used[kind] += 1
        return credits[number]

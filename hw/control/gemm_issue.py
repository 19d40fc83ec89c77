"""Issues the tiles of a GEMM when all that they need is certain."""

from amaranth.hdl import C, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import commands, isa, signatures
from hw.config import AcceleratorConfig
from hw.control.gemm_loops import GemmLoops
from hw.control.table_credits import TableCredits
from hw.isa import Post
from hw.timing import FEED_LATENCY, Timing

CAUSES = ("drain", "norm", "weights", "parameters", "table")
"""Why a GEMM at work issues nothing, in the order in which they count."""


class GemmIssue(wiring.Component):
    """One GEMM at a time, the next one without a gap. What is decided in a cycle is on the command outputs in the next one.

    Members:
        accept: take the encoded descriptor `head`; only while `ready`, which is also high in a GEMM's last cycle.
        stop: begin no tile and no word any more.
        busy: a GEMM is at hand.
        settled: ``Timing.settle`` of every issued tile has passed.
        norm_busy, normalized_tiles: a NORM is at work; row tiles that it has written, or will have in time for a first feed
            command.
        residual_tiles: row tiles that the RESIDUAL GEMM that began last has completed (`Timing.residual_settle`).
        residual_at_work: that GEMM has tiles to issue.
        normalized: the GEMM at hand is FLAG_NORMALIZED.
        weight_credits, parameter_loaded, table_credits: as `Issue`; exp tables are of no use with ``softmax_pass``.
        word, tile_begins: a word, the first of a tile, is decided in this cycle.
        drain, norm, weights, parameters, table: why no word is decided while busy; the first that holds, at most one is high.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "accept": In(1),
                "head": In(8 * isa.DESCRIPTOR_BYTES),
                "stop": In(1),
                "ready": Out(1),
                "busy": Out(1),
                "settled": Out(1),
                "norm_busy": In(1),
                "normalized_tiles": In(range(config.row_tiles + 1)),
                "residual_tiles": Out(range(config.row_tiles + 1)),
                "residual_at_work": Out(1),
                "normalized": Out(1),
                "feed": Out(commands.feed_command(config)),
                "weight": Out(commands.weight_command(config)),
                "tile": Out(commands.tile_command(config)),
                "weight_credits": Out(signatures.weight_credits(config)),
                "parameter_loaded": In(1),
                "table_credits": Out(signatures.table_credits()),
                "word": Out(1),
                "tile_begins": Out(1),
                **{cause: Out(1) for cause in CAUSES},
            }
        )

    def elaborate(self, platform) -> Module:
        config, timing = self._config, Timing(self._config)
        m = Module()
        m.submodules.loops = loops = GemmLoops(config)
        m.submodules.activation_tables = activation_tables = TableCredits(timing.settle(Post.ACTIVATION))
        exp_tables = None if config.softmax_pass else TableCredits(FEED_LATENCY + config.rows)  # else SOFTMAX uses them
        if exp_tables is not None:
            m.submodules.exp_tables = exp_tables
        gemm = loops.gemm
        names = ("WAIT", "KV", "EXP", "PER_COLUMN", "NORMALIZED")
        flag = {name: (gemm.flags & getattr(isa, f"FLAG_{name}")) != 0 for name in names}
        activation = gemm.post == Post.ACTIVATION

        active = Signal()  # in the middle of a tile
        tile_end, last = Signal(), Signal()
        parameter_credit = Signal(range(config.parameter_tiles + 1))
        drain_count = self._drain_count(m, loops, tile_end, flag["EXP"])
        self._settle(m, gemm.post, tile_end)

        drain = self.stop | (~active & ((drain_count >= gemm.k_words) | (flag["WAIT"] & loops.first_tile & ~self.settled)))
        # A NORM reads the residual and shares a multiplier with scores: only what it feeds, in order, may begin beside it.
        alone = loops.first_tile & (~flag["NORMALIZED"] | (gemm.post == Post.RESIDUAL) | (gemm.segment_words != 0))
        late = flag["NORMALIZED"] & (self.normalized_tiles <= loops.row_tile)
        norm = ~active & self.norm_busy & (alone | late)
        needs = ~active & loops.first_use
        no_weights = needs & ~flag["KV"] & ~self.weight_credits.available
        no_parameters = needs & flag["PER_COLUMN"] & (parameter_credit == 0)
        no_exp_table = 0 if exp_tables is None else flag["EXP"] & ~exp_tables.available
        no_table = ~active & loops.first_tile & (no_exp_table | (activation & ~activation_tables.available))
        waits = zip(CAUSES, (drain, norm, no_weights, no_parameters, no_table), strict=True)
        free = self.busy
        for cause, condition in waits:
            m.d.comb += getattr(self, cause).eq(free & condition)
            free = free & ~condition
        m.d.comb += [
            self.word.eq(free),
            self.tile_begins.eq(self.word & ~active),
            tile_end.eq(self.word & loops.last_word),
            last.eq(tile_end & loops.last_row_tile & loops.last_column_tile),
            loops.advance.eq(self.word),
            loops.accept.eq(self.accept),
            loops.head.eq(self.head),
            self.ready.eq(~self.busy | last),
            self.normalized.eq(flag["NORMALIZED"]),
        ]
        with m.If(self.word):
            m.d.sync += active.eq(~loops.last_word)
        m.d.sync += self.busy.eq(self.accept | (self.busy & ~last))

        takes = self.tile_begins & loops.first_use
        takes_parameters = takes & flag["PER_COLUMN"]
        m.d.comb += self.weight_credits.take.eq(takes & ~flag["KV"])
        m.d.sync += [
            self.weight_credits.release.eq(tile_end & loops.last_use & ~flag["KV"]),
            self.weight_credits.release_words.eq(gemm.k_words),
            parameter_credit.eq(parameter_credit + self.parameter_loaded - takes_parameters),
        ]
        users = [(0, activation_tables, activation)]
        if exp_tables is not None:
            users.append((1, exp_tables, flag["EXP"]))
        for bit, tables, used in users:
            m.d.comb += [
                tables.loaded.eq(self.table_credits.loaded[bit]),
                tables.begin.eq(self.tile_begins & loops.first_tile & used),
                tables.end.eq(last & used),
                self.table_credits.release[bit].eq(tables.release),
            ]
        self._residual(m, loops, tile_end)
        self._commands(m, loops, flag, active, tile_end, C(0) if exp_tables is None else exp_tables.slot)
        m.d.sync += self.tile.table_slot.eq(activation_tables.slot)
        return m

    def _residual(self, m: Module, loops: GemmLoops, tile_end: Value) -> None:
        """Completed row tiles of the RESIDUAL GEMM that began last; what is under way of the one before is forgotten then."""
        residual = loops.gemm.post == Post.RESIDUAL
        begins = self.tile_begins & loops.first_tile & residual
        under_way = Signal(Timing(self._config).residual_settle - 1)  # one bit per cycle since a row tile's last word
        begun = Signal()
        m.d.comb += self.residual_at_work.eq(self.busy & residual & begun)
        with m.If(self.accept):
            m.d.sync += begun.eq(0)
        with m.Elif(self.tile_begins):
            m.d.sync += begun.eq(1)
        complete = tile_end & loops.last_column_tile & residual
        m.d.sync += [
            under_way.eq(Mux(begins, 0, under_way << 1) | complete),
            self.residual_tiles.eq(Mux(begins, 0, self.residual_tiles + under_way[-1])),
        ]

    def _drain_count(self, m: Module, loops: GemmLoops, tile_end: Value, exponential: Value) -> Signal:
        """``Timing.drain_interval``: a tile of k words may begin while the count is below k."""
        timing = Timing(self._config)
        greatest = max(timing.drain_interval(post, True) for post in Post)
        count, interval = Signal(range(greatest + 1)), Signal(range(greatest + 1))
        with m.Switch(loops.gemm.post):
            for post in Post:
                with m.Case(post):
                    reciprocal = exponential & loops.first_column_tile
                    m.d.comb += interval.eq(Mux(reciprocal, timing.drain_interval(post, True), timing.drain_interval(post, False)))
        if self._config.gathers:
            sends = loops.group_last | (loops.element == self._config.pe_depth - 1)
            with m.If((loops.gemm.post == Post.KEY) & ~sends & ~(exponential & loops.first_column_tile)):
                m.d.comb += interval.eq(timing.drain_interval(Post.KEY, False, sends=False))
        with m.If(tile_end):
            m.d.sync += count.eq(interval - 1)
        with m.Elif(count != 0):
            m.d.sync += count.eq(count - 1)
        return count

    def _settle(self, m: Module, post: Value, tile_end: Value) -> None:
        """A KEY tile settles later than a plain one that follows it, so the greater of the two counts."""
        timing = Timing(self._config)
        greatest = max(timing.settle(kind) for kind in Post)
        count, falling, settle = (Signal(range(greatest + 1), name=f"settle_{n}") for n in ("count", "falling", "cycles"))
        m.d.comb += [self.settled.eq(count == 0), falling.eq(Mux(count == 0, 0, count - 1))]
        with m.Switch(post):
            for kind in Post:
                with m.Case(kind):
                    m.d.comb += settle.eq(timing.settle(kind) - 1)
        m.d.sync += count.eq(Mux(tile_end & (settle > falling), settle, falling))

    def _commands(self, m: Module, loops: GemmLoops, flag: dict[str, Value], active: Signal, tile_end: Value, slot: Value) -> None:
        """Registers at the outputs."""
        gemm = loops.gemm
        m.d.sync += [
            self.feed.valid.eq(self.word),
            self.feed.first.eq(~active),
            self.feed.last.eq(loops.last_word),
            self.feed.normalized.eq(flag["NORMALIZED"]),
            self.feed.wide.eq((gemm.post == Post.SCORE) & (self._config.score_columns == 2)),
            self.feed.exponential.eq(flag["EXP"]),
            self.feed.reciprocal.eq(flag["EXP"] & loops.first_column_tile),
            self.feed.table_slot.eq(slot),
            self.feed.address.eq(loops.feed_address),
            self.feed.elements.eq(loops.elements),
            self.feed.row_tile.eq(loops.row_state),
            self.feed.multiplier.eq(gemm.multiplier),
            self.weight.valid.eq(self.word),
            self.weight.kv.eq(flag["KV"]),
            self.weight.address.eq(loops.weight_address),
            self.tile.valid.eq(tile_end),
            self.tile.post.eq(gemm.post),
            self.tile.start.eq(loops.first_column_tile),
            self.tile.exponential.eq(flag["EXP"]),
            self.tile.per_column.eq(flag["PER_COLUMN"]),
            self.tile.release.eq(loops.last_use & flag["PER_COLUMN"]),
            self.tile.row_tile.eq(loops.row_state),
            self.tile.multiplier.eq(gemm.multiplier),
            self.tile.shift.eq(gemm.shift),
            self.tile.blank.eq(gemm.blank_rows),
        ]
        shared: tuple[str, ...] = (
            "parameter_tile", "address", "addend_offset", "element", "kv_index", "kv_stride", "tokens_left", "columns",
        )  # fmt: skip
        if self._config.gathers:
            shared += ("group_first", "group_last")
        m.d.sync += [self.tile[name].eq(getattr(loops, name)) for name in shared]

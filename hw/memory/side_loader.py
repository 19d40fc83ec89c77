"""Loads what is not weights: requantization parameters, tables, and the rows of a LOAD."""

from amaranth.hdl import Module, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hw import commands
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4ReadSignature
from hw.memory.jobs import JobKind, placement_layout, rows_layout, side_job, word_bytes
from hw.memory.segment_planner import SegmentPlanner
from hw.memory.segment_reader import SegmentReader
from hw.memory.word_placer import WordPlacer
from hw.weights.parameter_ring import parameter_write

__all__ = ["JobKind", "SideLoader", "rows_layout", "side_job"]


class SideLoader(wiring.Component):
    """Client of the system port's reads: a queue of ``queue_depth`` jobs, done strictly in order.

    A job whose words wait for room (a parameter slot, a table slot) or for `rows_go` holds up the jobs behind it, so a GEMM's
    TABLE must come before its PARAMETERS. Reading runs ahead of the words by the reader's FIFO.

    Slots: the n-th column tile since reset goes to parameter slot ``n % parameter_tiles``; the n-th table of a kind to
    table slot ``n % 2``. A slot is taken when its first entry is written, given back by `parameter_release` or
    `table_release`.

    Members:
        job: stream of `side_job`.
        axi: AXI4 read master.
        parameter_write: `hw.weights.parameter_ring.parameter_write`, to `ParameterRing`.
        parameter_tile_done: pulse with the last entry of a slot; the ring may be read from the next cycle.
        parameter_release: pulse, oldest slot may be overwritten.
        table_write: `commands.table_write` at row 0, moves down one row per cycle.
        table_done: pulse with a table's last entry; bit 0 activation, bit 1 exp. A token of row 0 may use the slot from the next
            cycle.
        table_release: pulse, oldest table of the kind may be overwritten; bits as `table_done`.
        load: `commands.load_word` at row 0, moves down one row per cycle.
        rows_go: pulse, the next ROWS job may write its words. At most one pulse per ROWS job.
        rows_done: pulse when all words of a ROWS job are in their banks, ``rows + 4`` cycles after the last word.
        address_error: pulse after a ROWS job's `rows_go`: a segment of it would end beyond `limit`; nothing is read for it, and no
            later job starts until reset.
        abort, idle, error, beat_accepted: as `BurstReader`.
        busy: a job is in the queue or in work.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(side_job(config))),
                "axi": Out(AXI4ReadSignature(config.address_width, config.axi_bytes)),
                "parameter_write": Out(parameter_write(config)),
                "parameter_tile_done": Out(1),
                "parameter_release": In(1),
                "table_write": Out(commands.table_write(config)),
                "table_done": Out(2),
                "table_release": In(2),
                "load": Out(commands.load_word(config)),
                "rows_go": In(1),
                "rows_done": Out(1),
                "address_error": Out(1),
                "abort": In(1),
                "idle": Out(1),
                "error": Out(1),
                "busy": Out(1),
                "beat_accepted": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFO(width=side_job(config).size, depth=config.queue_depth)
        m.submodules.planner = planner = SegmentPlanner(config)
        m.submodules.reader = reader = SegmentReader(config, word_bytes=word_bytes(config))
        placement = placement_layout(config)
        m.submodules.placements = placements = fifo.SyncFIFO(width=placement.size, depth=4)
        m.submodules.placer = placer = WordPlacer(config)
        wiring.connect(m, planner.segment, reader.segment)
        wiring.connect(m, reader.words, placer.words)
        wiring.connect(m, reader.axi, wiring.flipped(self.axi))
        m.d.comb += [
            queue.w_data.eq(self.job.payload),
            queue.w_en.eq(self.job.valid),
            self.job.ready.eq(queue.w_rdy),
            planner.job.payload.eq(queue.r_data),
            planner.job.valid.eq(queue.r_rdy),
            queue.r_en.eq(planner.job.ready),
            placements.w_data.eq(planner.placement.payload),
            placements.w_en.eq(planner.placement.valid),
            planner.placement.ready.eq(placements.w_rdy),
            placer.placement.payload.eq(placements.r_data),
            placer.placement.valid.eq(placements.r_rdy),
            placements.r_en.eq(placer.placement.ready),
            placer.rows_go.eq(self.rows_go),
            reader.abort.eq(self.abort),
            self.idle.eq(reader.idle),
            self.error.eq(reader.error),
            self.beat_accepted.eq(reader.beat_accepted),
            self.busy.eq(queue.r_rdy | placements.r_rdy | placer.busy),
            placer.parameter_release.eq(self.parameter_release),
            placer.table_release.eq(self.table_release),
            self.parameter_write.eq(placer.parameter_write),
            self.parameter_tile_done.eq(placer.parameter_tile_done),
            self.table_write.eq(placer.table_write),
            self.table_done.eq(placer.table_done),
            self.load.eq(placer.load),
            self.rows_done.eq(placer.rows_done),
        ]
        # The planner halts after the placement of the job in question; it may do so long before that job's turn.
        reported = Signal()
        m.d.comb += self.address_error.eq(planner.halted & placer.rows_started & (placements.level == 1) & ~reported)
        with m.If(self.address_error):
            m.d.sync += reported.eq(1)
        return m

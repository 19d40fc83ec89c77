"""Loads what is not weights: requantization parameters, tables, and the rows of a LOAD."""

from amaranth.hdl import Module, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hw import commands, signatures
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4ReadSignature
from hw.memory.jobs import placement_layout, side_job, word_bytes
from hw.memory.segment_planner import SegmentPlanner
from hw.memory.segment_reader import SegmentReader
from hw.memory.word_placer import WordPlacer

PLACEMENTS = 4
"""Jobs whose words may be under way."""


class SideLoader(wiring.Component):
    """Client of the system port's reads: a queue of ``queue_depth`` jobs, done strictly in order.

    A job whose words wait for room (a parameter slot, a table slot) or for `load_rows` holds up the jobs behind it, so a GEMM's
    TABLE must come before its PARAMETERS. Reading runs ahead of the words by the reader's FIFO.

    Slots: the n-th column tile since reset goes to parameter slot ``n % parameter_tiles``; the n-th table of a kind to
    table slot ``n % 2``. A slot is taken when its first entry is written, and released by the credits.

    Members:
        job: stream of `side_job`.
        axi: AXI4 read master.
        parameter_write: `commands.parameter_write`, to `ParameterRing`.
        parameter_credits: `signatures.parameter_credits`; ``loaded`` comes with the last entry of a slot, and the ring may be read
            from the next cycle.
        table_credits: `signatures.table_credits`; ``loaded`` comes with a table's last entry, and a command of row 0 may use the
            slot from the next cycle.
        row_writes: `signatures.row_writes`; each moves down one row per cycle.
        load_rows: `signatures.load_rows`; at most one ``go`` per ROWS job; ``done`` comes ``rows + ROWS_MARGIN`` cycles after its
            last word.
        address_error: pulse after a ROWS job's ``go``: a segment of it would end beyond `limit`; nothing is read for it, and no
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
                "parameter_write": Out(commands.parameter_write(config)),
                "parameter_credits": In(signatures.parameter_credits()),
                "table_credits": In(signatures.table_credits()),
                "row_writes": Out(signatures.row_writes(config)),
                "load_rows": In(signatures.load_rows()),
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
        m.submodules.placements = placements = fifo.SyncFIFO(width=placement.size, depth=PLACEMENTS)
        m.submodules.placer = placer = WordPlacer(config)
        wiring.connect(m, planner.segment, reader.segment)
        wiring.connect(m, reader.words, placer.words)
        wiring.connect(m, reader.axi, wiring.flipped(self.axi))
        for name in ("parameter_credits", "table_credits", "row_writes", "load_rows"):
            wiring.connect(m, getattr(placer, name), wiring.flipped(getattr(self, name)))
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
            reader.abort.eq(self.abort),
            self.idle.eq(reader.idle),
            self.error.eq(reader.error),
            self.beat_accepted.eq(reader.beat_accepted),
            self.busy.eq(queue.r_rdy | placements.r_rdy | placer.busy),
            self.parameter_write.eq(placer.parameter_write),
        ]
        # The planner halts after the placement of the job in question; it may do so long before that job's turn.
        reported = Signal()
        m.d.comb += self.address_error.eq(planner.halted & placer.rows_started & (placements.level == 1) & ~reported)
        with m.If(self.address_error):
            m.d.sync += reported.eq(1)
        return m

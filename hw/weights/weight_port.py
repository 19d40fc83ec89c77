"""One AXI master that streams weights into the rings of its columns."""

from math import gcd

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw import commands
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4ReadSignature
from hw.memory.segment_reader import SegmentReader
from hw.weights.jobs import port_job


class WeightPort(wiring.Component):
    """Reads regions of weights and writes them to the rings, as far as the rings have room.

    A column tile starts when the ring has k_words free words; they are taken at once. Reading runs ahead of the rings by
    the reader's FIFO. One beat or one word per cycle, whichever takes longer; no gap between tiles or jobs.

    Members:
        job: stream of `port_job`; ``queue_depth`` jobs may be read but not yet written.
        axi: AXI4 read master.
        write: `commands.weight_write`, a register.
        tile_done: pulse with the last write of a column tile.
        release: words given back, 0 for none.
        abort, idle, error, beat_accepted: as `BurstReader`.
        busy: a job is in work.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(port_job(config))),
                "axi": Out(AXI4ReadSignature(config.address_width, config.axi_bytes)),
                "write": Out(commands.weight_write(config)),
                "tile_done": Out(1),
                "release": In(bits_for(config.weight_words)),
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
        word_bytes = config.columns_per_beat * config.pe_depth
        m.submodules.reader = reader = SegmentReader(config, word_bytes=[word_bytes], unit_bytes=gcd(word_bytes, config.axi_bytes))
        shape = data.StructLayout({"k_words": self.job.payload.k_words.shape(), "column_tiles": 16})
        m.submodules.jobs = jobs = fifo.SyncFIFO(width=shape.size, depth=config.queue_depth)
        pushed, tile = data.View(shape, jobs.w_data), data.View(shape, jobs.r_data)
        wiring.connect(m, reader.axi, wiring.flipped(self.axi))
        job = self.job.payload
        m.d.comb += [
            reader.segment.valid.eq(self.job.valid & jobs.w_rdy),
            reader.segment.payload.address.eq(job.address),
            reader.segment.payload.beats.eq(job.beats),
            reader.segment.payload.last_bytes.eq(job.last_bytes),
            reader.segment.payload.last.eq(1),
            self.job.ready.eq(reader.segment.ready & jobs.w_rdy),
            jobs.w_en.eq(self.job.valid & self.job.ready),
            pushed.k_words.eq(job.k_words),
            pushed.column_tiles.eq(job.column_tiles),
            reader.abort.eq(self.abort),
            self.idle.eq(reader.idle),
            self.error.eq(reader.error),
            self.beat_accepted.eq(reader.beat_accepted),
            self.busy.eq(jobs.r_rdy),
        ]

        free = Signal(range(config.weight_words + 1), init=config.weight_words)
        group = Signal(commands.index_width(config.groups_per_port))
        word = Signal(tile.k_words.shape())
        column_tile = Signal(16)
        address = Signal(commands.index_width(config.weight_words))
        first, fire = Signal(), Signal()
        last_group, last_word, last_tile = Signal(), Signal(), Signal()
        m.d.comb += [
            first.eq((word == 0) & (group == 0)),
            reader.words.ready.eq(~first | (free >= tile.k_words)),
            fire.eq(reader.words.valid & reader.words.ready),
            last_group.eq(group == config.groups_per_port - 1),
            last_word.eq(last_group & (word == tile.k_words - 1)),
            last_tile.eq(last_word & (column_tile == tile.column_tiles - 1)),
            jobs.r_en.eq(fire & last_tile),
        ]
        m.d.sync += [
            free.eq(free + self.release - Mux(fire & first, tile.k_words, 0)),
            self.write.valid.eq(fire),
            self.write.group.eq(group),
            self.write.address.eq(address),
            self.write.data.eq(reader.words.payload.data),
            self.tile_done.eq(fire & last_word),
        ]
        with m.If(fire):
            m.d.sync += group.eq(Mux(last_group, 0, group + 1))
            with m.If(last_group):
                m.d.sync += [
                    word.eq(Mux(last_word, 0, word + 1)),
                    address.eq(Mux(address == config.weight_words - 1, 0, address + 1)),
                ]
            with m.If(last_word):
                m.d.sync += column_tile.eq(Mux(last_tile, 0, column_tile + 1))
        return m

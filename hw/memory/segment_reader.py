"""Reads byte-aligned segments of memory and delivers them as words."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.commands import index_width
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4ReadSignature
from hw.memory.burst_reader import BEATS_WIDTH, BurstReader
from hw.memory.gearbox import Gearbox


def segment_layout(config: AcceleratorConfig, word_sizes: int) -> data.StructLayout:
    """One segment: ``address`` of its first byte; ``beats`` that cover it; ``last_bytes``, 1 to axi_bytes, of the last of
    these up to its end; ``size``, index of the word size; ``last``: a run of segments ends, its last word is filled up
    with zeros; ``final``: handed through with ``last``."""
    return data.StructLayout(
        {
            "address": config.address_width,
            "beats": BEATS_WIDTH,
            "last_bytes": bits_for(config.axi_bytes),
            "size": index_width(word_sizes),
            "last": 1,
            "final": 1,
        }
    )


def word_layout(word_bytes: Sequence[int]) -> data.StructLayout:
    """One word of one of the sizes ``word_bytes``: ``data`` in the low bytes, what lies above is meaningless; ``last`` word
    of its run; ``final``."""
    return data.StructLayout({"data": 8 * max(word_bytes), "last": 1, "final": 1})


class SegmentReader(wiring.Component):
    """`BurstReader` and `Gearbox`, with a queue of the segments in flight between them.

    Args:
        config: the machine.
        word_bytes: sizes of words.
        unit_bytes: power of two that divides all addresses, segment lengths and word sizes.

    Members:
        segment: stream of `segment_layout`.
        words: stream of ``data``, ``last`` and ``final`` as `Gearbox`; the earliest word 4 cycles after its beat.
        axi, abort, idle, error, beat_accepted: as `BurstReader`.
    """

    def __init__(self, config: AcceleratorConfig, *, word_bytes: Sequence[int], unit_bytes: int = 1):
        self._config, self._unit_bytes = config, unit_bytes
        self._gearbox = Gearbox(
            unit_width=8 * unit_bytes,
            beat_units=config.axi_bytes // unit_bytes,
            word_units=[size // unit_bytes for size in word_bytes],
        )
        self._word_sizes = len(word_bytes)
        super().__init__(
            {
                "segment": In(stream.Signature(segment_layout(config, self._word_sizes))),
                "words": Out(stream.Signature(word_layout(word_bytes))),
                "axi": Out(AXI4ReadSignature(config.address_width, config.axi_bytes)),
                "abort": In(1),
                "idle": Out(1),
                "error": Out(1),
                "beat_accepted": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        address_bits = (config.axi_bytes - 1).bit_length()
        unit_bits = (self._unit_bytes - 1).bit_length()
        m = Module()
        m.submodules.gearbox = gearbox = self._gearbox
        m.submodules.reader = reader = BurstReader(config)
        shape = data.StructLayout(
            {"first": address_bits, "last_bytes": bits_for(config.axi_bytes), "size": index_width(self._word_sizes),
             "last": 1, "final": 1}
        )  # fmt: skip
        m.submodules.flying = flying = fifo.SyncFIFO(width=shape.size, depth=2 * config.outstanding + 2)
        pushed, head = data.View(shape, flying.w_data), data.View(shape, flying.r_data)
        wiring.connect(m, reader.axi, wiring.flipped(self.axi))
        wiring.connect(m, gearbox.words, wiring.flipped(self.words))

        segment = self.segment.payload
        m.d.comb += [
            reader.command.valid.eq(self.segment.valid & flying.w_rdy),
            reader.command.payload.address.eq(segment.address),
            reader.command.payload.beats.eq(segment.beats),
            self.segment.ready.eq(reader.command.ready & flying.w_rdy),
            flying.w_en.eq(self.segment.valid & self.segment.ready),
            pushed.first.eq(segment.address[:address_bits]),
            pushed.last_bytes.eq(segment.last_bytes),
            pushed.size.eq(segment.size),
            pushed.last.eq(segment.last),
            pushed.final.eq(segment.final),
            reader.abort.eq(self.abort),
            self.idle.eq(reader.idle),
            self.error.eq(reader.error),
            self.beat_accepted.eq(reader.beat_accepted),
        ]

        fresh = Signal(init=1)  # the next beat is the first of its segment
        first = Signal(address_bits)
        end = Signal(bits_for(config.axi_bytes))
        beat = reader.data.payload
        m.d.comb += [
            first.eq(Mux(fresh, head.first, 0)),
            end.eq(Mux(beat.last, head.last_bytes, config.axi_bytes)),
            gearbox.beats.valid.eq(reader.data.valid),
            gearbox.beats.payload.data.eq(beat.data),
            gearbox.beats.payload.first.eq(first >> unit_bits),
            gearbox.beats.payload.count.eq((end - first) >> unit_bits),
            gearbox.beats.payload.size.eq(head.size),
            gearbox.beats.payload.last.eq(beat.last & head.last),
            gearbox.beats.payload.final.eq(head.final),
            reader.data.ready.eq(gearbox.beats.ready),
        ]
        with m.If(reader.data.valid & reader.data.ready):
            m.d.sync += fresh.eq(beat.last)
            m.d.comb += flying.r_en.eq(beat.last)
        return m

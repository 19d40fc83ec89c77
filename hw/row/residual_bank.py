"""A row's residual stream."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.numerics import RESIDUAL_WIDTH
from hw.tokens import index_width

RESIDUAL_READ_LATENCY = 2
"""Cycles from a read's address to its word: memory and output register."""


def residual_word(config: AcceleratorConfig) -> data.ArrayLayout:
    """``depth`` elements int16."""
    return data.ArrayLayout(signed(RESIDUAL_WIDTH), config.depth)


def residual_read(config: AcceleratorConfig) -> data.StructLayout:
    """Read of one word."""
    return data.StructLayout({"valid": 1, "address": index_width(config.residual_words)})


def element_write(config: AcceleratorConfig) -> data.StructLayout:
    """Write of one int16 element."""
    return data.StructLayout(
        {
            "valid": 1,
            "address": index_width(config.residual_words),
            "element": index_width(config.depth),
            "data": RESIDUAL_WIDTH,
        }
    )


def word_write(config: AcceleratorConfig) -> data.StructLayout:
    """Write of a whole word."""
    return data.StructLayout({"valid": 1, "address": index_width(config.residual_words), "data": config.depth * RESIDUAL_WIDTH})


class ResidualBank(wiring.Component):
    """``residual_words`` words of ``depth`` int16: one read and one write per cycle, each with two users that never
    meet.

    A read in the cycle of a write to the same word returns the old word; from the next cycle on, the new one.

    Members:
        lane_read, norm_read: In, `residual_read`; never both valid.
        word: Out, `residual_word`, `RESIDUAL_READ_LATENCY` cycles after the read.
        lane_write: In, `element_write`.
        load_write: In, `word_write`; never valid with ``lane_write``.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "lane_read": In(residual_read(config)),
                "norm_read": In(residual_read(config)),
                "word": Out(residual_word(config)),
                "lane_write": In(element_write(config)),
                "load_write": In(word_write(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        depth = self.config.depth
        m.submodules.memory = words = memory.Memory(
            shape=depth * RESIDUAL_WIDTH, depth=self.config.residual_words, init=[], attrs={"ram_style": "block"}
        )
        read, write = words.read_port(), words.write_port(granularity=RESIDUAL_WIDTH)
        element = Signal(depth)
        m.d.comb += [
            read.en.eq(1),
            read.addr.eq(Mux(self.norm_read.valid, self.norm_read.address, self.lane_read.address)),
            element.eq(self.lane_write.valid << self.lane_write.element),
            write.en.eq(Mux(self.load_write.valid, (1 << depth) - 1, element)),
            write.addr.eq(Mux(self.load_write.valid, self.load_write.address, self.lane_write.address)),
            write.data.eq(Mux(self.load_write.valid, self.load_write.data, self.lane_write.data.replicate(depth))),
        ]
        m.d.sync += self.word.eq(read.data)
        return m

"""A row's residual stream."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.commands import index_width
from hw.config import AcceleratorConfig
from hw.numerics import RESIDUAL_WIDTH

RESIDUAL_READ_LATENCY = 2
"""Cycles from a read's address to its word: memory and output register."""


def residual_word(config: AcceleratorConfig) -> data.ArrayLayout:
    """``pe_depth`` elements int16."""
    return data.ArrayLayout(signed(RESIDUAL_WIDTH), config.pe_depth)


def residual_read(config: AcceleratorConfig) -> data.StructLayout:
    """Read of one word."""
    return data.StructLayout({"valid": 1, "address": index_width(config.residual_words)})


def element_write(config: AcceleratorConfig) -> data.StructLayout:
    """Write of one int16 element."""
    return data.StructLayout(
        {
            "valid": 1,
            "address": index_width(config.residual_words),
            "element": index_width(config.pe_depth),
            "data": RESIDUAL_WIDTH,
        }
    )


def word_write(config: AcceleratorConfig) -> data.StructLayout:
    """Write of a whole word."""
    return data.StructLayout({"valid": 1, "address": index_width(config.residual_words), "data": config.pe_depth * RESIDUAL_WIDTH})


class ResidualBank(wiring.Component):
    """``residual_words`` words of ``pe_depth`` int16: two reads and one write per cycle; each read has a copy of the memory.

    A read in the cycle of a write to the same word returns the old word; from the next cycle on, the new one.

    Members:
        lane_read, norm_read: In, `residual_read`.
        lane_word, norm_word: Out, `residual_word`, `RESIDUAL_READ_LATENCY` cycles after their reads.
        lane_write: In, `element_write`.
        load_write: In, `word_write`; never valid with ``lane_write``.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "lane_read": In(residual_read(config)),
                "norm_read": In(residual_read(config)),
                "lane_word": Out(residual_word(config)),
                "norm_word": Out(residual_word(config)),
                "lane_write": In(element_write(config)),
                "load_write": In(word_write(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        depth, load = self.config.pe_depth, self.load_write
        enable = Signal(depth)
        address, value = Signal.like(load.address), Signal.like(load.data)
        m.d.comb += [
            enable.eq(Mux(load.valid, (1 << depth) - 1, self.lane_write.valid << self.lane_write.element)),
            address.eq(Mux(load.valid, load.address, self.lane_write.address)),
            value.eq(Mux(load.valid, load.data, self.lane_write.data.replicate(depth))),
        ]
        for name, request, word in (
            ("lane_copy", self.lane_read, self.lane_word),
            ("norm_copy", self.norm_read, self.norm_word),
        ):
            m.submodules[name] = words = memory.Memory(
                shape=depth * RESIDUAL_WIDTH, depth=self.config.residual_words, init=[], attrs={"ram_style": "block"}
            )
            read, write = words.read_port(), words.write_port(granularity=RESIDUAL_WIDTH)
            m.d.comb += [
                read.en.eq(request.valid),
                read.addr.eq(request.address),
                write.en.eq(enable),
                write.addr.eq(address),
                write.data.eq(value),
            ]
            m.d.sync += word.eq(read.data)
        return m

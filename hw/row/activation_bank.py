"""A row's activations: words of ``pe_depth`` int8."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.commands import index_width
from hw.config import AcceleratorConfig
from hw.row.processing_pair import word_layout

BANK_READ_LATENCY = 2
"""Address to word, in cycles: block RAM and its output register."""


class ActivationBank(wiring.Component):
    """Memory of words with one read and one write port; zero after configuration.

    A word read in the cycle in which it is written is the old one.

    Args:
        config: the machine.
        words: how many; ``activation_words`` where None.

    Members:
        read_address: word to read.
        read_data: that word, ``BANK_READ_LATENCY`` cycles later.
        write_address, write_enable, write_data: bit i of ``write_enable`` writes element i.
    """

    def __init__(self, config: AcceleratorConfig, words: int | None = None):
        self.config = config
        self.words = words or config.activation_words
        address = index_width(self.words)
        super().__init__(
            {
                "read_address": In(address),
                "read_data": Out(word_layout(config)),
                "write_address": In(address),
                "write_enable": In(config.pe_depth),
                "write_data": In(word_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=word_layout(self.config), depth=self.words, init=[])
        read = memory.read_port()
        write = memory.write_port(granularity=1)
        m.d.comb += [
            read.addr.eq(self.read_address),
            write.addr.eq(self.write_address),
            write.en.eq(self.write_enable),
            write.data.eq(self.write_data),
        ]
        m.d.sync += self.read_data.eq(read.data)
        return m

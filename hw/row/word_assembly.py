"""Words of K and V from single columns."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.tokens import collector_word, index_width


def word_column(config: AcceleratorConfig) -> data.StructLayout:
    """One byte on its way into a word: of K its byte ``element``, of V (``value``) the byte numbered like the column."""
    return data.StructLayout(
        {
            "valid": 1,
            "value": 1,
            "first": 1,
            "last": 1,
            "enabled": 1,
            "exists": 1,  # the row's token exists; words of others are dropped
            "element": index_width(config.depth),
            "index": index_width(max(config.cols, config.depth)),
            "address": index_width(config.kv_words),
            "byte": 8,
        }
    )


class WordAssembly(wiring.Component):
    """Gathers enabled bytes; a word leaves at its last byte (K) and at the tile's last column, if it holds any.

    A K word has the address of the column that completes it: address and element go on counting where columns do not
    exist.

    Members:
        column: In, `word_column`.
        word: Out, `collector_word`, the cycle after the completing column; bytes outside ``mask`` are left over.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({"column": In(word_column(config)), "word": Out(collector_word(config))})

    def elaborate(self, platform) -> Module:
        m = Module()
        column, word = self.column, self.word
        width = len(word.mask)
        count = Signal(range(max(2, self.config.cols)), reset_less=True)
        position = Signal(range(max(2, width)))
        complete = Signal()
        closed = Signal(init=1)
        mask = Signal(width)
        m.d.comb += [
            position.eq(Mux(column.value, Mux(column.first, 0, count), column.element)),
            complete.eq(column.last | (~column.value & (column.element == self.config.depth - 1))),
            mask.eq(Mux(column.first | closed, 0, word.mask) | (column.enabled << position)),
        ]
        m.d.sync += word.valid.eq(column.valid & complete & column.exists & mask.any())
        with m.If(column.valid):
            m.d.sync += [
                count.eq(position + 1),
                closed.eq(complete),
                word.mask.eq(mask),
                word.value.eq(column.value),
                word.index.eq(column.index),
                word.address.eq(column.address),
            ]
            for byte in range(width):
                with m.If(column.enabled & (position == byte)):
                    m.d.sync += word.data[8 * byte : 8 * byte + 8].eq(column.byte)
        return m

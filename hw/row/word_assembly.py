"""Words of K and V from single columns."""

from amaranth import Module, Mux, Signal
from amaranth.hdl import Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.commands import collector_word, index_width
from hw.config import AcceleratorConfig


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
            "element": index_width(config.pe_depth),
            "index": index_width(max(config.cols, config.pe_depth)),
            "address": index_width(config.kv_words),
            "byte": 8,
        }
    )


class WordAssembly(wiring.Component):
    """Gathers enabled bytes; a word leaves at the tile's last column, if it holds any.

    Where a tile's channels of K are whole words (``cols % pe_depth == 0``, the first channel on element 0), they leave together,
    with the address of the first. Else a word of K leaves at its last byte, too, and has the address of the column that completes
    it: address and element go on counting where columns do not exist. Where rows gather (``gathers``), ``first`` and ``last`` of a
    byte of K are those of a row tile's group of column tiles, and a byte of V has its own place in its word.

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
        mask = Signal(width)
        begins, complete = self._edges(m)
        in_order = column.value if self.config.cols % self.config.pe_depth else 1
        place = column.index if self.config.gathers else Mux(column.first, 0, count)
        m.d.comb += [
            position.eq(Mux(in_order, place, column.element)),
            mask.eq(Mux(begins, 0, word.mask) | (column.enabled << position)),
        ]
        m.d.sync += word.valid.eq(column.valid & complete & column.exists & mask.any())
        with m.If(column.valid):
            m.d.sync += [
                count.eq(position + 1),
                word.mask.eq(mask),
                word.value.eq(column.value),
                word.index.eq(column.index),
            ]
            with m.If(column.first if self.config.cols % self.config.pe_depth == 0 else 1):
                m.d.sync += word.address.eq(column.address)
            for byte in range(width):
                with m.If(column.enabled & (position == byte)):
                    m.d.sync += word.data[8 * byte : 8 * byte + 8].eq(column.byte)
        return m

    def _edges(self, m: Module) -> tuple[Value, Value]:
        """Whether a word begins with the column, and whether one leaves with it."""
        column = self.column
        if self.config.cols % self.config.pe_depth == 0:
            return column.first, column.last
        closed = Signal(init=1)
        complete = column.last | (~column.value & (column.element == self.config.pe_depth - 1))
        with m.If(column.valid):
            m.d.sync += closed.eq(complete)
        return column.first | closed, complete

"""The greatest score of every row tile, for softmax."""

import numpy as np
from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.commands import index_width
from hw.config import AcceleratorConfig


def score(config: AcceleratorConfig) -> data.StructLayout:
    """One score from the lane, or two where ``score_columns`` is 2. Scores that are not enabled only count for ``first`` and
    ``last``; the second is never without the first."""
    return data.StructLayout(
        {
            "valid": 1,
            "start": 1,
            "first": 1,
            "last": 1,
            "enabled": 1,
            "row_tile": index_width(config.row_tiles),
            "score": signed(8),
            "second_enabled": 1,
            "second": signed(8),
        }
    )


class RowMaximum(wiring.Component):
    """Running maximum over the enabled scores of a row tile, over column tiles until the next ``start``.

    Members:
        column: In, `score`; the maximum is kept after the tile's ``last`` and can be looked up `score_columns` cycles later.
        row_tile: In, row tile to look up.
        row_max: Out, signed 8, same cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "column": In(score(config)),
                "row_tile": In(index_width(config.row_tiles)),
                "row_max": Out(signed(8)),
            }
        )

    @staticmethod
    def model(scores: np.ndarray) -> np.ndarray:
        """Maximum over the last axis of int8 [..., keys]."""
        return np.max(scores, axis=-1)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = maxima = memory.Memory(
            shape=signed(8), depth=self.config.row_tiles, init=[], attrs={"ram_style": "distributed"}
        )
        kept, lookup, write = maxima.read_port(domain="comb"), maxima.read_port(domain="comb"), maxima.write_port()
        column = self.column
        if self.config.score_columns == 2:
            # A register between the two comparisons.
            column = Signal.like(self.column, name="greater", reset_less=True)
            valid = Signal()
            second = self.column.second_enabled & (self.column.second > self.column.score)
            m.d.sync += [column.eq(self.column), valid.eq(self.column.valid)]
            with m.If(second):
                m.d.sync += column.score.eq(self.column.second)
        else:
            valid = column.valid
        running = Signal(signed(8), reset_less=True)
        before, after = Signal(signed(8)), Signal(signed(8))
        m.d.comb += [
            kept.addr.eq(column.row_tile),
            before.eq(Mux(column.first, Mux(column.start, -128, kept.data), running)),
            after.eq(Mux(column.enabled & (column.score > before), column.score, before)),
            write.en.eq(valid & column.last),
            write.addr.eq(column.row_tile),
            write.data.eq(after),
            lookup.addr.eq(self.row_tile),
            self.row_max.eq(lookup.data),
        ]
        with m.If(valid):
            m.d.sync += running.eq(after)
        return m

"""The greatest score of every row tile, for softmax."""

import numpy as np
from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.tokens import index_width


def score(config: AcceleratorConfig) -> data.StructLayout:
    """One score from the lane; those that are not ``enabled`` only count for ``first`` and ``last``."""
    return data.StructLayout(
        {
            "valid": 1,
            "start": 1,
            "first": 1,
            "last": 1,
            "enabled": 1,
            "row_tile": index_width(config.row_tiles),
            "score": signed(8),
        }
    )


class RowMaximum(wiring.Component):
    """Running maximum over the enabled scores of a row tile, over column tiles until the next ``start``.

    Members:
        column: In, `score`; the maximum is kept after the tile's ``last`` and can be looked up the cycle after.
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
        running = Signal(signed(8), reset_less=True)
        before, after = Signal(signed(8)), Signal(signed(8))
        m.d.comb += [
            kept.addr.eq(self.column.row_tile),
            before.eq(Mux(self.column.first, Mux(self.column.start, -128, kept.data), running)),
            after.eq(Mux(self.column.enabled & (self.column.score > before), self.column.score, before)),
            write.en.eq(self.column.valid & self.column.last),
            write.addr.eq(self.column.row_tile),
            write.data.eq(after),
            lookup.addr.eq(self.row_tile),
            self.row_max.eq(lookup.data),
        ]
        with m.If(self.column.valid):
            m.d.sync += running.eq(after)
        return m

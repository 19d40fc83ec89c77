"""Sum and sum of squares of a row's residual elements."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.commands import index_width
from hw.config import AcceleratorConfig

SUM_WIDTH = 28
"""Bits of the signed sum of 4095 int16."""
SQUARE_SUM_WIDTH = 44
"""Bits of the sum of 4095 squares of int16."""


def statistics_update(config: AcceleratorConfig) -> data.StructLayout:
    """One residual element from the lane; columns that do not exist carry 0: only ``first`` and ``last`` count."""
    return data.StructLayout(
        {
            "valid": 1,
            "start": 1,
            "first": 1,
            "last": 1,
            "row_tile": index_width(config.row_tiles),
            "value": signed(numerics.RESIDUAL_WIDTH),
        }
    )


class RowMoments(wiring.Component):
    """Sums per row tile: they begin anew at ``first`` with ``start``, go on from the kept ones at ``first`` without,
    and are kept at ``last``. An update in cycle t can be looked up from cycle t + 2 on.

    Members:
        update: In, `statistics_update`.
        row_tile: In, row tile to look up.
        sum, square_sum: Out (signed 28, unsigned 44), same cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "update": In(statistics_update(config)),
                "row_tile": In(index_width(config.row_tiles)),
                "sum": Out(signed(SUM_WIDTH)),
                "square_sum": Out(SQUARE_SUM_WIDTH),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        shape = data.StructLayout({"sum": signed(SUM_WIDTH), "square_sum": SQUARE_SUM_WIDTH})
        m.submodules.memory = sums = memory.Memory(
            shape=shape, depth=self.config.row_tiles, init=[], attrs={"ram_style": "distributed"}
        )
        kept, lookup, write = sums.read_port(domain="comb"), sums.read_port(domain="comb"), sums.write_port()
        update = Signal.like(self.update)
        square = Signal(2 * numerics.RESIDUAL_WIDTH - 1, reset_less=True)
        m.d.sync += [update.eq(self.update), square.eq(self.update.value * self.update.value)]
        running, before, after = Signal(shape, reset_less=True), Signal(shape), Signal(shape)
        m.d.comb += [
            kept.addr.eq(update.row_tile),
            before.eq(Mux(update.first, Mux(update.start, 0, kept.data.as_value()), running.as_value())),
            after.sum.eq(before.sum + update.value),
            after.square_sum.eq(before.square_sum + square),
            write.en.eq(update.valid & update.last),
            write.addr.eq(update.row_tile),
            write.data.eq(after),
            lookup.addr.eq(self.row_tile),
            self.sum.eq(lookup.data.sum),
            self.square_sum.eq(lookup.data.square_sum),
        ]
        with m.If(update.valid):
            m.d.sync += running.eq(after)
        return m

"""The reciprocal of every row tile's exp sum."""

from amaranth import Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.commands import index_width
from hw.config import AcceleratorConfig
from hw.row.divider import EXPONENT_WIDTH, NormalizedDivider

ROW_SUM_WIDTH = 23
"""Bits of a row's exp sum: 65,535 keys of at most 127."""


def reciprocal_start(config: AcceleratorConfig) -> data.StructLayout:
    """Row sum to be inverted, from the feed."""
    return data.StructLayout(
        {
            "valid": 1,
            "sum": ROW_SUM_WIDTH,
            "row_tile": index_width(config.row_tiles),
            "multiplier": numerics.MULTIPLIER_WIDTH,
        }
    )


class Reciprocal(wiring.Component):
    """Divides ``multiplier`` by a row sum and keeps (quotient, exponent) per row tile.

    Started in cycle t, the result can be read from cycle t + `DIVIDE_LATENCY` + 1 on: the lane, which reads one cycle
    after its command, may get the command at t + `DIVIDE_LATENCY`. Starts are at least `DIVIDE_LATENCY` + 1 cycles apart.

    Members:
        start: In, `reciprocal_start`.
        row_tile: In, row tile to look up.
        quotient, exponent: Out (unsigned 17 and 5), same cycle.
    """

    model = staticmethod(numerics.normalized_divide)

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "start": In(reciprocal_start(config)),
                "row_tile": In(index_width(config.row_tiles)),
                "quotient": Out(numerics.QUOTIENT_WIDTH),
                "exponent": Out(EXPONENT_WIDTH),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.divider = divider = NormalizedDivider(ROW_SUM_WIDTH)
        shape = data.StructLayout({"quotient": numerics.QUOTIENT_WIDTH, "exponent": EXPONENT_WIDTH})
        m.submodules.memory = results = memory.Memory(
            shape=shape, depth=self.config.row_tiles, init=[], attrs={"ram_style": "distributed"}
        )
        write, read = results.write_port(), results.read_port(domain="comb")
        row_tile = Signal.like(self.start.row_tile, reset_less=True)
        with m.If(self.start.valid):
            m.d.sync += row_tile.eq(self.start.row_tile)
        m.d.comb += [
            divider.start.eq(self.start.valid),
            divider.multiplier.eq(self.start.multiplier),
            divider.divisor.eq(self.start.sum),
            write.en.eq(divider.done),
            write.addr.eq(row_tile),
            write.data.quotient.eq(divider.quotient),
            write.data.exponent.eq(divider.exponent),
            read.addr.eq(self.row_tile),
            self.quotient.eq(read.data.quotient),
            self.exponent.eq(read.data.exponent),
        ]
        return m

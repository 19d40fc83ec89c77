"""Ring of requantization parameters: one slot per column tile."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from hw import commands, signatures
from hw.config import AcceleratorConfig

READ_LATENCY = 2
"""Cycles from slot and column to parameters of a `ParameterRing`: memory and output register."""


class ParameterRing(wiring.Component):
    """``parameter_tiles`` slots of ``cols`` entries, block RAM; a written entry can be read from the next cycle.

    Members:
        write: `commands.parameter_write`.
        read: `signatures.parameter_read`, any time; ``reserved`` reads as 0.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "write": In(commands.parameter_write(config)),
                "read": In(signatures.parameter_read(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        m = Module()
        columns = 1 << commands.index_width(config.cols)  # rounded up, so that no multiplier is needed
        kept = commands.parameter_layout(config).size - 8
        m.submodules.memory = memory = Memory(shape=kept, depth=config.parameter_tiles * columns, init=[])
        write, read = memory.write_port(), memory.read_port()
        value = Signal(kept)
        m.d.comb += [
            write.addr.eq(Cat(self.write.column, self.write.slot)),
            write.data.eq(self.write.parameters.as_value()),
            write.en.eq(self.write.valid),
            read.addr.eq(Cat(self.read.column, self.read.slot)),
            self.read.parameters.as_value().eq(value),
        ]
        m.d.sync += value.eq(read.data)
        return m

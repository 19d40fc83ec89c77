"""Ring of requantization parameters: one slot per column tile."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw import commands
from hw.config import AcceleratorConfig

READ_LATENCY = 2
"""Cycles from `slot` and `column` to `parameters` of a `ParameterRing`: memory and output register."""


def parameter_write(config: AcceleratorConfig) -> data.StructLayout:
    """One output channel's parameters on their way into the ring."""
    return data.StructLayout(
        {
            "valid": 1,
            "slot": commands.index_width(config.parameter_tiles),
            "column": commands.index_width(config.cols),
            "parameters": commands.parameter_layout(config),
        }
    )


class ParameterRing(wiring.Component):
    """``parameter_tiles`` slots of ``cols`` entries, block RAM; a written entry can be read from the next cycle.

    Members:
        write: `parameter_write`.
        slot, column: what to read, any time.
        parameters: `commands.parameter_layout`, READ_LATENCY cycles later; ``reserved`` reads as 0.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "write": In(parameter_write(config)),
                "slot": In(commands.index_width(config.parameter_tiles)),
                "column": In(commands.index_width(config.cols)),
                "parameters": Out(commands.parameter_layout(config)),
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
            read.addr.eq(Cat(self.column, self.slot)),
            self.parameters.as_value().eq(value),
        ]
        m.d.sync += value.eq(read.data)
        return m

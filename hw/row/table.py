"""Lookup tables of 256 entries: exp for softmax, an activation for the MLP."""

import numpy as np
from amaranth import Cat, Module
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.config import TABLE_ENTRIES, TABLE_SLOTS


def exp_table(scale: float) -> np.ndarray:
    """Softmax table ``round(127 * exp(-d * scale))`` of the distance d = row maximum - score, 0 to 255.

    Args:
        scale: nats per unit of the score.

    Returns:
        uint8 [256], 0 to 127; entry 0 is 127.
    """
    peak = (1 << numerics.EXP_WIDTH) - 1
    return np.rint(peak * np.exp(-np.arange(TABLE_ENTRIES) * scale)).astype(np.uint8)


class Table(wiring.Component):
    """2 slots x 256 entries of ``width`` bits in distributed RAM, read combinationally; a write shows the next cycle.

    Args:
        width: bits of an entry.
        read_ports: reads per cycle.

    Members:
        write: In, entry ``index`` of ``slot`` becomes ``data`` when ``valid``.
        select: In, array of ``read_ports`` (slot, index).
        value: Out, array of ``read_ports`` entries, same cycle.
    """

    def __init__(self, width: int, read_ports: int):
        self.width = width
        self.read_ports = read_ports
        super().__init__(
            {
                "write": In(data.StructLayout({"valid": 1, "slot": 1, "index": 8, "data": width})),
                "select": In(data.StructLayout({"slot": 1, "index": 8})).array(read_ports),
                "value": Out(width).array(read_ports),
            }
        )

    @staticmethod
    def model(table: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Entries of a table [256] at ``index`` (any shape, 0 to 255); keeps the table's dtype."""
        return np.asarray(table)[index]

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = entries = memory.Memory(
            shape=self.width, depth=TABLE_SLOTS * TABLE_ENTRIES, init=[], attrs={"ram_style": "distributed"}
        )
        write = entries.write_port()
        m.d.comb += [
            write.en.eq(self.write.valid),
            write.addr.eq(Cat(self.write.index, self.write.slot)),
            write.data.eq(self.write.data),
        ]
        for select, value in zip(self.select, self.value, strict=True):
            read = entries.read_port(domain="comb")
            m.d.comb += [read.addr.eq(Cat(select.index, select.slot)), value.eq(read.data)]
        return m

"""AXI4-Lite slave with the registers and counters of `hw.isa`."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw import isa
from hw.config import AcceleratorConfig
from hw.control.jobs import error_report, settings

ADDRESS_WIDTH = 10
"""Bits of a register's byte address."""


def axi_lite_signature() -> wiring.Signature:
    """AXI4-Lite, 32 data bits, seen from the master."""
    address = data.StructLayout({"address": ADDRESS_WIDTH, "protection": 3})
    return wiring.Signature(
        {
            "write_address": Out(stream.Signature(address)),
            "write_data": Out(stream.Signature(data.StructLayout({"data": 32, "strobe": 4}))),
            "write_response": In(stream.Signature(2)),
            "read_address": Out(stream.Signature(address)),
            "read_data": In(stream.Signature(data.StructLayout({"data": 32, "response": 2}))),
        }
    )


class Registers(wiring.Component):
    """Registers and counters at the offsets of `isa.register_offset`; an unknown offset reads 0 and ignores writes.

    Members:
        bus: AXI4-Lite; one access at a time, responses are always OKAY.
        settings: the written values.
        start, soft_reset, clear_interrupt: one cycle high when the control register's bit is written.
        busy, done, error, images_done: what status reads.
        pending: the interrupt's cause; `interrupt` is it while enabled.
        counters: `isa.COUNTERS`, in order.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "bus": In(axi_lite_signature()),
                "settings": Out(settings(config)),
                "start": Out(1),
                "soft_reset": Out(1),
                "clear_interrupt": Out(1),
                "busy": In(1),
                "done": In(1),
                "error": In(error_report()),
                "images_done": In(32),
                "pending": In(1),
                "counters": In(data.ArrayLayout(32, len(isa.COUNTERS))),
                "interrupt": Out(1),
            }
        )

"""The host's side of AXI4-Lite for cocotb: one transfer at a time, waking only for its few cycles."""

import cocotb
from cocotb.triggers import FallingEdge

from hw.isa import register_offset

OKAY = 0


class RegisterHost:
    """Reads and writes the machine's registers through the ports ``s_axi_*`` of a top with an output or input ``clk``.

    It drives and looks at falling edges, half a cycle from the machine's, so nothing races.

    Args:
        dut: The top.
    """

    def __init__(self, dut) -> None:
        self.dut = dut
        for name in ("awvalid", "wvalid", "bready", "arvalid", "rready", "awaddr", "wdata", "wstrb", "araddr"):
            self._signal(name).value = 0

    def _signal(self, name: str):
        return getattr(self.dut, f"s_axi_{name}")

    async def _until(self, *ready: str) -> None:
        """Hold the valid signals of the channels until each was accepted."""
        waiting = set(ready)
        while waiting:
            accepted = {name for name in waiting if int(self._signal(name).value)}
            await FallingEdge(self.dut.clk)
            for name in accepted:
                self._signal(name.replace("ready", "valid")).value = 0
            waiting -= accepted
            # What was just driven settles before ready, which may depend on it, is looked at again.

    async def write(self, name: str, value: int) -> None:
        """Write a 32-bit register by its name in `hw.isa`."""
        self._signal("awaddr").value = register_offset(name)
        self._signal("wdata").value = value & 0xFFFFFFFF
        self._signal("wstrb").value = 15
        self._signal("awvalid").value = 1
        self._signal("wvalid").value = 1
        self._signal("bready").value = 1
        await self._settled()
        await self._until("awready", "wready")
        while not int(self._signal("bvalid").value):
            await FallingEdge(self.dut.clk)
        response = int(self._signal("bresp").value)
        await FallingEdge(self.dut.clk)
        self._signal("bready").value = 0
        assert response == OKAY, f"Write of {name} must be answered OKAY, not {response}"

    async def read(self, name: str) -> int:
        """Value of a 32-bit register or counter by its name in `hw.isa`."""
        self._signal("araddr").value = register_offset(name)
        self._signal("arvalid").value = 1
        self._signal("rready").value = 1
        await self._settled()
        await self._until("arready")
        while not int(self._signal("rvalid").value):
            await FallingEdge(self.dut.clk)
        value, response = int(self._signal("rdata").value), int(self._signal("rresp").value)
        await FallingEdge(self.dut.clk)
        self._signal("rready").value = 0
        assert response == OKAY, f"Read of {name} must be answered OKAY, not {response}"
        return value

    async def _settled(self) -> None:
        await cocotb.triggers.Timer(1, "step")

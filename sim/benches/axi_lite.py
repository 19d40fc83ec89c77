"""The host's side of AXI4-Lite for cocotb: one transfer at a time, waking only for its few cycles."""

from cocotb.triggers import FallingEdge, Timer

from hw.isa import register_offset

OKAY = 0


class RegisterHost:
    """Reads and writes the machine's registers through the ports ``s_axi_*`` of a top with an output or input ``clk``.

    It drives and looks at falling edges, half a cycle from the machine's, so nothing races, and takes every response at once.

    Args:
        dut: The top.
    """

    def __init__(self, dut) -> None:
        self._edge = FallingEdge(dut.clk)
        requests = ("awvalid", "awready", "awaddr", "wvalid", "wready", "wdata", "wstrb", "arvalid", "arready", "araddr")
        responses = ("bvalid", "bready", "bresp", "rvalid", "rready", "rdata", "rresp")
        self._signals = {name: getattr(dut, f"s_axi_{name}") for name in (*requests, *responses)}
        self._drive(awvalid=0, awaddr=0, wvalid=0, wdata=0, wstrb=15, arvalid=0, araddr=0, bready=1, rready=1)

    def _drive(self, **values: int) -> None:
        for name, value in values.items():
            self._signals[name].value = value

    def _get(self, name: str) -> int:
        return int(self._signals[name].value)

    async def _request(self, *channels: str) -> None:
        """Hold the valid signals of the channels until each was accepted."""
        waiting = set(channels)
        while waiting:
            accepted = {channel for channel in waiting if self._get(f"{channel}ready")}
            if accepted != waiting:  # ready may depend on what was just driven
                await Timer(1, "step")
                accepted = {channel for channel in waiting if self._get(f"{channel}ready")}
            await self._edge
            for channel in accepted:
                self._drive(**{f"{channel}valid": 0})
            waiting -= accepted

    async def _response(self, channel: str) -> int:
        """Code of the response once it comes."""
        while not self._get(f"{channel}valid"):
            await self._edge
        return self._get(f"{channel}resp")

    async def write(self, name: str, value: int) -> None:
        """Write a 32-bit register by its name in `hw.isa`."""
        self._drive(awaddr=register_offset(name), wdata=value & 0xFFFFFFFF, awvalid=1, wvalid=1)
        await self._request("aw", "w")
        response = await self._response("b")
        await self._edge
        assert response == OKAY, f"Write of {name} must be answered OKAY, not {response}"

    async def read(self, name: str) -> int:
        """Value of a 32-bit register or counter by its name in `hw.isa`."""
        self._drive(araddr=register_offset(name), arvalid=1)
        await self._request("ar")
        response, value = await self._response("r"), self._get("rdata")
        await self._edge
        assert response == OKAY, f"Read of {name} must be answered OKAY, not {response}"
        return value

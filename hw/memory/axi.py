"""AXI4 and AXI4-Lite signatures, seen from the master; a slave's member is ``In(...)``.

All bursts of the machine are INCR with full-width beats and stay within 4 KiB (AMBA AXI and ACE specification, IHI 0022H).
"""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

BURST_INCR = 1
"""``awburst`` and ``arburst`` of every burst."""
BOUNDARY = 4096
"""Bytes that a burst must not cross a multiple of."""


def _read_members(address_width: int, data_bytes: int) -> dict[str, object]:
    return {
        "arid": Out(1),
        "araddr": Out(address_width),
        "arlen": Out(8),
        "arsize": Out(3),
        "arburst": Out(2),
        "arvalid": Out(1),
        "arready": In(1),
        "rid": In(1),
        "rdata": In(8 * data_bytes),
        "rresp": In(2),
        "rlast": In(1),
        "rvalid": In(1),
        "rready": Out(1),
    }


def _write_members(address_width: int, data_bytes: int) -> dict[str, object]:
    return {
        "awid": Out(1),
        "awaddr": Out(address_width),
        "awlen": Out(8),
        "awsize": Out(3),
        "awburst": Out(2),
        "awvalid": Out(1),
        "awready": In(1),
        "wdata": Out(8 * data_bytes),
        "wstrb": Out(data_bytes),
        "wlast": Out(1),
        "wvalid": Out(1),
        "wready": In(1),
        "bid": In(1),
        "bresp": In(2),
        "bvalid": In(1),
        "bready": Out(1),
    }


class AXI4ReadSignature(wiring.Signature):
    """Read channels of an AXI4 master (AR, R), identifiers of one bit.

    Args:
        address_width: bits of an address.
        data_bytes: bytes of a beat, a power of two.
    """

    def __init__(self, address_width: int, data_bytes: int):
        super().__init__(_read_members(address_width, data_bytes))


class AXI4WriteSignature(wiring.Signature):
    """Write channels of an AXI4 master (AW, W, B), identifiers of one bit; arguments as `AXI4ReadSignature`."""

    def __init__(self, address_width: int, data_bytes: int):
        super().__init__(_write_members(address_width, data_bytes))


class AXI4Signature(wiring.Signature):
    """All five channels of an AXI4 master, identifiers of one bit; arguments as `AXI4ReadSignature`."""

    def __init__(self, address_width: int, data_bytes: int):
        super().__init__(_write_members(address_width, data_bytes) | _read_members(address_width, data_bytes))


class AXI4LiteSignature(wiring.Signature):
    """All five channels of an AXI4-Lite master with 32-bit data.

    Args:
        address_width: bits of an address.
    """

    def __init__(self, address_width: int = 12):
        super().__init__(
            {
                "awaddr": Out(address_width),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(32),
                "wstrb": Out(4),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(address_width),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(32),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )

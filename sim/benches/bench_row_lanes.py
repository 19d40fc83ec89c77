"""Cocotb bench of two forms of the row stack side by side, compared in the simulation itself."""

import os

import cocotb
from cocotb.triggers import RisingEdge


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def compare(dut) -> None:
    """No output differs in any cycle, and the outputs are alive."""
    await RisingEdge(dut.done)
    assert int(dut.differences.value) == 0, f"{int(dut.differences.value)} of the cycles differ"
    assert int(dut.changes.value) >= int(os.environ["PIVOT_LEAST_CHANGES"]), (
        f"outputs changed in {int(dut.changes.value)} cycles only"
    )

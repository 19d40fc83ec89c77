"""Cocotb bench of whole-network runs: writes registers, starts, sleeps until the interrupt, reads status and counters.

The environment names two JSON files: ``PIVOT_JOB`` with the runs to do, ``PIVOT_RESULT`` for what came of them
(`sim.rtl.device` writes the one and reads the other).
"""

import json
import os
import time
from pathlib import Path

import cocotb
from cocotb.triggers import FallingEdge, First, RisingEdge, Timer

from hw.isa import COUNTERS
from sim.benches.axi_lite import RegisterHost
from sim.rtl.fast_top import CLOCK_PERIOD_NS

CONTROL_START, CONTROL_RESET, CONTROL_CLEAR = 1, 2, 4
STATUS_BUSY, STATUS_ERROR = 1, 4
RESET_CYCLES = 4
ADDRESSES = ("program_base", "image_base", "result_base")


async def hard_reset(dut) -> None:
    """The machine as after power-up, but for its memories' content."""
    dut.rst.value = 1
    for _ in range(RESET_CYCLES):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    await FallingEdge(dut.clk)


def _windows(dut, registers: dict[str, int]) -> dict[str, int]:
    """Bases and sizes of what the registers give the machine."""
    sizes = {
        "program": registers["program_bytes"],
        "image": registers["image_stride"] * registers["image_count"],
        "result": registers["result_stride"] * registers["image_count"],
    }
    space = 1 << len(dut.guard_program_base)
    windows = {f"{name}_base": registers[f"{name}_base"] % space for name in sizes}
    return windows | {f"{name}_size": min(size, space) for name, size in sizes.items()}


async def write_registers(dut, host: RegisterHost, registers: dict[str, int]) -> None:
    """Tell the machine a batch, and the guard its windows."""
    for name, value in registers.items():
        await (host.write_address(name, value) if name in ADDRESSES else host.write(name, value))
    for name, value in _windows(dut, registers).items():
        getattr(dut, f"guard_{name}").value = value
    dut.guard_clear.value = 1
    await FallingEdge(dut.clk)
    dut.guard_clear.value = 0


async def run_batch(dut, host: RegisterHost, registers: dict[str, int], max_cycles: int) -> dict:
    """One batch: start, interrupt, status, counters."""
    await write_registers(dut, host, registers)
    await host.write("interrupt_enable", 1)
    await host.write("control", CONTROL_START)
    started = time.perf_counter()
    if not int(dut.interrupt.value):  # an error at start may be faster than the bus
        await First(RisingEdge(dut.interrupt), Timer(max_cycles * CLOCK_PERIOD_NS, "ns"))
    wall_s = time.perf_counter() - started
    await FallingEdge(dut.clk)
    assert int(dut.interrupt.value), f"Interrupt must come within {max_cycles} cycles"
    while (status := await host.read("status")) & STATUS_BUSY:  # after an error, until all that was asked for has come
        pass
    result: dict = {"status": status, "images_done": await host.read("images_done"), "wall_s": wall_s}
    result["counters"] = {name: await host.read(name) for name, _ in COUNTERS}
    if status & STATUS_ERROR:
        await host.write("control", CONTROL_RESET)
    await host.write("control", CONTROL_CLEAR)
    while int(dut.interrupt.value) or await host.read("status") & STATUS_BUSY:
        await FallingEdge(dut.clk)
    outside = int(dut.guard_outside_reads.value), int(dut.guard_outside_writes.value)
    assert not any(outside), f"{outside[0]} read bursts and {outside[1]} write bursts must not leave the batch's windows"
    return result


async def begin(dut) -> tuple[dict, RegisterHost]:
    """The job, and the host of the machine after a hard reset."""
    dut.dump.value = dut.guard_clear.value = dut.guard_read_fault.value = dut.guard_write_fault.value = 0
    host = RegisterHost(dut)
    await hard_reset(dut)
    return json.loads(Path(os.environ["PIVOT_JOB"]).read_text()), host


@cocotb.test()
async def run_programs(dut) -> None:
    """Do every run of the job in order, on one machine without a hard reset in between."""
    job, host = await begin(dut)
    results = [await run_batch(dut, host, registers, job["max_cycles"]) for registers in job["runs"]]
    dut.dump.value = 1
    await FallingEdge(dut.clk)
    Path(os.environ["PIVOT_RESULT"]).write_text(json.dumps(results))

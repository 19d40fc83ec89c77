"""Cocotb bench of whole-network runs: writes registers, starts, sleeps until the interrupt, reads status and counters.

The environment names two JSON files: ``PIVOT_JOB`` with the runs to do, ``PIVOT_RESULT`` for what came of them
(`sim.rtl.device` writes the one and reads the other).
"""

import json
import os
from dataclasses import asdict
from pathlib import Path

import cocotb
from cocotb.triggers import FallingEdge, First, RisingEdge, Timer

from hw.host import Status, run_batch
from sim.benches.axi_lite import RegisterHost
from sim.rtl.fast_top import CLOCK_PERIOD_NS

RESET_CYCLES = 4


async def hard_reset(dut) -> None:
    """The machine as after power-up, but for its memories' content."""
    dut.rst.value = 1
    for _ in range(RESET_CYCLES):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    await FallingEdge(dut.clk)


def _windows(dut, settings: dict[str, int]) -> dict[str, int]:
    """Bases and sizes of what the settings give the machine."""
    sizes = {
        "program": settings["program_bytes"],
        "image": settings["image_stride"] * settings["image_count"],
        "result": settings["result_stride"] * settings["image_count"],
    }
    space = 1 << len(dut.guard_program_base)
    windows = {f"{name}_base": settings[f"{name}_base"] % space for name in sizes}
    return windows | {f"{name}_size": min(size, space) for name, size in sizes.items()}


async def open_windows(dut, settings: dict[str, int]) -> None:
    """Tell the guard what the machine may touch from now on, and set its counts back."""
    for name, value in _windows(dut, settings).items():
        getattr(dut, f"guard_{name}").value = value
    dut.guard_clear.value = 1
    await FallingEdge(dut.clk)
    dut.guard_clear.value = 0


async def at_work(dut, host: RegisterHost) -> bool:
    """Whether the interrupt is raised or the machine busy."""
    return bool(int(dut.interrupt.value)) or Status.decode(await host.read("status")).busy


async def run_guarded(dut, host: RegisterHost, settings: dict[str, int], max_cycles: int) -> dict:
    """One batch, within its windows of memory."""

    async def interrupt() -> None:
        if not int(dut.interrupt.value):  # an error at start may be faster than the bus
            await First(RisingEdge(dut.interrupt), Timer(max_cycles * CLOCK_PERIOD_NS, "ns"))
        await FallingEdge(dut.clk)
        assert int(dut.interrupt.value), f"Interrupt must come within {max_cycles} cycles"

    await open_windows(dut, settings)
    report = await run_batch(host, settings, interrupt)
    while await at_work(dut, host):
        await FallingEdge(dut.clk)
    outside = int(dut.guard_outside_reads.value), int(dut.guard_outside_writes.value)
    assert not any(outside), f"{outside[0]} read bursts and {outside[1]} write bursts must not leave the batch's windows"
    return asdict(report)


async def begin(dut) -> tuple[dict, RegisterHost]:
    """The job, and the host of the machine after a hard reset."""
    dut.dump.value = dut.guard_clear.value = dut.guard_read_fault.value = dut.guard_write_fault.value = 0
    host = RegisterHost(dut)
    await hard_reset(dut)
    return json.loads(Path(os.environ["PIVOT_JOB"]).read_text(encoding="utf-8")), host


@cocotb.test()
async def run_programs(dut) -> None:
    """Do every run of the job in order, on one machine without a hard reset in between."""
    job, host = await begin(dut)
    results = [await run_guarded(dut, host, settings, job["max_cycles"]) for settings in job["runs"]]
    dut.dump.value = 1
    await FallingEdge(dut.clk)
    Path(os.environ["PIVOT_RESULT"]).write_text(json.dumps(results), encoding="utf-8")

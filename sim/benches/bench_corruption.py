"""Cocotb bench of corrupted Programs: run after run on one machine, each with its windows, its faults and a limit in cycles.

Nothing here fails because a machine misbehaves: what happened goes to the results, for `sim.stimulus.corruption` to judge. A
machine that cannot be recovered by a soft reset gets a hard one, so that the runs after it say something again.
The environment is that of `sim.benches.bench_program`; a run has ``registers``, ``limit`` (cycles until the interrupt),
``reset_after`` (cycles until a soft reset instead, or null), ``read_fault``, ``write_fault`` and ``trusted``: a correct
Program, whose counters are read and after which nothing is reset.
"""

import json
import os
from pathlib import Path

import cocotb
from cocotb.triggers import FallingEdge, First, RisingEdge, Timer
from cocotb.utils import get_sim_time

from hw.host import CLEAR_INTERRUPT, SOFT_RESET, START, read_counters, write_settings
from sim.benches.axi_lite import RegisterHost
from sim.benches.bench_program import at_work, begin, hard_reset, open_windows
from sim.rtl.fast_top import CLOCK_PERIOD_NS

REST_CYCLES = 8192
"""Most cycles from a soft reset to rest: what is in the pipelines, and all that was asked of the slowest memory; generous."""


async def _until_idle(dut, host: RegisterHost, limit: int) -> bool:
    """Whether busy and the interrupt fall within ``limit`` cycles."""
    end = get_sim_time("ns") + limit * CLOCK_PERIOD_NS
    while await at_work(dut, host):
        if get_sim_time("ns") > end:
            return False
        await FallingEdge(dut.clk)
    return True


async def run_case(dut, host: RegisterHost, run: dict) -> dict:
    """One run: what the machine reported, when, and whether it came to rest."""
    await write_settings(host, run["registers"])
    await open_windows(dut, run["registers"])
    dut.guard_read_fault.value, dut.guard_write_fault.value = run["read_fault"], run["write_fault"]
    started = get_sim_time("ns")
    await host.write("control", START)
    if run["reset_after"] is not None:
        await Timer(run["reset_after"] * CLOCK_PERIOD_NS, "ns")
        await FallingEdge(dut.clk)
    elif not int(dut.interrupt.value):
        await First(RisingEdge(dut.interrupt), Timer(run["limit"] * CLOCK_PERIOD_NS, "ns"))
        await FallingEdge(dut.clk)
    answer: dict = {
        "interrupt": int(dut.interrupt.value),
        "latency": round((get_sim_time("ns") - started) / CLOCK_PERIOD_NS),
        "status": await host.read("status"),
        "images_done": await host.read("images_done"),
    }
    if run["trusted"]:
        answer["counters"] = await read_counters(host)
    else:
        await host.write("control", SOFT_RESET)
    await host.write("control", CLEAR_INTERRUPT)
    answer["rest"] = await _until_idle(dut, host, REST_CYCLES)
    dut.guard_read_fault.value = dut.guard_write_fault.value = 0
    answer |= {name: int(getattr(dut, f"guard_{name}").value) for name in ("outside_reads", "outside_writes")}
    if not answer["rest"]:
        await hard_reset(dut)
    return answer


@cocotb.test()
async def run_corrupted(dut) -> None:
    """Do every run of the job in order."""
    job, host = await begin(dut)
    await host.write("interrupt_enable", 1)
    results = []
    for number, run in enumerate(job["runs"]):
        dut._log.info("run %d", number)  # what was at work, should the memory end the simulation
        results.append(await run_case(dut, host, run))
        if not results[-1]["rest"]:
            await host.write("interrupt_enable", 1)
    dut.dump.value = 1
    await FallingEdge(dut.clk)
    Path(os.environ["PIVOT_RESULT"]).write_text(json.dumps(results), encoding="utf-8")

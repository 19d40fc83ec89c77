"""Cocotb bench of the whole machine on cocotbext-axi: its masters and its slave meet random idles and back-pressure.

It takes the same job as `sim.benches.bench_program`, with the memory's content and its copy afterwards as files beside it, and
writes to a further one, ``seen.json``, the bytes that crossed each port in every run.
"""

import json
import logging
import os
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, First, ReadOnly, RisingEdge, Timer
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam, AxiRamRead, AxiReadBus

from hw.host import Report, run_batch
from hw.isa import register_offset

CLOCK_PERIOD_NS = 2
LONG_PAUSE_SHARE = 0.01
LONG_PAUSE_CYCLES = 60


def _pauses(rng: random.Random, share: float) -> Iterator[bool]:
    """Whether a channel pauses, cycle by cycle: ``share`` of the cycles, and now and then for long."""
    while True:
        if share and rng.random() < LONG_PAUSE_SHARE:
            yield from [True] * rng.randrange(LONG_PAUSE_CYCLES)
        yield rng.random() < share


class Machine:
    """The machine between an AXI4-Lite master and one memory behind all its AXI masters.

    Args:
        dut: The top ``axi_top``.
        memory: Content of the memory.
        idle: Share of the cycles in which each channel pauses.
        rng: Source of the pauses.
    """

    def __init__(self, dut, memory: bytes, idle: float, rng: random.Random) -> None:
        self.dut = dut
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)  # one line per transfer otherwise
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        system = AxiRam(AxiBus.from_prefix(dut, "m0_axi"), dut.clk, dut.rst, size=len(memory))
        system.write(0, memory)
        self.memory = system
        self.bytes = {"system_bytes_read": 0, "system_bytes_written": 0, "weight_bytes": 0}
        ports = [system]
        while hasattr(dut, f"m{len(ports)}_axi_arvalid"):
            bus = AxiReadBus.from_prefix(dut, f"m{len(ports)}_axi")
            ports.append(AxiRamRead(bus, dut.clk, dut.rst, size=len(memory), mem=system.mem))
        reads = [system.read_if, *ports[1:]]
        channels = [channel for port in reads for channel in (port.ar_channel, port.r_channel)]
        write, control = system.write_if, (self.host.write_if, self.host.read_if)
        channels += [write.aw_channel, write.w_channel, write.b_channel]
        channels += [control[0].aw_channel, control[0].w_channel, control[0].b_channel]
        channels += [control[1].ar_channel, control[1].r_channel]
        for channel in channels:
            channel.set_pause_generator(_pauses(random.Random(rng.random()), idle))
        cocotb.start_soon(self._count(len(ports)))

    async def _count(self, ports: int) -> None:
        """Count the bytes that cross the ports' data channels."""
        dut, beat = self.dut, len(self.dut.m0_axi_rdata) // 8
        watched = [("system_bytes_read" if port == 0 else "weight_bytes", f"m{port}_axi_r") for port in range(ports)]
        watched.append(("system_bytes_written", "m0_axi_w"))
        signals = [(name, getattr(dut, f"{wire}valid"), getattr(dut, f"{wire}ready")) for name, wire in watched]
        while True:
            await FallingEdge(dut.clk)
            await ReadOnly()
            for name, valid, ready in signals:
                self.bytes[name] += beat * (str(valid.value) == "1" and str(ready.value) == "1")

    async def write(self, name: str, value: int) -> None:
        """Write a register by name."""
        await self.host.write_dword(register_offset(name), value & 0xFFFFFFFF)

    async def read(self, name: str) -> int:
        """Value of a register or counter by name."""
        return await self.host.read_dword(register_offset(name))

    async def run(self, settings: dict[str, int], max_cycles: int) -> tuple[Report, dict[str, int]]:
        """One batch: what the machine reports, and the bytes seen."""

        async def interrupt() -> None:
            if not int(self.dut.interrupt.value):
                await First(RisingEdge(self.dut.interrupt), Timer(max_cycles * CLOCK_PERIOD_NS, "ns"))
            assert int(self.dut.interrupt.value), f"Interrupt must come within {max_cycles} cycles"

        before = dict(self.bytes)
        report = await run_batch(self, settings, interrupt)
        return report, {name: count - before[name] for name, count in self.bytes.items()}


@cocotb.test()
async def run_programs(dut) -> None:
    """Do every run of the job in order."""
    directory = Path(os.environ["PIVOT_JOB"]).parent
    job = json.loads(Path(os.environ["PIVOT_JOB"]).read_text(encoding="utf-8"))
    rng = random.Random(int(os.environ["PIVOT_SEED"]))
    content = (directory / "memory.bin").read_bytes()
    dut.rst.value = 1
    Clock(dut.clk, CLOCK_PERIOD_NS, "ns").start()
    machine = Machine(dut, content, float(os.environ["PIVOT_IDLE"]), rng)
    for _ in range(4):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    results = [await machine.run(settings, job["max_cycles"]) for settings in job["runs"]]
    (directory / "dump.bin").write_bytes(machine.memory.read(0, len(content)))
    Path(os.environ["PIVOT_RESULT"]).write_text(json.dumps([asdict(report) for report, _ in results]), encoding="utf-8")
    (directory / "seen.json").write_text(json.dumps([seen for _, seen in results]), encoding="utf-8")

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw import isa
from hw.config import AcceleratorConfig
from hw.control.counters import Counters
from hw.control.registers import IDENTITY, Registers
from hw.isa import Operation, register_offset
from tests.hw.simulation import cached, simulate

CONFIG = AcceleratorConfig(
    rows=2, cols=3, pe_depth=4, activation_words=64, residual_words=32, weight_words=11, kv_words=64,
    parameter_tiles=3, row_tiles=4, classes=10, address_width=40, weight_ports=3,
)  # fmt: skip


async def write(ctx, bus, offset, value, strobe=15, data_delay=0, address_delay=0, ready_delay=0):
    """One write with its channels shifted against each other."""
    sent = {"aw": False, "w": False}
    for now in range(40):
        for channel, delay in (("aw", address_delay), ("w", data_delay)):
            ctx.set(getattr(bus, f"{channel}valid"), now >= delay and not sent[channel])
        ctx.set(bus.awaddr, offset)
        ctx.set(bus.wdata, value)
        ctx.set(bus.wstrb, strobe)
        ctx.set(bus.bready, now >= ready_delay)
        for channel in sent:
            if ctx.get(getattr(bus, f"{channel}valid")) and ctx.get(getattr(bus, f"{channel}ready")):
                sent[channel] = True
        answered = ctx.get(bus.bvalid) and ctx.get(bus.bready)
        await ctx.tick()
        if answered:
            assert ctx.get(bus.bresp) == 0
            ctx.set(bus.bready, 0)
            return
    raise AssertionError("no write response")


async def read(ctx, bus, offset, ready_delay=0):
    """Value of one read."""
    sent = False
    for now in range(40):
        ctx.set(bus.arvalid, not sent)
        ctx.set(bus.araddr, offset)
        ctx.set(bus.rready, now >= ready_delay)
        if ctx.get(bus.arvalid) and ctx.get(bus.arready):
            sent = True
        value = ctx.get(bus.rdata)
        answered = ctx.get(bus.rvalid) and ctx.get(bus.rready)
        await ctx.tick()
        if answered:
            ctx.set(bus.rready, 0)
            return value
    raise AssertionError("no read data")


@pytest.mark.parametrize("delays", [(0, 0, 0), (3, 0, 0), (0, 3, 2), (1, 0, 5)])
def test_written_registers_read_back_and_reach_the_settings(delays):
    dut = cached(Registers, CONFIG)
    rng = np.random.default_rng(1)
    values = {name: int(rng.integers(1 << 32)) for name, access, _ in isa.REGISTERS if access == "rw"}

    async def testbench(ctx):
        for name, value in values.items():
            await write(ctx, dut.bus, register_offset(name), value, 15, *delays)
        for name, value in values.items():
            assert await read(ctx, dut.bus, register_offset(name), delays[2]) == value
        for name in ("program_base", "image_base", "result_base"):
            wide = values[f"{name}_low"] | values[f"{name}_high"] << 32
            assert ctx.get(dut.batch.settings[name]) == wide & ((1 << 40) - 1)
        for name in ("program_bytes", "image_count", "threshold", "deadline", "path_mask_high"):
            assert ctx.get(dut.batch.settings[name]) == values[name]
        await write(ctx, dut.bus, register_offset("threshold"), 0, 0b0100)
        assert await read(ctx, dut.bus, register_offset("threshold")) == values["threshold"] & 0xFF00FFFF

    simulate(dut, testbench)


def test_status_counters_and_unknown_offsets():
    dut = cached(Registers, CONFIG)

    async def testbench(ctx):
        assert await read(ctx, dut.bus, 0) == IDENTITY == 0x50495654
        assert await read(ctx, dut.bus, 4) == 1
        ctx.set(dut.batch.busy, 1)
        assert await read(ctx, dut.bus, register_offset("status")) == 1
        ctx.set(dut.batch.busy, 0)
        ctx.set(dut.batch.done, 1)
        ctx.set(dut.batch.error, {"code": 6, "index": 0x1234})
        assert await read(ctx, dut.bus, register_offset("status")) == 0x1234_0606
        ctx.set(dut.batch.images_done, 77)
        assert await read(ctx, dut.bus, register_offset("images_done")) == 77
        for number, (name, _) in enumerate(isa.COUNTERS):
            ctx.set(dut.counters[number], 1000 + number)
            assert await read(ctx, dut.bus, register_offset(name)) == 1000 + number
        assert await read(ctx, dut.bus, 0xFFC) == 0
        await write(ctx, dut.bus, 0xFFC, 5)
        await write(ctx, dut.bus, register_offset("status"), 5)
        assert await read(ctx, dut.bus, register_offset("status")) == 0x1234_0606

    simulate(dut, testbench)


def test_control_pulses_last_one_cycle_and_the_interrupt_is_masked():
    dut = cached(Registers, CONFIG)
    pulses = []

    async def watch(ctx):
        async for _, _, start, reset, clear in ctx.tick().sample(dut.batch.start, dut.batch.soft_reset, dut.batch.clear_interrupt):
            if start or reset or clear:
                pulses.append((start, reset, clear))

    async def testbench(ctx):
        for bit in range(3):
            await write(ctx, dut.bus, register_offset("control"), 1 << bit, ready_delay=7)
        await write(ctx, dut.bus, register_offset("control"), 7, strobe=0b1110)
        ctx.set(dut.batch.pending, 1)
        assert not ctx.get(dut.interrupt)
        await write(ctx, dut.bus, register_offset("interrupt_enable"), 1)
        assert ctx.get(dut.interrupt)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_process(watch)
    sim.add_testbench(testbench)
    sim.run_until(3e-6)
    assert pulses == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


def test_counters_count_what_happens_and_clear():
    dut = Counters(CONFIG)
    units = ("array", "attention_array", "norm", "gate", "tiles")
    members = [
        *((dut.issue, name) for name in units), (dut.fetch, "descriptors"), (dut.fetch, "descriptors_skipped"),
        (dut.batch, "exits_low"), (dut, "read_beat"), (dut, "written_beat"),
    ]  # fmt: skip
    rng = np.random.default_rng(3)
    expected = dict.fromkeys([name for name, _ in isa.COUNTERS], 0)

    async def testbench(ctx):
        for _ in range(200):
            busy, operation, beats = int(rng.integers(4) > 0), int(rng.integers(len(Operation))), int(rng.integers(4))
            events = {member: int(rng.integers(2)) for member in members}
            cause = ["weights", "parameters", "table", "drain", "load", "fetch"][int(rng.integers(6))]
            ctx.set(dut.batch.busy, busy)
            ctx.set(dut.issue.operation, operation)
            ctx.set(dut.weight_beats, beats)
            ctx.set(dut.issue.stall, {cause: 1})
            for (part, name), value in events.items():
                ctx.set(getattr(part, name), value)
            await ctx.tick()
            expected["cycles"] += busy
            expected[f"operation_{Operation(operation).name.lower()}"] += busy
            expected[f"stall_{cause}"] += busy
            expected["weight_bytes"] += 16 * beats
            expected["system_bytes_read"] += 16 * events[dut, "read_beat"]
            expected["system_bytes_written"] += 16 * events[dut, "written_beat"]
            for part, name in members[:-2]:
                expected[name if name in expected else f"{name}_cycles"] += events[part, name]
        values = dict(zip(expected, (ctx.get(dut.values[i]) for i in range(len(expected))), strict=True))
        assert values == expected
        ctx.set(dut.batch.clear, 1)
        await ctx.tick()
        assert not any(ctx.get(dut.values[i]) for i in range(len(expected)))

    simulate(dut, testbench)

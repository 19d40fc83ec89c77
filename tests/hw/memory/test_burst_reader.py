"""BurstReader and ReadArbiter against AXI memories with random waits."""

import random
from dataclasses import replace

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring

from hw.memory.burst_reader import BurstReader
from hw.memory.read_arbiter import ReadArbiter
from hw.presets import PRESETS
from tests.hw.memory.axi_memory import ReadMemory
from tests.hw.simulation import cached, simulate

NANO = PRESETS["nano"]


def random_commands(rng: random.Random, config, size: int, count: int) -> list[tuple[int, int]]:
    beats = size // config.axi_bytes
    commands = []
    for _ in range(count):
        length = rng.choice((1, 1, 2, rng.randint(1, 3 * config.burst_beats)))
        commands.append((rng.randint(0, beats - length) * config.axi_bytes, length))
    return commands


def command_process(reader, commands):
    async def process(ctx):
        for address, beats in commands:
            ctx.set(reader.command.payload.address, address)
            ctx.set(reader.command.payload.beats, beats)
            ctx.set(reader.command.valid, 1)
            await ctx.tick().until(reader.command.ready)
        ctx.set(reader.command.valid, 0)
        await ctx.tick()

    return process


async def collect(ctx, reader, config, commands, contents, rng, busy):
    """Takes the data of ``commands`` and compares it."""
    for _ in range(200 if busy else 0):  # everything that may be asked for now waits in the FIFO
        await ctx.tick()
    for address, beats in commands:
        for index in range(beats):
            while rng.random() < busy:
                ctx.set(reader.data.ready, 0)
                await ctx.tick()
            ctx.set(reader.data.ready, 1)
            (beat,) = await ctx.tick().sample(reader.data.payload).until(reader.data.valid)
            start = address + index * config.axi_bytes
            assert beat.data == int.from_bytes(contents[start : start + config.axi_bytes], "little")
            assert beat.last == (index == beats - 1)
    ctx.set(reader.data.ready, 0)


@pytest.mark.parametrize(
    "axi_bytes,burst_beats,outstanding",
    [(16, 16, 4), (8, 5, 1), (64, 64, 2), (32, 1, 3), (16, 2, 1), (16, 1, 2), (16, 1, 1)],
)
@pytest.mark.parametrize("busy", [0.0, 0.5])
def test_data_and_protocol(seed, axi_bytes, burst_beats, outstanding, busy):
    rng = random.Random(seed)
    config = replace(NANO, axi_bytes=axi_bytes, burst_beats=burst_beats, outstanding=outstanding)
    contents = rng.randbytes(3 * 4096)
    commands = random_commands(rng, config, len(contents), 25)
    reader = cached(BurstReader, config)
    memory = ReadMemory(config, reader.axi, contents, rng, busy=busy)

    async def testbench(ctx):
        await collect(ctx, reader, config, commands, contents, rng, busy)
        assert ctx.get(reader.idle)

    simulate(reader, testbench, memory.process, command_process(reader, commands))
    assert sum(beats for _, _, beats in memory.bursts) == sum(beats for _, beats in commands)
    assert memory.most_flying <= outstanding


def test_streams_a_beat_per_cycle():
    config = replace(NANO, outstanding=8)
    contents = bytes(8192)
    reader = cached(BurstReader, config)
    memory = ReadMemory(config, reader.axi, contents, random.Random(1), latency=20)
    commands = [(0, 100), (2048, 100), (4096, 100)]

    async def testbench(ctx):
        await collect(ctx, reader, config, commands, contents, random.Random(2), 0)

    simulate(reader, testbench, memory.process, command_process(reader, commands))
    assert memory.beat_cycles[-1] - memory.beat_cycles[0] == 299


def test_error_and_abort():
    config = replace(NANO, burst_beats=4, outstanding=2)
    contents = bytes(range(256)) * 16
    reader = cached(BurstReader, config)
    memory = ReadMemory(config, reader.axi, contents, random.Random(3), busy=0.3, latency=9, bad=[32])

    async def testbench(ctx):
        ctx.set(reader.command.payload.beats, 200)
        ctx.set(reader.command.valid, 1)
        await ctx.tick().until(reader.error)  # data is not taken, so the reader comes to rest with its FIFO full
        ctx.set(reader.abort, 1)
        await ctx.tick().until(reader.idle)
        bursts = len(memory.bursts)
        for _ in range(30):
            await ctx.tick()
            assert ctx.get(reader.idle) and not ctx.get(reader.data.valid)
        assert len(memory.bursts) == bursts and bursts <= 2

    simulate(reader, testbench, memory.process)


class ArbitratedReaders(Elaboratable):
    def __init__(self, config):
        self.arbiter, self.readers = ReadArbiter(config), [BurstReader(config), BurstReader(config)]

    def elaborate(self, platform):
        m = Module()
        m.submodules.arbiter = self.arbiter
        m.submodules.fetch, m.submodules.side = self.readers
        wiring.connect(m, self.readers[0].axi, self.arbiter.fetch)
        wiring.connect(m, self.readers[1].axi, self.arbiter.side)
        return m


@pytest.mark.parametrize("busy", [0.0, 0.4, 0.7])
def test_arbiter_routes_interleaved_data(seed, busy):
    rng = random.Random(seed)
    contents = rng.randbytes(8192)
    design = ArbitratedReaders(NANO)
    memory = ReadMemory(NANO, design.arbiter.axi, contents, rng, busy=busy)
    commands = [random_commands(rng, NANO, len(contents), 15) for _ in range(2)]
    finished = []

    def collector(index):
        async def process(ctx):
            await collect(ctx, design.readers[index], NANO, commands[index], contents, random.Random(seed + index), busy)
            finished.append(index)

        return process

    async def testbench(ctx):
        while len(finished) < 2:
            await ctx.tick()

    processes = [command_process(reader, commands[index]) for index, reader in enumerate(design.readers)]
    simulate(design, testbench, memory.process, *processes, collector(0), collector(1))
    for index in range(2):
        asked = sum(beats for identifier, _, beats in memory.bursts if identifier == index)
        assert asked == sum(beats for _, beats in commands[index])

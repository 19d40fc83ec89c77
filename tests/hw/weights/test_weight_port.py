"""JobExpander and WeightPort: every word in its place, never into words that are in use."""

import random
from collections import deque
from dataclasses import replace

import pytest

from hw.presets import PRESETS
from hw.weights.job_expander import JobExpander
from hw.weights.weight_port import WeightPort
from tests.hw.memory.axi_memory import ReadMemory
from tests.hw.simulation import cached, simulate

NANO = PRESETS["nano"]
SHAPES = [(4, 4, 1, 16), (3, 5, 1, 16), (7, 1, 2, 16), (5, 24, 2, 16), (1, 1, 1, 64), (9, 8, 3, 32), (2, 3, 1, 8)]


def shaped(cols, depth, ports, axi_bytes):
    return replace(NANO, cols=cols, pe_depth=depth, weight_ports=ports, axi_bytes=axi_bytes, weight_words=13)


@pytest.mark.parametrize("shape", SHAPES)
def test_expander(seed, shape):
    rng = random.Random(seed)
    config = shaped(*shape)
    expander = JobExpander(config)
    jobs = [(64 * rng.randrange(99), rng.randint(1, 13), rng.randint(1, 40)) for _ in range(20)]
    repeats = [rng.choice((1, 2, 5)) for _ in jobs]
    passes = [job for job, count in zip(jobs, repeats, strict=True) for _ in range(count)]
    expected = [(job, port) for job in passes for port in JobExpander.model(config, *job)]
    seen = []

    def watch(index):
        port = expander.ports[index]

        async def process(ctx):
            async for _, _, valid, ready, payload in ctx.tick().sample(port.valid, port.ready, port.payload):
                if valid and ready:
                    job, _ = expected[len(seen)]
                    assert (payload.k_words, payload.column_tiles) == job[1:]
                    assert len(seen) % config.weight_ports == index
                    seen.append((job, (payload.address, payload.beats, payload.last_bytes)))
                ctx.set(port.ready, rng.randrange(2))

        return process

    async def testbench(ctx):
        for (address, k_words, column_tiles), count in zip(jobs, repeats, strict=True):
            fields = dict(address=address, k_words=k_words, column_tiles=column_tiles, repeats=count)
            ctx.set(expander.job.payload, fields)
            ctx.set(expander.job.valid, 1)
            await ctx.tick().until(expander.job.ready)

    simulate(expander, testbench, *(watch(index) for index in range(config.weight_ports)))
    assert seen == expected


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("busy", [0.0, 0.4])
def test_words_and_credits(seed, shape, busy):
    rng = random.Random(seed)
    config = replace(shaped(*shape), outstanding=rng.randint(1, 4), burst_beats=rng.randint(1, 16))
    contents = rng.randbytes(1 << 15)
    port = cached(WeightPort, config)
    memory = ReadMemory(config, port.axi, contents, rng, busy=busy)
    word_bytes = config.columns_per_beat * config.pe_depth
    jobs, expected = [], deque()
    for _ in range(5):
        k_words, tiles, address = rng.randint(1, 13), rng.randint(1, 4), 64 * rng.randrange(8)
        ((_, beats, last_bytes), *_) = JobExpander.model(config, address, k_words, tiles)
        fields = dict(address=address, beats=beats, last_bytes=last_bytes, k_words=k_words, column_tiles=tiles)
        jobs.append(fields)
        for tile in range(tiles):
            for word in range(k_words):
                for group in range(config.groups_per_port):
                    start = address + ((tile * k_words + word) * config.groups_per_port + group) * word_bytes
                    final = word == k_words - 1 and group == config.groups_per_port - 1
                    expected.append((group, contents[start : start + word_bytes], k_words if final else 0))
    live: list[tuple[int, int]] = []  # (free at cycle, k_words) of tiles whose words are in use

    async def source(ctx):
        for fields in jobs:
            ctx.set(port.job.payload, fields)
            ctx.set(port.job.valid, 1)
            await ctx.tick().until(port.job.ready)
        ctx.set(port.job.valid, 0)
        await ctx.tick()

    async def testbench(ctx):
        address, used, cycle = 0, 0, 0
        while expected or live:
            _, _, valid, write, done = await ctx.tick().sample(port.write.valid, port.write, port.tile_done)
            cycle += 1
            ctx.set(port.release, 0)
            if live and live[0][0] <= cycle:
                words = live.pop(0)[1]
                used -= words
                ctx.set(port.release, words)
            if valid:
                group, word, final = expected.popleft()
                assert (write.group, write.address) == (group, address)
                assert write.data.to_bytes(word_bytes, "little") == word
                assert done == bool(final)
                address = (address + (group == config.groups_per_port - 1)) % config.weight_words
                used += group == 0
                assert used <= config.weight_words
                if final:
                    live.append((cycle + rng.choice((1, 80)), final))
        for _ in range(5):
            await ctx.tick()
        assert ctx.get(port.idle) and not ctx.get(port.busy)

    simulate(port, testbench, memory.process, source)


def test_streams_a_word_per_cycle():
    config = replace(NANO, outstanding=8)
    port = cached(WeightPort, config)
    memory = ReadMemory(config, port.axi, bytes(8192), random.Random(0), latency=20)
    cycles = []

    async def testbench(ctx):
        for cycle in range(400):
            ctx.set(port.job.payload, dict(address=0, beats=24, last_bytes=16, k_words=4, column_tiles=6))
            ctx.set(port.job.valid, 1)
            _, _, valid, done = await ctx.tick().sample(port.write.valid, port.tile_done)
            ctx.set(port.release, 4 * done)
            if valid:
                cycles.append(cycle)

    simulate(port, testbench, memory.process)
    assert len(cycles) == cycles[-1] - cycles[0] + 1

"""ResultWriter against its model, with random waits and failing bursts."""

import random
from dataclasses import replace

import numpy as np
import pytest

from hw.memory.result_writer import ResultWriter
from hw.presets import PRESETS
from tests.hw.memory.axi_memory import WriteMemory
from tests.hw.simulation import cached, simulate

NANO = PRESETS["nano"]


def random_head(rng: random.Random, classes: int) -> dict[str, int]:
    words = {name: rng.getrandbits(32) for name in ("entropy", "gate_entropy", "cycles")}
    return {"exit": rng.randrange(2), "top1": rng.randrange(classes), "classes": classes} | words


def logits_process(writer, logits):
    async def process(ctx):
        async for _, _, address in ctx.tick().sample(writer.logits.address):
            ctx.set(writer.logits.logit, int(logits[address]))

    return process


async def write(ctx, writer, address, head):
    ctx.set(writer.record.head, head | {"address": address})
    ctx.set(writer.record.start, 1)
    await ctx.tick()
    ctx.set(writer.record.start, 0)
    ctx.set(writer.record.head, {name: 0 for name in head} | {"address": 0})


@pytest.mark.parametrize("axi_bytes,burst_beats,classes", [(16, 16, 10), (8, 4, 37), (64, 3, 200), (32, 1, 9), (16, 256, 1024)])
@pytest.mark.parametrize("busy", [0.0, 0.5])
def test_record(seed, axi_bytes, burst_beats, classes, busy):
    rng = random.Random(seed)
    config = replace(NANO, axi_bytes=axi_bytes, burst_beats=burst_beats, classes=classes)
    writer = cached(ResultWriter, config)
    memory = WriteMemory(config, writer.axi, 3 * 4096, rng, busy=busy)
    logits = np.random.default_rng(seed).integers(-(1 << 23), 1 << 23, 1 << len(writer.logits.address))

    async def testbench(ctx):
        for count in (classes, max(1, classes // 3)):
            head = random_head(rng, count)
            expected = ResultWriter.model(config, head, logits[:count])
            address = 4096 - rng.choice((0, 1, 2)) * axi_bytes
            await write(ctx, writer, address, head)
            await ctx.tick().until(writer.record.done)
            assert ctx.get(writer.idle)
            assert memory.answered == len(memory.bursts)
            assert memory.contents[address : address + len(expected)] == expected
            assert memory.contents[address - axi_bytes : address] == b"\xee" * axi_bytes
            assert memory.contents[address + len(expected) :] == b"\xee" * (len(memory.contents) - address - len(expected))
            memory.contents[:] = b"\xee" * len(memory.contents)

    simulate(writer, testbench, memory.process, logits_process(writer, logits))


def test_error_is_reported_and_the_record_goes_on(seed):
    config = replace(NANO, burst_beats=2)
    writer = cached(ResultWriter, config)
    memory = WriteMemory(config, writer.axi, 4096, random.Random(seed), busy=0.3, bad=[32])
    errors = []

    async def watch(ctx):
        async for _, _, error in ctx.tick().sample(writer.error):
            errors.append(error)

    async def testbench(ctx):
        await write(ctx, writer, 0, {"classes": 10})
        await ctx.tick().until(writer.record.done)

    simulate(writer, testbench, memory.process, logits_process(writer, np.zeros(16)), watch)
    assert sum(errors) == 1
    assert memory.bursts == [(0, 2), (32, 2), (64, 1)]


@pytest.mark.parametrize("after", [0, 3, 11, 20])
def test_abort_ends_the_burst(seed, after):
    config = replace(NANO, burst_beats=2)
    writer = cached(ResultWriter, config)
    memory = WriteMemory(config, writer.axi, 4096, random.Random(seed), busy=0.3, latency=12)

    async def testbench(ctx):
        await write(ctx, writer, 0, {"classes": 16})
        for _ in range(after):
            await ctx.tick()
        ctx.set(writer.abort, 1)
        (done,) = await ctx.tick().sample(writer.record.done).until(writer.idle)
        assert not done
        assert memory.answered == len(memory.bursts) < 3
        for _ in range(20):
            await ctx.tick()
            assert ctx.get(writer.idle)

    simulate(writer, testbench, memory.process, logits_process(writer, np.zeros(16)))

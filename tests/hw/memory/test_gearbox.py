"""Gearbox against its model."""

import random

import numpy as np
import pytest

from hw.memory.gearbox import Gearbox
from tests.hw.simulation import cached, simulate


@pytest.mark.parametrize(
    "beat_units,word_units", [(16, (8, 1, 4, 8)), (16, (8, 1, 7, 14)), (8, (8, 1, 64, 128)), (1, (1,)), (4, (7,)), (32, (1, 6))]
)
@pytest.mark.parametrize("busy", [0.0, 0.5])
def test_runs(seed, beat_units, word_units, busy):
    rng = random.Random(seed)
    gearbox = cached(Gearbox, unit_width=8, beat_units=beat_units, word_units=word_units)
    beats, words = [], []
    for _ in range(25):
        size, final = rng.randrange(len(word_units)), rng.randrange(2)
        units, count = [], rng.randint(1, 8)
        for index in range(count):
            first = rng.choice((0, rng.randrange(beat_units)))
            valid = rng.choice((beat_units - first, rng.randint(1, beat_units - first)))
            payload = rng.randbytes(beat_units)
            units += payload[first : first + valid]
            last = index == count - 1
            beats.append(dict(data=int.from_bytes(payload, "little"), first=first, count=valid, size=size, last=last, final=final))
        expected = Gearbox.model(np.array(units, dtype=np.uint8), word_units[size])
        words += [(word.tobytes(), index == len(expected) - 1, final) for index, word in enumerate(expected)]

    async def source(ctx):
        for beat in beats:
            while rng.random() < busy:
                await ctx.tick()
            ctx.set(gearbox.beats.payload, beat)
            ctx.set(gearbox.beats.valid, 1)
            await ctx.tick().until(gearbox.beats.ready)
            ctx.set(gearbox.beats.valid, 0)

    async def testbench(ctx):
        drain = random.Random(seed + 1)
        for data, last, final in words:
            while drain.random() < busy:
                await ctx.tick()
            ctx.set(gearbox.words.ready, 1)
            (word,) = await ctx.tick().sample(gearbox.words.payload).until(gearbox.words.valid)
            ctx.set(gearbox.words.ready, 0)
            assert word.data.to_bytes(max(word_units), "little")[: len(data)] == data
            assert word.last == last and (not last or word.final == final)
        for _ in range(5):
            await ctx.tick()
            assert not ctx.get(gearbox.words.valid)

    simulate(gearbox, testbench, source)


@pytest.mark.parametrize("beat_units,size", [(16, 16), (16, 8), (16, 32)])
def test_rate(beat_units, size):
    """100 beats of one run pass without a gap on the busier side."""
    gearbox = cached(Gearbox, unit_width=8, beat_units=beat_units, word_units=(8, size))
    words = 100 * beat_units // size

    async def source(ctx):
        ctx.set(gearbox.beats.payload, dict(data=0, first=0, count=beat_units, size=1, last=0, final=0))
        ctx.set(gearbox.beats.valid, 1)
        for _ in range(100):
            await ctx.tick().until(gearbox.beats.ready)
        ctx.set(gearbox.beats.valid, 0)

    async def testbench(ctx):
        ctx.set(gearbox.words.ready, 1)
        cycles, seen = 0, 0
        while seen < words:
            _, _, valid = await ctx.tick().sample(gearbox.words.valid)
            cycles, seen = cycles + 1, seen + valid
        assert cycles <= max(100, words) + 4

    simulate(gearbox, testbench, source)

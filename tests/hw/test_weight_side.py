"""WeightSide: what comes out of the columns, in time, while the ports refill the rings as early as they may."""

import random
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from amaranth.lib import data

from hw.presets import PRESETS
from hw.timing import FEED_LATENCY
from hw.tokens import pair_weights
from hw.weights.job_expander import JobExpander
from hw.weights.weight_packing import pack_words_model
from hw.weights.weight_side import WeightSide
from tests.hw.axi_memory import ReadMemory, simulate

NANO = PRESETS["nano"]


def region(config, weights: np.ndarray) -> bytes:
    """Memory of a GEMM's weights [column tiles, k words, cols, depth] int8, all ports, each padded to a beat."""
    tiles, k_words, cols, depth = weights.shape
    per_beat, ports, groups = config.columns_per_beat, config.weight_ports, config.groups_per_port
    padded = np.zeros((tiles, k_words, groups * ports * per_beat, depth), dtype=np.int8)
    padded[:, :, :cols] = weights
    padded = padded.reshape(tiles, k_words, groups, ports, per_beat * depth)
    size = config.weight_port_bytes(k_words, tiles)
    return b"".join(padded[:, :, :, port].tobytes().ljust(size, b"\x55") for port in range(ports))


def expectations(side, config):
    """(schedule, checker process): ``schedule(cycle, word)`` expects int8 [cols, depth] for a token of that cycle."""
    due: dict[tuple[int, int], data.Const] = {}

    def schedule(cycle: int, word: np.ndarray) -> None:
        for pair in range(config.pairs):
            words = word[2 * pair : 2 * pair + 2].astype(np.int8)
            expected = pair_weights(config, len(words)).const(pack_words_model(words))
            due[cycle + FEED_LATENCY + pair, pair] = expected

    async def process(ctx):
        cycle = 0
        async for _, _, *words in ctx.tick().sample(*(side.weights[f"pair_{pair}"] for pair in range(config.pairs))):
            for pair, word in enumerate(words):
                expected = due.pop((cycle, pair), None)
                assert expected is None or word == expected, (cycle, pair)
            cycle += 1

    return schedule, process, due


@pytest.mark.parametrize(
    "cols,depth,ports,axi_bytes", [(4, 4, 1, 16), (5, 3, 2, 16), (1, 7, 1, 8), (7, 2, 3, 8), (3, 20, 2, 16), (8, 8, 3, 64)]
)
@pytest.mark.parametrize("busy", [0.0, 0.4])
def test_weights_arrive(seed, cols, depth, ports, axi_bytes, busy):
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    config = replace(NANO, cols=cols, depth=depth, weight_ports=ports, axi_bytes=axi_bytes, weight_words=11, queue_depth=2)
    side = WeightSide(config)
    shapes = [(rng.randint(1, 5), rng.randint(1, 11)) for _ in range(3)] + [(30, 1)]
    weights = [numbers.integers(-127, 128, (tiles, k_words, cols, depth)) for tiles, k_words in shapes]
    contents, jobs = b"", []
    for array in weights:
        jobs.append(dict(address=len(contents), k_words=array.shape[1], column_tiles=array.shape[0], repeats=1))
        contents += region(config, array)
    memories = [ReadMemory(config, axi, contents, random.Random(seed + n), busy=busy) for n, axi in enumerate(side.axi)]
    schedule, checker, due = expectations(side, config)
    beats = []

    async def source(ctx):
        for job in jobs:
            ctx.set(side.job.payload, job)
            ctx.set(side.job.valid, 1)
            await ctx.tick().until(side.job.ready)
        ctx.set(side.job.valid, 0)
        await ctx.tick()

    async def count(ctx):
        async for _, _, accepted in ctx.tick().sample(side.beats_accepted):
            beats.append(accepted)

    async def testbench(ctx):
        cycle, address = 0, 0
        for array in weights:
            for _ in range(100 if len(array) == 30 else 0):  # lets the ring fill up, so that a word is written once it is free
                await ctx.tick()
                cycle += 1
            for tile in array:
                while not ctx.get(side.tile_available):
                    await ctx.tick()
                    cycle += 1
                row_tiles = rng.randint(1, 3)
                for row_tile in range(row_tiles):
                    for index, word in enumerate(tile):
                        last = row_tile == row_tiles - 1 and index == len(tile) - 1
                        ctx.set(side.token, dict(valid=1, address=(address + index) % config.weight_words))
                        ctx.set(side.tile_take, int(row_tile == 0 and index == 0))
                        ctx.set(side.release, int(last))
                        ctx.set(side.release_words, len(tile))
                        schedule(cycle, word)
                        await ctx.tick()
                        cycle += 1
                        ctx.set(side.tile_take, 0)
                        ctx.set(side.release, 0)
                        ctx.set(side.token, dict(valid=0))
                address = (address + len(tile)) % config.weight_words
        for _ in range(FEED_LATENCY + config.pairs + 9):
            await ctx.tick()
        assert not due and not ctx.get(side.tile_available) and not ctx.get(side.busy) and ctx.get(side.idle)

    simulate(side, testbench, source, count, checker, *(memory.process for memory in memories))
    models = [JobExpander.model(config, job["address"], job["k_words"], job["column_tiles"]) for job in jobs]
    assert sum(beats) == sum(port[1] for ports in models for port in ports)


@pytest.mark.parametrize("cols,depth", [(4, 4), (3, 8), (9, 2), (1, 1)])
def test_keys_and_values(seed, cols, depth):
    rng = random.Random(seed)
    config = replace(NANO, cols=cols, depth=depth, kv_words=4 * cols + 16)
    side = WeightSide(config)
    buffer = np.zeros((config.kv_words, cols, depth), dtype=np.uint8)
    schedule, checker, _ = expectations(side, config)

    async def testbench(ctx):
        reads = deque(maxlen=config.pairs + 3)  # words that a pair may still have to read must not be written
        for cycle in range(400):
            value, data = rng.randrange(2), rng.randbytes(max(cols, depth))
            mask = rng.getrandbits(cols if value else depth)
            index, address = rng.randrange(depth if value else cols), rng.randrange(config.kv_words)
            valid = int(address not in reads)
            word = dict(valid=valid, value=value, index=index, address=address, mask=mask, data=int.from_bytes(data, "little"))
            ctx.set(side.collected, word)
            read = rng.choice([word for word in range(config.kv_words) if word != address])
            reads.append(read)
            ctx.set(side.token, dict(valid=1, kv=1, address=read))
            schedule(cycle, buffer[read])
            await ctx.tick()
            for lane in range(max(cols, depth) if valid else 0):
                if mask >> lane & 1 and value:
                    buffer[address, lane, index] = data[lane]
                elif mask >> lane & 1:
                    buffer[address, index, lane] = data[lane]

    simulate(side, testbench, checker)
    assert buffer.any(axis=(1, 2)).sum() > config.kv_words // 2


def test_errors_of_any_port_and_abort(seed):
    config = replace(NANO, cols=8, weight_ports=2)
    side = WeightSide(config)
    memories = [
        ReadMemory(config, axi, bytes(1 << 14), random.Random(seed), busy=0.2, latency=15, bad=[4096 + 64] if number else [])
        for number, axi in enumerate(side.axi)
    ]

    async def testbench(ctx):
        ctx.set(side.job.payload, dict(address=0, k_words=64, column_tiles=4, repeats=1))
        ctx.set(side.job.valid, 1)
        await ctx.tick().until(side.error)
        ctx.set(side.abort, 1)
        await ctx.tick().until(side.idle)
        bursts = [len(memory.bursts) for memory in memories]
        for _ in range(60):
            await ctx.tick()
        assert ctx.get(side.idle) and bursts == [len(memory.bursts) for memory in memories]

    simulate(side, testbench, *(memory.process for memory in memories))

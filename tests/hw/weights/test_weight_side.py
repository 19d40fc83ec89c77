"""WeightSide: what comes out of the columns, in time, while the ports refill the rings as early as they may."""

import random
from collections import defaultdict, deque
from dataclasses import replace

import numpy as np
import pytest

from hw.presets import PRESETS
from hw.row.element_skew import element_delays
from hw.timing import FEED_LATENCY
from hw.weights.job_expander import JobExpander
from hw.weights.weight_side import WeightSide
from tests.hw.memory.axi_memory import ReadMemory
from tests.hw.simulation import cached, simulate

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


def expectations(side, config, *, dsp48=False):
    """(schedule, checker process): ``schedule(cycle, word)`` expects int8 [cols, depth] for a command of that cycle."""
    due: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    delays = element_delays(config, dsp48=dsp48)

    def schedule(cycle: int, word: np.ndarray) -> None:
        for (column, element), value in np.ndenumerate(word.astype(np.uint8)):
            due[cycle + FEED_LATENCY + column // 2 + delays[element]].append((column, element, int(value)))

    async def process(ctx):
        cycle = 0
        async for _, _, *words in ctx.tick().sample(*(word.as_value() for word in side.columns.weights)):
            for column, element, value in due.pop(cycle, ()):
                assert words[column] >> (8 * element) & 255 == value, (cycle, column, element)
            cycle += 1

    return schedule, process, due


@pytest.mark.parametrize(
    "cols,depth,ports,axi_bytes,dsp48",
    [
        (4, 4, 1, 16, False),
        (5, 3, 2, 16, True),
        (1, 7, 1, 8, False),
        (7, 2, 3, 8, True),
        (3, 20, 2, 16, True),
        (4, 8, 3, 32, False),
    ],
)
@pytest.mark.parametrize("busy", [0.0, 0.4])
def test_weights_arrive(seed, cols, depth, ports, axi_bytes, dsp48, busy):
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    config = replace(NANO, cols=cols, pe_depth=depth, weight_ports=ports, axi_bytes=axi_bytes, weight_words=11, queue_depth=2)
    side = cached(WeightSide, config, dsp48=dsp48)
    shapes = [(rng.randint(1, 5), rng.randint(1, 11)) for _ in range(3)] + [(30, 1)]
    weights = [numbers.integers(-127, 128, (tiles, k_words, cols, depth)) for tiles, k_words in shapes]
    contents, jobs = b"", []
    for array in weights:
        jobs.append(dict(address=len(contents), k_words=array.shape[1], column_tiles=array.shape[0], repeats=1))
        contents += region(config, array)
    memories = [ReadMemory(config, axi, contents, random.Random(seed + n), busy=busy) for n, axi in enumerate(side.axi)]
    schedule, checker, due = expectations(side, config, dsp48=dsp48)
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
                while not ctx.get(side.credits.available):
                    await ctx.tick()
                    cycle += 1
                row_tiles = rng.randint(1, 3)
                for row_tile in range(row_tiles):
                    for index, word in enumerate(tile):
                        last = row_tile == row_tiles - 1 and index == len(tile) - 1
                        ctx.set(side.command, dict(valid=1, address=(address + index) % config.weight_words))
                        ctx.set(side.credits.take, int(row_tile == 0 and index == 0))
                        ctx.set(side.credits.release, int(last))
                        ctx.set(side.credits.release_words, len(tile))
                        schedule(cycle, word)
                        await ctx.tick()
                        cycle += 1
                        ctx.set(side.credits.take, 0)
                        ctx.set(side.credits.release, 0)
                        ctx.set(side.command, dict(valid=0))
                address = (address + len(tile)) % config.weight_words
        for _ in range(FEED_LATENCY + config.pairs + 20):
            await ctx.tick()
        assert not due and not ctx.get(side.credits.available) and not ctx.get(side.busy) and ctx.get(side.idle)

    simulate(side, testbench, source, count, checker, *(memory.process for memory in memories))
    models = [JobExpander.model(config, job["address"], job["k_words"], job["column_tiles"]) for job in jobs]
    assert sum(beats) == sum(port[1] for ports in models for port in ports)


@pytest.mark.parametrize("cols,depth", [(4, 4), (3, 8), (9, 2), (1, 1), (6, 2), (8, 4)])
def test_keys_and_values(seed, cols, depth):
    """Slots at random; a K slot's words are written one a cycle, and until then no other slot comes."""
    rng = random.Random(seed)
    config = replace(NANO, cols=cols, pe_depth=depth, kv_words=4 * cols + 16)
    words = config.key_slot_words
    side = cached(WeightSide, config)
    buffer = np.zeros((config.kv_words, cols, depth), dtype=np.uint8)
    schedule, checker, _ = expectations(side, config)
    bits = max(cols, depth)

    async def testbench(ctx):
        reads = deque(maxlen=config.pairs + 3)  # words that a pair may still have to read must not be written
        writes: list[tuple[dict, bytes, int]] = []  # slots being written: fields, bytes, word
        for cycle in range(500):
            value, data = rng.randrange(2), rng.randbytes(bits)
            mask = rng.getrandbits(cols if value else words * depth)
            index, address = rng.randrange(depth if value else cols), rng.randrange(config.kv_words - words)
            written = range(address, address + (1 if value else words))
            valid = int(not writes and not set(written) & set(reads))
            word = dict(valid=valid, value=value, index=index, address=address, mask=mask, data=int.from_bytes(data, "little"))
            ctx.set(side.columns.collected, word)
            if valid:
                writes.append((word, data, 0))
            busy = {slot["address"] + place for slot, _, _ in writes for place in range(words)}
            read = rng.choice([word for word in range(config.kv_words) if word not in busy])
            reads.append(read)
            ctx.set(side.command, dict(valid=1, kv=1, address=read))
            schedule(cycle, buffer[read])
            await ctx.tick()
            for slot, content, place in [writes.pop()] if writes else []:
                if slot["value"]:
                    lanes = [lane for lane in range(cols) if slot["mask"] >> lane & 1]
                    buffer[slot["address"], lanes, slot["index"]] = [content[lane] for lane in lanes]
                    continue
                for element in range(depth):
                    if slot["mask"] >> (place * depth + element) & 1:
                        buffer[slot["address"] + place, slot["index"], element] = content[place * depth + element]
                if place + 1 < words:
                    writes.append((slot, content, place + 1))

    simulate(side, testbench, checker)
    assert buffer.any(axis=(1, 2)).sum() > config.kv_words // 2


def test_errors_of_any_port_and_abort(seed):
    config = replace(NANO, cols=8, weight_ports=2)
    side = cached(WeightSide, config)
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

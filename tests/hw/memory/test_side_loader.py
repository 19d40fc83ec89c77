"""SideLoader: parameters, tables and rows against what the memory holds."""

import random
from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module

from hw import commands
from hw.isa import Target
from hw.memory.jobs import JobKind
from hw.memory.side_loader import SideLoader
from hw.presets import PRESETS
from hw.weights.parameter_ring import READ_LATENCY, ParameterRing
from tests.hw.memory.axi_memory import ReadMemory
from tests.hw.simulation import cached, simulate

CONFIG = replace(PRESETS["nano"], rows=3, cols=3, pe_depth=5, parameter_tiles=4, address_width=20)


class Loaded(Elaboratable):
    """The loader with its ring."""

    def __init__(self, config):
        self.loader, self.ring = SideLoader(config), ParameterRing(config)

    def elaborate(self, platform):
        m = Module()
        m.submodules.loader, m.submodules.ring = self.loader, self.ring
        m.d.comb += self.ring.write.eq(self.loader.parameter_write)
        return m


def job_process(loader, jobs):
    async def process(ctx):
        for job in jobs:
            ctx.set(loader.job.payload, job)
            ctx.set(loader.job.valid, 1)
            await ctx.tick().until(loader.job.ready)
        ctx.set(loader.job.valid, 0)
        await ctx.tick()

    return process


def recorder(log, *signals):
    """Appends (cycle, value) of every structure whose `valid` is set, or pulse."""

    async def process(ctx):
        cycle = 0
        async for _, _, *values in ctx.tick().sample(*signals):
            cycle += 1
            for index, value in enumerate(values):
                if value if isinstance(value, int) else value.valid:
                    log.append((cycle, index, value))

    return process


def rows_model(config, contents: bytes, job: dict) -> list[tuple[int, int, int]]:
    """(row, word address, word) of a ROWS job in order, token by token."""
    rows, mask = job["rows"], (1 << commands.bank_address_width(config)) - 1
    size = config.pe_depth * (2 if rows["target"] == Target.RESIDUAL else 1)
    words, row, tile = [], rows["first_row"], rows["first_row_tile"]
    for outer in range(rows["tokens_outer"]):
        for inner in range(rows["tokens_inner"]):
            start = job["address"] + outer * rows["outer_stride"] + inner * rows["inner_stride"]
            starts = [start + index * rows["segment_stride"] for index in range(rows["segments"])]
            token = b"".join(contents[start : start + rows["segment_bytes"]] for start in starts)
            for index, position in enumerate(range(0, len(token), size)):
                address = (rows["base"] + tile * rows["stride"] + index) & mask
                words.append((row, address, int.from_bytes(token[position : position + size], "little")))
            row, tile = (0, tile + 1) if row == config.rows - 1 else (row + 1, tile)
    return contiguous_order(words, rows) if job["contiguous"] else words


def contiguous_order(words: list, rows: dict) -> list:
    """The same words run by run: all tokens' first segments, then their second ones, and so on."""
    inner, segments, length = rows["tokens_inner"], rows["segments"], rows["segment_words"]
    index = np.arange(len(words)).reshape(rows["tokens_outer"], inner, segments, length)
    return [words[i] for i in index.swapaxes(1, 2).reshape(-1)]


def random_rows(rng: random.Random, config, size: int) -> dict:
    """A ROWS job anywhere in ``size`` bytes, every other one contiguous."""
    contiguous = rng.randrange(2)
    rows = dict(
        base=rng.randrange(9), stride=rng.randint(1, 9), first_row=rng.randrange(config.rows), first_row_tile=rng.randrange(3),
        target=rng.choice((Target.ACTIVATION, Target.RESIDUAL)), segment_bytes=rng.choice((1, 3, 4, 16, rng.randint(1, 60))),
        segments=rng.randint(1, 4), tokens_inner=rng.randint(1, 3), tokens_outer=rng.randint(1, 3),
        segment_stride=rng.randrange(90), inner_stride=rng.randrange(90), outer_stride=rng.randrange(90),
    )  # fmt: skip
    if contiguous:
        rows["segment_words"] = words = rng.randint(1, 8)
        rows["segment_bytes"] = words * config.pe_depth * (2 if rows["target"] == Target.RESIDUAL else 1)
        rows["inner_stride"], rows["tokens_inner"] = rows["segment_bytes"], rng.randint(1, 9)
    span = rows["segment_bytes"]
    for loop, stride in (("segments", "segment_stride"), ("tokens_inner", "inner_stride"), ("tokens_outer", "outer_stride")):
        span += (rows[loop] - 1) * rows[stride]
    address = rng.randrange(size - span - 64)
    return dict(kind=JobKind.ROWS, address=address, limit=address + span, contiguous=contiguous, rows=rows)


@pytest.mark.parametrize("axi_bytes", [8, 16, 64])
@pytest.mark.parametrize("busy", [0.0, 0.4])
def test_rows(seed, axi_bytes, busy):
    rng = random.Random(seed)
    config = replace(CONFIG, axi_bytes=axi_bytes, pe_depth=rng.choice((1, 5, 8)))
    contents = rng.randbytes(8192)
    loader = cached(SideLoader, config)
    memory = ReadMemory(config, loader.axi, contents, rng, busy=busy)
    jobs = [random_rows(rng, config, len(contents)) for _ in range(4)]
    log = []

    async def testbench(ctx):
        for job in jobs:
            log.clear()
            for _ in range(rng.choice((0, 10, 100))):
                await ctx.tick()
            assert not log, "nothing may be written before rows_go"
            ctx.set(loader.load_rows.go, 1)
            await ctx.tick()
            ctx.set(loader.load_rows.go, 0)
            await ctx.tick().until(loader.load_rows.done)
            expected = rows_model(config, contents, job)
            width = 8 * config.pe_depth * (2 if job["rows"]["target"] == Target.RESIDUAL else 1)
            words = [value for _, index, value in log if index == 0]
            assert [(word.rows_left, word.address, word.data & ((1 << width) - 1)) for word in words] == expected
            assert all(word.target == job["rows"]["target"] for word in words)
            cycles = [cycle for cycle, _, _ in log]
            assert cycles[-1] - cycles[-2 if len(cycles) > 1 else -1] in (0, config.rows + 4)
        assert not ctx.get(loader.busy) and ctx.get(loader.idle)

    processes = (memory.process, job_process(loader, jobs), recorder(log, loader.row_writes.load, loader.load_rows.done))
    simulate(loader, testbench, *processes, cycles=60000)


def test_reading_runs_ahead_of_rows_go():
    """As far as there is space; then one word per cycle."""
    config = replace(CONFIG, axi_bytes=16, pe_depth=8, burst_beats=16, outstanding=4)
    loader = cached(SideLoader, config)
    memory = ReadMemory(config, loader.axi, bytes(1 << 15), random.Random(0), latency=30)
    jobs = [contiguous_job(14, 48, 1, Target.ACTIVATION), contiguous_job(20, 160, 1, Target.RESIDUAL)]
    log = []

    async def testbench(ctx):
        for words in (14 * 6, 20 * 10):
            for _ in range(200):
                await ctx.tick()
            ahead = len(memory.beat_cycles)
            log.clear()
            ctx.set(loader.load_rows.go, 1)
            await ctx.tick()
            ctx.set(loader.load_rows.go, 0)
            await ctx.tick().until(loader.load_rows.done)
            cycles = [cycle for cycle, index, _ in log if index == 0]
            assert len(cycles) == words and cycles[63] - cycles[0] == 63
        assert ahead >= 42 + 64  # the first job's beats and a full FIFO of the second one's

    simulate(
        loader, testbench, memory.process, job_process(loader, jobs), recorder(log, loader.row_writes.load, loader.load_rows.done)
    )


def contiguous_job(tokens: int, segment_bytes: int, segments: int, target: Target, runs: int = 1) -> dict:
    """Tokens without a gap between them, a multiple of depth 8 long, from address 0 on."""
    rows = dict(
        target=target, segment_bytes=segment_bytes, segments=segments, tokens_inner=tokens, tokens_outer=runs,
        segment_stride=tokens * segment_bytes, inner_stride=segment_bytes, outer_stride=tokens * segment_bytes * segments,
        segment_words=segment_bytes // (16 if target == Target.RESIDUAL else 8), stride=9,
    )  # fmt: skip
    return dict(kind=JobKind.ROWS, address=0, limit=1 << 20, contiguous=1, rows=rows)


@pytest.mark.parametrize(
    ("job", "beats"),
    [(contiguous_job(14, 48, 6, Target.ACTIVATION, runs=2), 504), (contiguous_job(30, 384, 1, Target.RESIDUAL), 720)],
)
def test_contiguous_rows_are_as_fast_as_their_words(job, beats):
    """Patch rows 8 bytes per cycle, position embeddings a beat per cycle, where bursts in flight cover the latency."""
    config = replace(CONFIG, axi_bytes=16, pe_depth=8, burst_beats=16, outstanding=8)
    loader = cached(SideLoader, config)
    memory = ReadMemory(config, loader.axi, bytes(1 << 16), random.Random(0), latency=90)
    log = []

    async def testbench(ctx):
        ctx.set(loader.load_rows.go, 1)
        await ctx.tick()
        ctx.set(loader.load_rows.go, 0)
        await ctx.tick().until(loader.load_rows.done)

    simulate(loader, testbench, memory.process, job_process(loader, [job]), recorder(log, loader.row_writes.load))
    assert len(memory.beat_cycles) == beats
    assert log[-1][0] - log[0][0] <= 1.01 * len(log)


@pytest.mark.parametrize("contiguous", [0, 1])
@pytest.mark.parametrize("below", [1, 40])
def test_rows_beyond_the_limit_are_not_read(seed, below, contiguous):
    rng = random.Random(seed)
    contents = rng.randbytes(4096)
    loader = cached(SideLoader, CONFIG)
    memory = ReadMemory(CONFIG, loader.axi, contents, rng, busy=0.2)
    if contiguous:
        rows = dict(segment_bytes=50, segment_words=10, segments=2, segment_stride=200, tokens_inner=3, inner_stride=50)
        end = 200 + 3 * 50
    else:
        rows = dict(segment_bytes=32, segments=4, segment_stride=100, tokens_inner=2, inner_stride=400)
        end = 400 + 300 + 32
    limit = 160 + end - below
    job = dict(kind=JobKind.ROWS, address=160, limit=limit, contiguous=contiguous, rows=rows | dict(tokens_outer=1, stride=9))
    log = []

    async def testbench(ctx):
        for _ in range(100):
            await ctx.tick()
        assert not log, "an error may only be told when it is the job's turn"
        ctx.set(loader.load_rows.go, 1)
        await ctx.tick()
        ctx.set(loader.load_rows.go, 0)
        await ctx.tick().until(loader.address_error)
        for _ in range(200):
            await ctx.tick()
        assert ctx.get(loader.idle)
        assert [index for _, index, _ in log] == [1]
        assert all(address < limit for _, address, _ in memory.bursts) and memory.bursts

    processes = (memory.process, job_process(loader, [job]), recorder(log, loader.load_rows.done, loader.address_error))
    simulate(loader, testbench, *processes)


def test_addresses_do_not_wrap():
    """The greatest strides lead beyond any limit, not back into memory."""
    loader = cached(SideLoader, CONFIG)
    memory = ReadMemory(CONFIG, loader.axi, bytes(4096), random.Random(0))
    rows = dict(segment_bytes=8, segments=2, segment_stride=(1 << 32) - 64, tokens_inner=1, tokens_outer=1)
    job = dict(kind=JobKind.ROWS, address=256, limit=1 << CONFIG.address_width, rows=rows)

    async def testbench(ctx):
        ctx.set(loader.load_rows.go, 1)
        await ctx.tick()
        ctx.set(loader.load_rows.go, 0)
        await ctx.tick().until(loader.address_error)
        for _ in range(20):
            await ctx.tick()

    simulate(loader, testbench, memory.process, job_process(loader, [job]))
    assert len(memory.bursts) == 1


@pytest.mark.parametrize("axi_bytes", [8, 16, 64])
@pytest.mark.parametrize("busy", [0.0, 0.4])
def test_parameters_wait_for_slots(seed, axi_bytes, busy):
    rng = random.Random(seed)
    config = replace(CONFIG, axi_bytes=axi_bytes)
    contents = rng.randbytes(4096)
    design = cached(Loaded, config)
    loader, ring = design.loader, design.ring
    memory = ReadMemory(config, loader.axi, contents, rng, busy=busy)
    jobs = [
        dict(kind=JobKind.PARAMETERS, address=axi_bytes * rng.randrange(8), column_tiles=rng.randint(1, 7), repeats=repeats)
        for repeats in (1, 3, 1, 2)
    ]
    starts = [
        job["address"] + 8 * config.cols * tile
        for job in jobs
        for _ in range(job["repeats"])
        for tile in range(job["column_tiles"])
    ]
    done = []

    async def count(ctx):
        async for _, _, pulse in ctx.tick().sample(loader.parameter_credits.loaded):
            done.extend([1] * pulse)

    async def testbench(ctx):
        for index, start in enumerate(starts):
            while len(done) <= index:
                await ctx.tick()
            for _ in range(rng.choice((0, 60))):
                await ctx.tick()
            assert len(done) <= index + config.parameter_tiles
            ctx.set(ring.read.slot, index % config.parameter_tiles)
            for column in range(config.cols):
                ctx.set(ring.read.column, column)
                for _ in range(READ_LATENCY):
                    await ctx.tick()
                entry = np.frombuffer(contents[start + 8 * column : start + 8 * column + 7], dtype="<i4,<u2,u1")[0]
                value = ctx.get(ring.read.parameters)
                assert (value.bias, value.multiplier, value.shift) == tuple(int(part) for part in entry)
            ctx.set(loader.parameter_credits.release, 1)
            await ctx.tick()
            ctx.set(loader.parameter_credits.release, 0)
        assert not ctx.get(loader.busy)

    simulate(design, testbench, memory.process, job_process(loader, jobs), count)


def test_tables_take_turns_and_wait(seed):
    rng = random.Random(seed)
    contents = rng.randbytes(4096)
    loader = cached(SideLoader, CONFIG)
    memory = ReadMemory(CONFIG, loader.axi, contents, rng, busy=0.2)
    kinds = [0, 1, 1, 0, 1, 0]
    jobs = [dict(kind=JobKind.TABLE, address=256 * index, exponential=kind) for index, kind in enumerate(kinds)]
    log = []

    async def testbench(ctx):
        for _ in range(1600):
            await ctx.tick()
        assert sum(index > 0 for _, index, _ in log) == 4, "the third exp table waits, and what is behind it"
        for kind in (1, 0):
            ctx.set(loader.table_credits.release, 1 << kind)
            await ctx.tick()
            ctx.set(loader.table_credits.release, 0)
            for _ in range(450):
                await ctx.tick()
        assert not ctx.get(loader.busy)

    done = [loader.table_credits.loaded[kind] for kind in range(2)]
    simulate(loader, testbench, memory.process, job_process(loader, jobs), recorder(log, loader.row_writes.table_write, *done))
    entries = [value for _, index, value in log if index == 0]
    seen = [0, 0]
    for number, kind in enumerate(kinds):
        table = entries[256 * number : 256 * number + 256]
        assert bytes(entry.data for entry in table) == contents[256 * number : 256 * number + 256]
        assert [entry.index for entry in table] == list(range(256))
        assert {(entry.exponential, entry.slot) for entry in table} == {(kind, seen[kind] % 2)}
        seen[kind] += 1
    assert [index - 1 for _, index, _ in log if index] == kinds


def test_abort_and_error(seed):
    rng = random.Random(seed)
    loader = cached(SideLoader, CONFIG)
    memory = ReadMemory(CONFIG, loader.axi, bytes(4096), rng, busy=0.3, latency=20, bad=[1024])
    jobs = [dict(kind=JobKind.TABLE, address=1024, exponential=0)] * 4

    async def testbench(ctx):
        await ctx.tick().until(loader.error)
        ctx.set(loader.abort, 1)
        await ctx.tick().until(loader.idle)
        bursts = len(memory.bursts)
        for _ in range(50):
            await ctx.tick()
        assert ctx.get(loader.idle) and len(memory.bursts) == bursts

    simulate(loader, testbench, memory.process, job_process(loader, jobs))

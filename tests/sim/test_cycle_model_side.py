"""The cycle model's side loader and weight jobs against their RTL, every word in its cycle."""

import random
from collections import deque
from dataclasses import replace

import pytest

from hw.isa import FLAG_CONTIGUOUS, Descriptor, Opcode, Target
from hw.memory.jobs import JobKind, rows_layout
from hw.memory.side_loader import SideLoader
from hw.presets import PRESETS
from hw.weights.job_expander import JobExpander
from sim.cycle_model import side, weights
from sim.cycle_model.memory import Bus, Port
from sim.cycle_model.network import Network
from sim.memory_timing import MemorySchedule, MemoryTiming
from tests.hw.axi_memory import simulate

NANO = PRESETS["nano"]


class ScheduledMemory:
    """Answers one read port with zeros in the cycles of `MemorySchedule`."""

    def __init__(self, timing, axi, axi_bytes):
        self.axi, self.limit, self.schedule = axi, timing.outstanding, MemorySchedule(timing, axi_bytes)

    async def process(self, ctx):
        axi, queue, flying, rvalid, arready, rlast, now = self.axi, deque(), 0, 0, 0, 0, 0
        async for _, _, arvalid, arlen in ctx.tick().sample(axi.arvalid, axi.arlen):
            flying -= rvalid and rlast
            if arvalid and arready:
                due = self.schedule.read(now, arlen + 1)
                queue += [(cycle, index == arlen) for index, cycle in enumerate(due)]
                flying += 1
            arready = flying < self.limit
            rvalid = bool(queue) and queue[0][0] <= now + 1
            if rvalid:
                _, rlast = queue.popleft()
                ctx.set(axi.rlast, rlast)
            ctx.set(axi.rvalid, rvalid)
            ctx.set(axi.arready, arready)
            now += 1


def random_job(rng, config):
    """A LOAD, or a GEMM for its parameters, and the kind of the job."""
    if rng.randrange(3) == 0:
        fields = dict(column_tiles=rng.randint(1, 3), row_tiles=rng.randint(1, 3), resident=rng.randrange(2))
        return JobKind.PARAMETERS, Descriptor(Opcode.GEMM, fields)
    target, contiguous = rng.choice(list(Target)), rng.randrange(2)
    word = config.depth * (2 if target == Target.RESIDUAL else 1)
    words = rng.randint(1, 8)
    size = words * word if contiguous else rng.randint(1, 60)
    fields = dict(
        flags=FLAG_CONTIGUOUS * contiguous, target=target, segment_bytes=size, segments=rng.randint(1, 5), segment_words=words,
        tokens_inner=rng.randint(1, 9), tokens_outer=rng.randint(1, 3), segment_stride=rng.randrange(2000),
        inner_stride=size if contiguous else rng.randrange(300), outer_stride=rng.randrange(9000), stride=8,
    )  # fmt: skip
    return JobKind.ROWS, Descriptor(Opcode.LOAD, fields)


def side_times(config, timing, jobs, pauses):
    """Cycles by event of the RTL: push, go, load, rows_done, tile_done."""
    loader = SideLoader(config)
    times = {name: [] for name in ("push", "go", "load", "rows_done", "tile_done")}
    signals = (
        loader.job.valid & loader.job.ready, loader.rows_go, loader.load.valid, loader.rows_done, loader.parameter_tile_done,
    )  # fmt: skip

    async def record(ctx):
        cycle = 0
        async for _, _, *values in ctx.tick().sample(*signals):
            for name, value in zip(times, values, strict=True):
                if value:
                    times[name].append(cycle)
            cycle += 1

    async def push(ctx):
        for job, _ in jobs:
            ctx.set(loader.job.payload, job)
            ctx.set(loader.job.valid, 1)
            await ctx.tick().until(loader.job.ready)
        ctx.set(loader.job.valid, 0)
        await ctx.tick()

    async def testbench(ctx):
        for pause in pauses:
            await ctx.tick().repeat(pause)
            ctx.set(loader.rows_go, 1)
            await ctx.tick()
            ctx.set(loader.rows_go, 0)
            await ctx.tick().until(loader.rows_done)
        while ctx.get(loader.busy):
            await ctx.tick()
        await ctx.tick().repeat(3)

    simulate(loader, testbench, ScheduledMemory(timing, loader.axi, config.axi_bytes).process, push, record, cycles=100_000)
    return times


def advance(network, bus, readers):
    """Let every read happen."""
    ports = [Port(bus, [reader]) for reader in readers]
    network.settle()
    while following := [(*port.next(), number) for number, port in enumerate(ports) if port.next()]:
        cycle, reader, number = min(following, key=lambda entry: (entry[0], entry[2]))
        ports[number].accept(cycle, reader)
        network.settle()


def drawn_timing(rng):
    return MemoryTiming(latency=rng.randint(1, 150), bytes_per_cycle=rng.randint(4, 64), outstanding=rng.randint(1, 8))


@pytest.mark.parametrize("seed", range(6))
def test_side_loader(seed):
    rng = random.Random(seed)
    config = replace(
        NANO, depth=rng.choice((1, 4, 5, 8)), axi_bytes=rng.choice((8, 16, 32)), outstanding=rng.randint(1, 8),
        burst_beats=rng.randint(1, 32), address_width=24,
    )  # fmt: skip
    timing = drawn_timing(rng)
    kinds = [random_job(rng, config) for _ in range(8)]
    jobs, entries = [], []
    for kind, d in kinds:
        address = 64 * rng.randrange(100) if kind == JobKind.PARAMETERS else rng.randrange(5000)
        fields = dict(kind=kind, address=address, limit=1 << 24)
        if kind == JobKind.PARAMETERS:
            fields |= dict(column_tiles=d.column_tiles, repeats=side.passes(d))
        else:
            fields |= dict(contiguous=d.flags != 0, rows={name: getattr(d, name) for name in rows_layout().members})
        jobs.append((fields, kind))
        entries.append(side.SideJob(kind, address, d))
    pauses = [rng.choice((1, 30, 300)) for kind, _ in kinds if kind == JobKind.ROWS]
    times = side_times(config, timing, jobs, pauses)

    network = Network()
    model = side.SideLoader(config, network)
    model.pushes.put_all(zip(times["push"], entries, strict=True))
    model.rows_go.put_all(times["go"])
    advance(network, Bus(timing, config.axi_bytes), [model.segments.reader])
    assert model.rows_done == times["rows_done"] and len(times["rows_done"]) == len(pauses)
    assert [cycle - 1 for cycle in model.parameter_credits] == times["tile_done"]
    assert set(cycle - 1 for cycle in times["load"]) <= set(model.segments.fires)


@pytest.mark.parametrize("seed", range(4))
def test_weight_jobs(seed):
    """Cycle in which the expander hands each job to a port that accepts at once."""
    rng = random.Random(seed)
    config = replace(NANO, weight_ports=rng.randint(1, 3), outstanding=64, burst_beats=64, weight_words=1 << 14, queue_depth=64)
    gemms = [
        Descriptor(Opcode.GEMM, dict(k_words=1, column_tiles=1, row_tiles=rng.randint(1, 4), resident=rng.randrange(2)))
        for _ in range(6)
    ]
    expander = JobExpander(config)
    taken, cycle = [], 0

    async def record(ctx):
        nonlocal cycle
        async for _, _, *values in ctx.tick().sample(*(port.valid for port in expander.ports)):
            taken.extend([cycle] * sum(values))
            cycle += 1

    async def testbench(ctx):
        for port in expander.ports:
            ctx.set(port.ready, 1)
        for d in gemms:
            ctx.set(expander.job.payload, dict(k_words=1, column_tiles=1, repeats=side.passes(d)))
            ctx.set(expander.job.valid, 1)
            await ctx.tick().until(expander.job.ready)

    simulate(expander, testbench, record)
    network = Network()
    model = weights.WeightSide(config, network)
    model.pushes.put_all((-1, d) for d in gemms)
    advance(network, Bus(MemoryTiming(latency=1), config.axi_bytes), [port.reader for port in model.ports])
    first = min(port.reader.commands[0][0] for port in model.ports)
    modelled = sorted(command[0] - first for port in model.ports for command in port.reader.commands)
    assert modelled == [cycle - taken[0] for cycle in taken]

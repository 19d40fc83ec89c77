from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw import isa
from hw.config import AcceleratorConfig, ceil_div
from hw.control.issue import Issue
from hw.isa import Descriptor, Opcode, Operation, Post
from hw.timing import STATISTICS_LATENCY, Timing


def config(rows=2, cols=3, depth=4, **fields):
    return AcceleratorConfig(
        rows=rows, cols=cols, depth=depth, activation_words=64, residual_words=32, weight_words=11, kv_words=64,
        parameter_tiles=3, row_tiles=4, classes=10, **fields,
    )  # fmt: skip


def gemm(machine, rng=None, **changes):
    """A GEMM of random shape within small bounds."""
    rng = rng or np.random.default_rng(0)
    pick = lambda low, high: int(rng.integers(low, high))  # noqa: E731
    fields = dict(
        k_elements=pick(1, 5 * machine.depth), columns=pick(1, 3 * machine.cols), tokens=pick(1, 3 * machine.rows),
        source_base=pick(0, 9), source_stride=pick(0, 9), base=pick(0, 9), stride=pick(0, 9), multiplier=pick(0, 65536),
        shift=pick(0, 64), kv_base=pick(0, 9), element=pick(0, machine.depth), flags=isa.FLAG_PER_COLUMN * pick(0, 2),
        operation=Operation.MLP,
    )  # fmt: skip
    fields.update(changes)
    fields["k_words"] = ceil_div(fields["k_elements"], machine.depth)
    fields["column_tiles"] = ceil_div(fields["columns"], machine.cols)
    fields["row_tiles"] = ceil_div(fields["tokens"], machine.rows)
    return Descriptor(Opcode.GEMM, fields)


def expected_tokens(machine, descriptors):
    """(feed, weight, tile) dictionaries by the cycle of the feed token, relative to the first, with all credits at hand."""
    timing, rows, cols, depth = Timing(machine), machine.rows, machine.cols, machine.depth
    feeds, weights, tiles = {}, {}, {}
    ring, slot, tables = 0, 0, [0, 0]
    next_word, drain, settled = 0, 0, 0  # earliest next word, earliest next last word, everything in its memory
    for g in descriptors:
        kv, exp, per_column = (bool(g.flags & f) for f in (isa.FLAG_KV, isa.FLAG_EXP, isa.FLAG_PER_COLUMN))
        for n in range(g.column_tiles):
            for i in range(g.row_tiles):
                begin = max(next_word, drain - g.k_words + 1)
                if g.flags & isa.FLAG_WAIT and n == i == 0:
                    begin = max(begin, settled)
                for k in range(g.k_words):
                    weight = g.kv_base + n * g.k_words + k if kv else (ring + k) % machine.weight_words
                    feeds[begin + k] = dict(
                        first=k == 0, last=k == g.k_words - 1, exponential=exp, reciprocal=exp and n == 0,
                        table_slot=tables[1] % 2, address=g.source_base + i * g.source_stride + k,
                        elements=min(depth, g.k_elements - k * depth), row_tile=i, multiplier=g.multiplier,
                    )  # fmt: skip
                    weights[begin + k] = dict(kv=kv, address=weight)
                last, token, channel = begin + g.k_words - 1, i * rows, n * cols
                tile = dict(
                    post=g.post, start=n == 0, exponential=exp, per_column=per_column, table_slot=tables[0] % 2,
                    release=per_column and i == g.row_tiles - 1, columns=min(cols, g.columns - channel), row_tile=i,
                    multiplier=g.multiplier, shift=g.shift, tokens_left=g.tokens - token,
                    address=g.base + i * g.stride + (g.element + channel) // depth, element=(g.element + channel) % depth,
                )  # fmt: skip
                if per_column:
                    tile["parameter_tile"] = slot
                if g.post == Post.KEY:
                    tile.update(kv_index=token % cols, kv_stride=g.stride)
                    tile["address"] = g.base + token // cols * g.stride + (g.element + channel) // depth
                if g.post == Post.VALUE:
                    tile.update(kv_index=token % depth, kv_stride=1, address=g.base + n * g.stride + token // depth)
                    del tile["element"]
                tiles[last] = tile
                next_word, drain = last + 1, last + timing.drain_interval(g.post, exp and n == 0)
                settled = max(settled, last + timing.settle(g.post))
            ring = ring if kv else (ring + g.k_words) % machine.weight_words
            slot = (slot + per_column) % machine.parameter_tiles
        tables = [tables[0] + (g.post == Post.GELU), tables[1] + exp]
    return feeds, weights, tiles


class Bench:
    """Issue with loaders that answer at once, or not before the given cycles."""

    def __init__(self, machine, descriptors, cycles=3000, weights_from=0, parameters_from=0, tables_from=0, rows_after=10):
        self.machine, self.descriptors, self.cycles = machine, descriptors, cycles
        self.weights_from, self.parameters_from, self.tables_from, self.rows_after = (
            weights_from, parameters_from, tables_from, rows_after,
        )  # fmt: skip
        self.feeds, self.weights, self.tiles, self.norms = {}, {}, {}, {}
        self.causes = {name: 0 for name in ("array", "norm", "gate", "drain", "weights", "parameters", "table", "load", "fetch")}
        self.takes, self.releases, self.gates, self.rows_go = [], [], [], []
        self.slots = {"parameters": 0, "tables": [0, 0]}
        self.operations = {}
        self.quiet = 0
        self.dut = Issue(machine)
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)
        sim.add_testbench(self.testbench)
        sim.run()

    async def testbench(self, ctx):
        dut, position = self.dut, 0
        for now in range(self.cycles):
            valid = position < len(self.descriptors)
            ctx.set(dut.entries.valid, valid)
            if valid:
                encoded = self.descriptors[position].encode()
                ctx.set(dut.entries.payload, dict(index=position + 5, descriptor=int.from_bytes(encoded, "little")))
            self.drive_loaders(ctx, now)
            self.observe(ctx, now)
            position += valid and ctx.get(dut.entries.ready)
            self.quiet = self.quiet + 1 if not valid and (ctx.get(dut.stall.fetch) or ctx.get(dut.gate_busy)) else 0
            if self.quiet > 100:
                return
            await ctx.tick()

    def drive_loaders(self, ctx, now):
        dut = self.dut
        ctx.set(dut.weight_available, now >= self.weights_from)
        load = now >= self.parameters_from and self.slots["parameters"] < self.machine.parameter_tiles
        ctx.set(dut.parameter_loaded, load)
        self.slots["parameters"] += load
        loaded = 0
        for kind in range(2):
            if now >= self.tables_from and self.slots["tables"][kind] < 2:
                self.slots["tables"][kind] += 1
                loaded |= 1 << kind
        ctx.set(dut.table_loaded, loaded)
        ctx.set(dut.rows_done, bool(self.rows_go) and now == self.rows_go[-1] + self.rows_after)
        ctx.set(dut.proceed, bool(self.gates) and now == self.gates[-1][0] + 7)

    def observe(self, ctx, now):
        dut = self.dut
        for name, log in (("feed", self.feeds), ("weight", self.weights), ("tile", self.tiles)):
            token = ctx.get(getattr(dut, name))
            if token.valid:
                log[now] = token
        norm = ctx.get(dut.norm)
        if norm.valid or norm.statistics:
            self.norms[now] = norm
        tile = self.tiles.get(now)
        if tile is not None and tile.release:
            self.slots["parameters"] -= 1
        release = ctx.get(dut.table_release)
        for kind in range(2):
            self.slots["tables"][kind] -= release >> kind & 1
        if ctx.get(dut.weight_take):
            self.takes.append(now)
        if ctx.get(dut.weight_release):
            self.releases.append((now, ctx.get(dut.weight_release_words)))
        if ctx.get(dut.rows_go):
            self.rows_go.append(now)
        if ctx.get(dut.gate_start):
            self.gates.append((now, ctx.get(dut.gate_end), ctx.get(dut.gate_classes)))
        stall = ctx.get(dut.stall)
        events = {"array": ctx.get(dut.array), "norm": ctx.get(dut.norm_busy), "gate": ctx.get(dut.gate_busy)}
        events.update({name: stall[name] for name in ("drain", "weights", "parameters", "table", "load", "fetch")})
        assert sum(events.values()) == 1, (now, events)
        for name, value in events.items():
            self.causes[name] += value
        operation = ctx.get(dut.operation)
        self.operations[operation] = self.operations.get(operation, 0) + 1


def compare(log, expected, start):
    assert [at - start for at in log] == list(expected)
    for at, fields in expected.items():
        token = log[at + start]
        assert {name: int(token[name]) for name in fields} == {name: int(value) for name, value in fields.items()}, at


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1, 1), (5, 2, 3), (3, 8, 2), (4, 4, 4)])
def test_random_gemms_are_issued_at_their_earliest(shape):
    machine = config(*shape)
    rng = np.random.default_rng(sum(shape))
    descriptors = []
    for _ in range(14):
        post = Post(int(rng.integers(7)))
        changes = dict(post=post)
        if post == Post.REQUANT and rng.integers(2):
            changes["flags"] = isa.FLAG_KV | isa.FLAG_EXP * int(rng.integers(2))
        if rng.integers(4) == 0:
            changes["flags"] = isa.FLAG_WAIT
        descriptors.append(gemm(machine, rng, **changes))
    # Tables and parameters are loaded in time here only if the GEMMs that free them are not in a row.
    descriptors = [d for i, d in enumerate(descriptors) if d.post != Post.GELU or i < 2]
    bench = Bench(machine, descriptors)
    feeds, weights, tiles = expected_tokens(machine, descriptors)
    start = min(bench.feeds)
    if bench.causes["table"] + bench.causes["parameters"] == 0:
        compare(bench.feeds, feeds, start)
        compare(bench.weights, weights, start)
        compare(bench.tiles, tiles, start)
    else:
        for log, expected in ((bench.feeds, feeds), (bench.weights, weights), (bench.tiles, tiles)):
            assert len(log) == len(expected)
            for token, fields in zip(log.values(), expected.values(), strict=True):
                assert {name: int(token[name]) for name in fields} == {name: int(value) for name, value in fields.items()}
    streamed = [d for d in descriptors if not d.flags & isa.FLAG_KV]
    assert [words for _, words in bench.releases] == [d.k_words for d in streamed for _ in range(d.column_tiles)]
    assert len(bench.takes) == len(bench.releases)
    assert all(take + 1 in bench.feeds and bench.feeds[take + 1].first for take in bench.takes)
    assert bench.causes["array"] == len(bench.feeds)


def test_gemms_follow_without_a_gap():
    machine = config()
    descriptors = [gemm(machine, k_elements=20, columns=3, tokens=2, flags=0) for _ in range(4)]
    bench = Bench(machine, descriptors, cycles=100)
    assert len(bench.feeds) == 20
    assert max(bench.feeds) - min(bench.feeds) == 19


@pytest.mark.parametrize("cause", ["weights", "parameters", "tables"])
def test_waits_for_what_is_missing_and_says_so(cause):
    machine = config()
    descriptor = gemm(machine, post=Post.GELU, flags=isa.FLAG_PER_COLUMN)
    bench = Bench(machine, [descriptor], cycles=300, **{f"{cause}_from": 100})
    first = min(bench.feeds)
    assert first == (101 if cause == "weights" else 102)  # a loaded pulse counts from the next cycle on
    name = cause.replace("tables", "table")
    assert bench.causes[name] > 90
    assert sum(bench.causes[n] for n in ("weights", "parameters", "table", "load")) == bench.causes[name]
    assert bench.operations[Operation.MLP] >= bench.causes[name] + len(bench.feeds)


def test_tables_are_released_after_the_drain():
    machine = config()
    descriptors = [gemm(machine, post=Post.GELU, k_elements=4, columns=3, tokens=2, flags=0) for _ in range(5)]
    bench = Bench(machine, descriptors, cycles=2000)
    assert [tile.table_slot for tile in bench.tiles.values()] == [0, 1, 0, 1, 0]
    lasts = list(bench.tiles)
    settle = Timing(machine).settle(Post.GELU)
    for old, new in zip(lasts, lasts[2:], strict=False):
        assert new > old + settle
    assert bench.causes["table"] > 0


@pytest.mark.parametrize(("words", "row_tiles", "norm_elements"), [(1, 1, 4), (3, 2, 1), (60, 3, 1), (2, 4, 2)])
def test_norm_overlaps_statistics_with_the_pass_before(words, row_tiles, norm_elements):
    machine = replace(config(norm_elements=norm_elements), activation_words=256, residual_words=256)
    norm = Descriptor(
        Opcode.NORM,
        dict(base=3, stride=4, source_base=2, source_stride=5, words=words, channels=words * 4, row_tiles=row_tiles,
             inverse=7, inverse_shift=8, shift=9, multiplier=10, epsilon=11, operation=Operation.NORM),
    )  # fmt: skip
    end = Descriptor(Opcode.END, {"classes": 3, "operation": Operation.GATE})
    before = gemm(machine, columns=3, tokens=2)
    bench = Bench(machine, [before, norm, end], cycles=2500)
    timing, groups = Timing(machine), 4 // norm_elements
    interval = timing.norm_interval(words)
    assert interval == max(STATISTICS_LATENCY, words * groups)
    start = min(bench.norms)
    assert start >= max(bench.feeds) + timing.settle(Post.REQUANT)
    expected = {}
    for j in range(row_tiles + 1):
        at = start + (STATISTICS_LATENCY + (j - 1) * interval if j else 0)
        if j < row_tiles:
            expected[at] = dict(statistics=1, row_tile=j)
        for w in range(words if j else 0):
            for g in range(groups):
                fields = dict(valid=1, capture=w == g == 0, source=2 + (j - 1) * 5 + w, destination=3 + (j - 1) * 4 + w, group=g)
                now = at + w * groups + g
                expected[now] = {"statistics": 0, **expected.get(now, {}), **fields}
    compare(bench.norms, {at - start: fields for at, fields in expected.items()}, start)
    token = bench.norms[start]
    assert (token.inverse, token.inverse_shift, token.shift, token.multiplier, token.epsilon) == (7, 8, 9, 10, 11)
    assert bench.gates[0][0] >= max(bench.norms) + timing.norm_settle
    assert bench.causes["norm"] == STATISTICS_LATENCY + (row_tiles - 1) * interval + words * groups + timing.norm_settle


def test_load_and_gate_wait_for_the_drain_and_for_their_answers():
    machine = config()
    descriptors = [
        gemm(machine),
        Descriptor(Opcode.LOAD, {"operation": Operation.EMBEDDING}),
        gemm(machine),
        Descriptor(Opcode.GATE, {"classes": 3}),
        gemm(machine),
        Descriptor(Opcode.END, {"classes": 4}),
    ]
    bench = Bench(machine, descriptors, cycles=1500)
    counts = len(bench.feeds) // 3
    lasts = [sorted(bench.feeds)[counts * (i + 1) - 1] for i in range(3)]
    firsts = [sorted(bench.feeds)[counts * i] for i in range(3)]
    settle = Timing(machine).settle(Post.REQUANT)
    assert bench.rows_go == [lasts[0] + settle - 1]  # the decision is one cycle before a token
    assert firsts[1] > bench.rows_go[0] + 10
    assert [gate[1:] for gate in bench.gates][:2] == [(0, 3), (1, 4)]
    assert bench.gates[0][0] == lasts[1] + settle - 1
    assert firsts[2] > bench.gates[0][0] + 7
    assert bench.causes["load"] == 10


def test_stop_ends_the_words():
    machine = config()
    dut = Issue(machine)
    words = []

    async def testbench(ctx):
        encoded = gemm(machine, columns=9, tokens=6, k_elements=20, flags=0).encode()
        ctx.set(dut.entries.payload, dict(index=0, descriptor=int.from_bytes(encoded, "little")))
        ctx.set(dut.entries.valid, 1)
        ctx.set(dut.weight_available, 1)
        for now in range(300):
            ctx.set(dut.stop, now >= 13)
            if ctx.get(dut.feed.valid):
                words.append(now)
            await ctx.tick()
        assert ctx.get(dut.settled)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(testbench)
    sim.run()
    assert max(words) == 13

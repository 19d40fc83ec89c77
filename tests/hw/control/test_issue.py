from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Cat

from hw import isa
from hw.config import AcceleratorConfig, ceil_div
from hw.control.issue import Issue
from hw.control.jobs import stall_causes
from hw.isa import Descriptor, Opcode, Operation, Post
from hw.timing import NORM_LATENCY, STATISTICS_LATENCY, Timing
from tests.hw.control.issue_model import IssueModel
from tests.hw.simulation import cached, simulate


def config(rows=2, cols=3, pe_depth=4, **fields):
    return AcceleratorConfig(
        rows=rows, cols=cols, pe_depth=pe_depth, activation_words=64, residual_words=32, weight_words=11, kv_words=64,
        parameter_tiles=3, row_tiles=4, classes=10, **fields,
    )  # fmt: skip


def gemm(machine, rng=None, **changes):
    """A GEMM of random shape within small bounds."""
    rng = rng or np.random.default_rng(0)
    pick = lambda low, high: int(rng.integers(low, high))  # noqa: E731
    fields = dict(
        k_elements=pick(1, 5 * machine.pe_depth), columns=pick(1, 3 * machine.cols), tokens=pick(1, 3 * machine.rows),
        source_base=pick(0, 9), source_stride=pick(0, 9), base=pick(0, 9), stride=pick(0, 9), multiplier=pick(0, 65536),
        shift=pick(0, 64), kv_base=pick(0, 9), element=pick(0, machine.pe_depth), flags=isa.FLAG_PER_COLUMN * pick(0, 2),
        operation=Operation.MLP,
    )  # fmt: skip
    fields.update(changes)
    fields["k_words"] = ceil_div(fields["k_elements"], machine.pe_depth)
    fields["column_tiles"] = ceil_div(fields["columns"], machine.cols)
    fields["row_tiles"] = ceil_div(fields["tokens"], machine.rows)
    more = dict(
        segment_words=pick(0, 4), segment_stride=pick(0, 9), first_row_tile=pick(0, machine.row_tiles - fields["row_tiles"] + 1),
        addend_base=pick(0, 9), blank_rows=pick(0, 1 << machine.rows),
    )  # fmt: skip
    return Descriptor(Opcode.GEMM, more | fields)


def expected_tokens(machine, model):
    """(feed, weight, tile, norm) dictionaries by the cycle of the token."""
    rows, cols, depth = machine.rows, machine.cols, machine.pe_depth
    feeds, weights, tiles, norms = {}, {}, {}, {}
    ring, slots, tables = 0, 0, [0, 0]  # words and slots taken from the rings, tables used
    weights_at, parameters_at = {}, {}  # of the column tiles of the GEMM
    for begin, g, first_use, last_use, i, n in model.tiles:
        begin += 1
        kv, exp, per_column, normalized = (
            bool(g.flags & f) for f in (isa.FLAG_KV, isa.FLAG_EXP, isa.FLAG_PER_COLUMN, isa.FLAG_NORMALIZED)
        )
        if first_use:
            weights_at[n], parameters_at[n] = ring, slots
            ring, slots = ring + (not kv) * g.k_words, slots + per_column
        for k in range(g.k_words):
            segment, word = divmod(k, g.segment_words or g.k_words)
            weight = g.kv_base + n * g.k_words + k if kv else (weights_at[n] + k) % machine.weight_words
            feeds[begin + k] = dict(
                first=k == 0, last=k == g.k_words - 1, exponential=exp, reciprocal=exp and n == 0, normalized=normalized,
                wide=g.post == Post.SCORE and machine.score_columns == 2, table_slot=tables[1] % 2,
                address=g.source_base + i * g.source_stride + segment * g.segment_stride + word,
                elements=min(depth, g.k_elements - k * depth), row_tile=g.first_row_tile + i, multiplier=g.multiplier,
            )  # fmt: skip
            weights[begin + k] = dict(kv=kv, address=weight)
        last, token, channel = begin + g.k_words - 1, i * rows, n * cols
        tile = dict(
            post=g.post, start=n == 0, exponential=exp, per_column=per_column, table_slot=tables[0] % 2,
            release=per_column and last_use, columns=min(cols, g.columns - channel),
            row_tile=g.first_row_tile + i, multiplier=g.multiplier, shift=g.shift, tokens_left=g.tokens - token,
            addend_offset=(g.addend_base - g.base) % machine.residual_words, blank=g.blank_rows,
            address=g.base + i * g.stride + (g.element + channel) // depth, element=(g.element + channel) % depth,
        )  # fmt: skip
        if per_column:
            tile["parameter_tile"] = parameters_at[n] % machine.parameter_tiles
        if g.post == Post.KEY:
            tile.update(kv_index=token % cols, kv_stride=g.stride)
            tile["address"] = g.base + token // cols * g.stride + (g.element + channel) // depth
        if g.post == Post.VALUE:
            tile.update(kv_index=token % depth, kv_stride=1, address=g.base + n * g.stride + token // depth)
            del tile["element"]
        tiles[last] = tile
        if (i, n) == (g.row_tiles - 1, g.column_tiles - 1):
            tables = [tables[0] + (g.post == Post.ACTIVATION), tables[1] + exp]
    groups = depth // machine.norm_elements
    for norm in model.norms:
        d = norm.descriptor
        for i, at in enumerate(norm.statistics):
            norms.setdefault(at + 1, {}).update(statistics=1, row_tile=d.first_row_tile + i)
        for i, at in enumerate(norm.begins):
            for t in range(d.words * groups):
                norms.setdefault(at + 1 + t, {}).update(
                    valid=1, capture=t == 0, source=d.source_base + i * d.source_stride + t // groups,
                    destination=d.base + i * d.stride + t // groups, group=t % groups,
                )  # fmt: skip
    return feeds, weights, tiles, {at: {"statistics": 0, "valid": 0} | fields for at, fields in norms.items()}


class Bench:
    """Issue with loaders that answer at once, or not before the given cycles."""

    def __init__(self, machine, descriptors, cycles=3000, weights_from=0, parameters_from=0, tables_from=0, rows_after=10):
        self.machine, self.descriptors, self.cycles = machine, descriptors, cycles
        self.weights_from, self.parameters_from, self.tables_from, self.rows_after = (
            weights_from, parameters_from, tables_from, rows_after,
        )  # fmt: skip
        self.feeds, self.weights, self.tiles, self.norms = {}, {}, {}, {}
        self.normalizes = []
        self.takes, self.releases, self.gates, self.rows_go = [], [], [], []
        self.slots = {"parameters": 0, "tables": [0, 0]}
        self.causes, self.operations = Counter(), Counter()
        self.quiet = 0
        self.dut = cached(Issue, machine)
        self.look_up(self.dut)
        simulate(self.dut, self.testbench)

    def look_up(self, dut):
        """Signals of every cycle, once: to find them in their structures takes as long as to simulate the issue."""
        loaded, available = dut.table_credits.loaded, dut.weight_credits.available
        self.answers = Cat(loaded, available, dut.parameter_loaded, dut.load_rows.done, dut.gate.proceed)
        self.logs = [(dut.feed.valid, dut.feed, self.feeds), (dut.weight.valid, dut.weight, self.weights)]
        self.logs += [(dut.tile.valid, dut.tile, self.tiles), (dut.norm.valid | dut.norm.statistics, dut.norm, self.norms)]
        credits = dut.weight_credits
        self.pulses = (dut.table_credits.release, credits.take, credits.release, dut.load_rows.go, dut.gate.start)
        self.names = ("array", "gate", *stall_causes().members)
        self.events = Cat(dut.events.array, dut.events.gate, dut.events.stall)
        self.normalizing, self.operation = dut.events.norm, dut.events.operation

    async def testbench(self, ctx):
        dut, position, shown = self.dut, 0, None
        for now in range(self.cycles):
            valid = position < len(self.descriptors)
            if position != shown:
                ctx.set(dut.entries.valid, valid)
                if valid:
                    encoded = self.descriptors[position].encode()
                    ctx.set(dut.entries.payload, dict(index=position + 5, descriptor=int.from_bytes(encoded, "little")))
                shown = position
            self.drive_loaders(ctx, now)
            cause = self.observe(ctx, now)
            position += valid and ctx.get(dut.entries.ready)
            self.quiet = self.quiet + 1 if not valid and cause in ("fetch", "gate") else 0
            if self.quiet > 100:
                return
            await ctx.tick()

    def drive_loaders(self, ctx, now):
        load = now >= self.parameters_from and self.slots["parameters"] < self.machine.parameter_tiles
        self.slots["parameters"] += load
        loaded = 0
        for kind in range(2):
            if now >= self.tables_from and self.slots["tables"][kind] < 2:
                self.slots["tables"][kind] += 1
                loaded |= 1 << kind
        done = bool(self.rows_go) and now == self.rows_go[-1] + self.rows_after
        proceed = bool(self.gates) and not self.gates[-1][1] and now == self.gates[-1][0] + 7
        ctx.set(self.answers, loaded | (now >= self.weights_from) << 2 | load << 3 | done << 4 | proceed << 5)

    def observe(self, ctx, now):
        dut = self.dut
        for valid, token, log in self.logs:
            if ctx.get(valid):
                log[now] = ctx.get(token)
        tile = self.tiles.get(now)
        if tile is not None and tile.release:
            self.slots["parameters"] -= 1
        release, take, words, load, gate = (ctx.get(pulse) for pulse in self.pulses)
        for kind in range(2):
            self.slots["tables"][kind] -= release >> kind & 1
        if take:
            self.takes.append(now)
        if words:
            self.releases.append((now, ctx.get(dut.weight_credits.release_words)))
        if load:
            self.rows_go.append(now)
        if gate:
            self.gates.append((now, ctx.get(dut.gate.end), ctx.get(dut.gate.classes)))
        if ctx.get(self.normalizing):
            self.normalizes.append(now)
        events, operation = ctx.get(self.events), ctx.get(self.operation)
        assert events.bit_count() == 1, (now, events)
        cause = self.names[events.bit_length() - 1]
        self.causes[cause] += 1
        assert (operation == Operation.NORM) == (cause == "norm")
        self.operations[operation] += 1
        return cause


def compare(log, expected):
    assert list(log) == sorted(expected)
    for at, fields in expected.items():
        token = log[at]
        assert {name: int(token[name]) for name in fields} == {name: int(value) for name, value in fields.items()}, at


def norm(machine, rng=None, **changes):
    rng = rng or np.random.default_rng(0)
    fields = dict(
        base=3, stride=4, source_base=2, source_stride=5, words=int(rng.integers(1, 9)), row_tiles=int(rng.integers(1, 5)),
        inverse=7, inverse_shift=8, shift=9, multiplier=10, epsilon=11, operation=Operation.NORM,
    )  # fmt: skip
    fields.update(changes)
    fields.setdefault("first_row_tile", int(rng.integers(0, machine.row_tiles - fields["row_tiles"] + 1)))
    return Descriptor(Opcode.NORM, fields | {"channels": fields["words"] * machine.pe_depth})


END = Descriptor(Opcode.END, {"classes": 3, "operation": Operation.GATE})


def check(machine, descriptors):
    """Every token and every cause in its cycle, all credits at hand."""
    bench = Bench(machine, [*descriptors, END], cycles=20000)
    model = IssueModel(machine, [*descriptors, END], load_cycles=bench.rows_after)
    for log, expected in zip((bench.feeds, bench.weights, bench.tiles, bench.norms), expected_tokens(machine, model), strict=True):
        compare(log, expected)
    begins = [*bench.rows_go, *(at for at, *_ in bench.gates)]
    assert begins == model.begins
    assert bench.normalizes == [at - 1 for at, token in bench.norms.items() if token.valid]
    assert {name: count for name, count in bench.causes.items() if count and name != "gate"} == +model.causes
    streamed = [(at, g, first, last) for at, g, first, last, *_ in model.tiles if not g.flags & isa.FLAG_KV]
    assert bench.takes == [at for at, _, first, _ in streamed if first]
    assert bench.releases == [(at + g.k_words, g.k_words) for at, g, _, last in streamed if last]
    return bench, model


SHAPES = [(2, 3, 4), (1, 1, 1), (5, 2, 3), (3, 8, 2), (4, 4, 4), (2, 6, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_random_gemms_are_issued_at_their_earliest(shape):
    machine = config(*shape)
    rng = np.random.default_rng(sum(shape))
    descriptors = []
    for number in range(24):
        post = Post(int(rng.integers(7)))
        if post == Post.ACTIVATION and number > 1:  # a third table would have to wait
            post = Post.SCORE
        changes = dict(post=post, resident=int(rng.integers(5)))
        if post == Post.REQUANT and rng.integers(2):
            changes["flags"] = isa.FLAG_KV | isa.FLAG_EXP * (number < 9 and number % 4 == 0)
        if rng.integers(4) == 0:
            changes["flags"] = isa.FLAG_WAIT
        descriptors.append(gemm(machine, rng, **changes))
    bench, _ = check(machine, descriptors)
    assert {d.resident for d in descriptors} == set(range(5))
    assert bench.causes["drain"] and bench.causes["array"] == len(bench.feeds)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shape", SHAPES)
def test_random_norms_run_beside_gemms(shape, seed):
    """Any order of descriptors, also ones that make no sense: NORMs without a RESIDUAL GEMM, or of more row tiles than it has."""
    rng = np.random.default_rng([seed, *shape])
    rows, cols, depth = shape
    machine = config(*shape, norm_elements=int(rng.choice([e for e in (1, 2, depth) if depth % e == 0])))
    descriptors = []
    for _ in range(16):
        kind = rng.choice(["norm", "load", "residual", "normalized", "both", "other"], p=[0.3, 0.05, 0.25, 0.25, 0.05, 0.1])
        if kind == "norm":
            descriptors.append(norm(machine, rng, flags=isa.FLAG_WAIT * int(rng.integers(4) == 0)))
        elif kind == "load":
            descriptors.append(Descriptor(Opcode.LOAD, {"operation": Operation.EMBEDDING}))
        else:
            post = Post.RESIDUAL if kind in ("residual", "both") else Post(int(rng.choice([0, 3, 4, 5])))
            flags = isa.FLAG_NORMALIZED * (kind in ("normalized", "both")) | isa.FLAG_WAIT * (rng.integers(6) == 0)
            flags |= isa.FLAG_PER_COLUMN * int(rng.integers(2))
            descriptors.append(
                gemm(
                    machine, rng, post=post, flags=int(flags), resident=int(rng.integers(4)),
                    k_elements=int(rng.integers(1, 11 * depth)), columns=int(rng.integers(1, 4 * cols)),
                    tokens=int(rng.integers(1, 4 * rows + 1)), operation=Operation.QKV,
                )
            )  # fmt: skip
    check(machine, descriptors)


def test_gemms_follow_without_a_gap():
    machine = config()
    descriptors = [gemm(machine, k_elements=20, columns=3, tokens=2, flags=0) for _ in range(4)]
    bench = Bench(machine, descriptors, cycles=100)
    assert len(bench.feeds) == 20
    assert max(bench.feeds) - min(bench.feeds) == 19


@pytest.mark.parametrize("cause", ["weights", "parameters", "tables"])
def test_waits_for_what_is_missing_and_says_so(cause):
    machine = config()
    descriptor = gemm(machine, post=Post.ACTIVATION, flags=isa.FLAG_PER_COLUMN)
    bench = Bench(machine, [descriptor], cycles=300, **{f"{cause}_from": 100})
    first = min(bench.feeds)
    assert first == (101 if cause == "weights" else 102)  # a loaded pulse counts from the next cycle on
    name = cause.replace("tables", "table")
    assert bench.causes[name] > 90
    assert sum(bench.causes[n] for n in ("weights", "parameters", "table", "load")) == bench.causes[name]
    assert bench.operations[Operation.MLP] >= bench.causes[name] + len(bench.feeds)


def test_tables_are_released_after_the_drain():
    machine = config()
    descriptors = [gemm(machine, post=Post.ACTIVATION, k_elements=4, columns=3, tokens=2, flags=0) for _ in range(5)]
    bench = Bench(machine, descriptors, cycles=2000)
    assert [tile.table_slot for tile in bench.tiles.values()] == [0, 1, 0, 1, 0]
    lasts = list(bench.tiles)
    settle = Timing(machine).settle(Post.ACTIVATION)
    for old, new in zip(lasts, lasts[2:], strict=False):
        assert new > old + settle
    assert bench.causes["table"] > 0


def test_a_norm_hides_behind_the_gemms_around_it():
    """With its column tiles in one group a row tile is complete while the next ones are at work, and the first ones are fed while
    the last one is normalised."""
    machine = replace(config(norm_elements=4), activation_words=256, residual_words=256, weight_words=256)
    before = gemm(machine, post=Post.RESIDUAL, k_elements=160, columns=12, tokens=8, resident=4, flags=0)
    after = gemm(machine, k_elements=12, columns=24, tokens=8, resident=8, flags=isa.FLAG_NORMALIZED, segment_words=0)
    bench, model = check(machine, [before, norm(machine, words=3, row_tiles=4), after])
    (at_work,) = model.norms
    assert at_work.handed == model.tiles[0][0] + 1
    assert at_work.begins[1] < model.tiles[12][0]
    last = model.tiles[15][0] + before.k_words - 1
    assert bench.causes["norm"] == at_work.feeds(3) - (last + 1) - 3 * 24 > 0
    assert at_work.feeds(3) == last + Timing(machine).residual_settle + STATISTICS_LATENCY + NORM_LATENCY


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
    dut = cached(Issue, machine)
    words = []

    async def testbench(ctx):
        encoded = gemm(machine, columns=9, tokens=6, k_elements=20, flags=0).encode()
        ctx.set(dut.entries.payload, dict(index=0, descriptor=int.from_bytes(encoded, "little")))
        ctx.set(dut.entries.valid, 1)
        ctx.set(dut.weight_credits.available, 1)
        for now in range(300):
            ctx.set(dut.stop, now >= 13)
            if ctx.get(dut.feed.valid):
                words.append(now)
            await ctx.tick()
        assert ctx.get(dut.settled)

    simulate(dut, testbench)
    assert max(words) == 13


def test_stop_ends_a_norm():
    machine = config()
    dut = cached(Issue, machine)
    tokens, wanted = [], norm(machine, words=8, row_tiles=4)

    async def testbench(ctx):
        ctx.set(dut.entries.payload, dict(index=0, descriptor=int.from_bytes(wanted.encode(), "little")))
        for now in range(3 * STATISTICS_LATENCY):
            ctx.set(dut.entries.valid, now < 3)
            ctx.set(dut.stop, now >= STATISTICS_LATENCY + 10)
            token = ctx.get(dut.norm)
            if token.valid or token.statistics:
                tokens.append(now)
            await ctx.tick()

    simulate(dut, testbench)
    assert tokens == [2, *range(STATISTICS_LATENCY + 2, STATISTICS_LATENCY + 12)]  # one after the stop

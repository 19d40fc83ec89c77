import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from hw.config import AcceleratorConfig
from hw.control.drain_sequencer import DrainSequencer
from hw.isa import Post
from hw.timing import Timing
from hw.weights.parameter_ring import ParameterRing
from tests.hw.simulation import simulate


def config(cols, depth):
    return AcceleratorConfig(
        rows=2, cols=cols, pe_depth=depth, activation_words=64, residual_words=32, weight_words=16, kv_words=64,
        parameter_tiles=3, row_tiles=4, classes=10,
    )  # fmt: skip


class Bench:
    """Sequencer with its parameter ring."""

    def __init__(self, machine):
        self.sequencer, self.ring = DrainSequencer(machine), ParameterRing(machine)
        self.module = Module()
        self.module.submodules.sequencer, self.module.submodules.ring = self.sequencer, self.ring
        wiring.connect(self.module, self.sequencer.parameters, self.ring.read)


@pytest.mark.parametrize(("cols", "depth"), [(1, 1), (1, 4), (3, 4), (5, 3), (2, 2), (2, 8), (6, 4), (8, 8), (40, 2)])
def test_columns_come_on_time_with_their_parameters(cols, depth):
    machine = config(cols, depth)
    rng = np.random.default_rng(cols * 10 + depth)
    bench = Bench(machine)
    parameters = {
        (slot, column): (int(rng.integers(-(1 << 25), 1 << 25)), int(rng.integers(1 << 16)), int(rng.integers(64)))
        for slot in range(3)
        for column in range(cols)
    }
    tiles, cycle = {}, 3
    for number in range(24):
        post = int(rng.choice([Post.REQUANT, Post.VALUE, Post.KEY, Post.SCORE, Post.SCORE]))
        step = machine.score_columns if post == Post.SCORE else 1
        tiles[cycle] = dict(
            post=post, start=number % 2, exponential=number % 3 == 0, per_column=int(rng.integers(2)) * (post != Post.SCORE),
            release=number % 2, table_slot=number % 2, columns=int(rng.integers(1, cols + 1)),
            row_tile=number % 4, address=int(rng.integers(30)), element=int(rng.integers(depth)) // step * step,
            parameter_tile=number % 3, multiplier=int(rng.integers(1 << 16)), shift=int(rng.integers(64)), tokens_left=number,
            kv_index=int(rng.integers(max(cols, depth))), kv_stride=int(rng.integers(9)), blank=number % 4,
            addend_offset=int(rng.integers(machine.residual_words)),
        )  # fmt: skip
        if machine.gathers:
            tiles[cycle] |= dict(group_first=int(rng.integers(2)), group_last=int(rng.integers(2)))
        cycle += Timing(machine).drain_interval(Post.SCORE if post == Post.SCORE else Post.REQUANT, False) + int(
            rng.choice([0, 0, 3, 50])
        )
    end = cycle + Timing(machine).drain_latency + cols + 5
    lanes, releases = {}, []

    async def testbench(ctx):
        write = bench.ring.write
        for (slot, column), (bias, multiplier, shift) in parameters.items():
            ctx.set(write.valid, 1)
            ctx.set(write.slot, slot)
            ctx.set(write.column, column)
            ctx.set(write.parameters, dict(bias=bias, multiplier=multiplier, shift=shift, reserved=0))
            await ctx.tick()
        ctx.set(write.valid, 0)
        for now in range(end):
            ctx.set(bench.sequencer.tile, {"valid": int(now in tiles), **tiles.get(now, {})})
            lane = ctx.get(bench.sequencer.lane)
            if lane.valid:
                lanes[now] = lane
            if ctx.get(bench.sequencer.parameter_release):
                releases.append(now)
            await ctx.tick()

    simulate(bench.module, testbench)

    latency = Timing(machine).drain_latency
    steps = {at: machine.score_columns if tile["post"] == Post.SCORE else 1 for at, tile in tiles.items()}
    assert sorted(lanes) == [at + latency + c for at, step in steps.items() for c in range(cols // step)]
    for at, tile in tiles.items():
        address, element, step = tile["address"], tile["element"], steps[at]
        for column in range(0, cols, step):
            lane = lanes[at + latency + column // step]
            plain = (0, tile["multiplier"], tile["shift"])
            expected = parameters[tile["parameter_tile"], column] if tile["per_column"] else plain
            assert (lane.bias, lane.multiplier, lane.shift) == expected
            gathers = machine.gathers and tile["post"] == Post.KEY
            ends = (tile["group_first"], tile["group_last"]) if gathers else (column == 0, column == cols - step)
            assert (lane.first, lane.last) == ends
            assert lane.enabled == (column < tile["columns"])
            assert lane.second_enabled == (step == 2 and column + 1 < tile["columns"])
            assert (lane.address, lane.element) == (address, element)
            assert lane.addend == (address + tile["addend_offset"]) % machine.residual_words
            same = ("post", "start", "exponential", "table_slot", "row_tile", "tokens_left", "kv_index", "kv_stride", "blank")
            for name in same:
                assert lane[name] == tile[name]
            if tile["post"] != Post.VALUE:
                address, element = address + (element == depth - step), (element + step) % depth
    assert len(releases) == sum(tile["release"] for tile in tiles.values())
    for release, at in zip(releases, [at for at, tile in tiles.items() if tile["release"]], strict=True):
        assert release + 3 == at + latency + cols // steps[at]

from itertools import product

import numpy as np
import pytest
from amaranth import Module, Signal, signed
from amaranth.hdl import Assert, Assume
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.isa import Post
from hw.row.processing_pair import ProcessingPair, chain_fields, chain_layout, packed_operand, word_layout
from hw.timing import PAIR_LATENCY, Timing
from hw.tokens import pair_weights, row_weights
from hw.verilog import read_design, run_pass, to_rtlil
from hw.weights.weight_packing import pack_words, pack_words_model
from tests.hw.row_testing import simulate, small_config


class PairChain(wiring.Component):
    """All pairs of a row, as `RowSlice` wires them."""

    def __init__(self, config):
        self.config = config
        word = word_layout(config)
        super().__init__(
            {
                "activation": In(word),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "weights": In(row_weights(config)),
                "weights_below": Out(row_weights(config)),
                "chain_out": Out(chain_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        before = None
        for p in range(self.config.pairs):
            columns = min(2, self.config.cols - 2 * p)
            m.submodules[f"pair_{p}"] = pair = ProcessingPair(self.config, columns)
            for name in ("activation", "valid", "first", "last"):
                source = getattr(self, name) if before is None else getattr(before, f"{name}_next")
                m.d.comb += getattr(pair, name).eq(source)
            if before is not None:
                m.d.comb += pair.chain_in.eq(before.chain_out)
            m.d.comb += pair.weights.eq(self.weights[f"pair_{p}"])
            m.d.comb += self.weights_below[f"pair_{p}"].eq(pair.weights_below)
            before = pair
        m.d.comb += self.chain_out.eq(before.chain_out)
        return m


def run_tiles(config, tiles):
    """Feed tiles [(activations [words, depth], weights [words, cols, depth])] as early as `Timing.drain_interval` allows;
    returns [(cycle, value)] of the chain's end and the cycle of each tile's last word."""
    dut = PairChain(config)
    schedule, lasts, start = {}, [], 0
    interval = Timing(config).drain_interval(Post.REQUANT, False)
    for activations, weights in tiles:
        if lasts:
            start = max(start, lasts[-1] + interval - len(activations) + 1)
        for k in range(len(activations)):
            schedule[start + k] = (activations[k], weights[k], k == 0, k == len(activations) - 1)
        lasts.append(start + len(activations) - 1)
        start += len(activations)
    drained = []

    async def bench(ctx):
        for cycle in range(start + config.cols + config.pairs + 10):
            word = schedule.get(cycle)
            ctx.set(dut.valid, word is not None)
            if word is not None:
                ctx.set(dut.activation, [int(x) for x in word[0]])
                ctx.set(dut.first, word[2])
                ctx.set(dut.last, word[3])
            for p in range(config.pairs):  # skewed by the pair
                skewed = schedule.get(cycle - p)
                if skewed is not None:
                    ctx.set(dut.weights[f"pair_{p}"], pack_words_model(skewed[1][2 * p : 2 * p + 2]))
            slot = ctx.get(dut.chain_out)
            if slot.valid:
                drained.append((cycle, slot.value))
            await ctx.tick()

    simulate(dut, bench)
    return drained, lasts


@pytest.mark.parametrize("cols, depth", [(1, 1), (2, 3), (3, 2), (4, 8), (5, 9)])
@pytest.mark.parametrize("corners", [False, True])
def test_tiles_back_to_back(cols, depth, corners, rng):
    config = small_config(cols=cols, depth=depth)
    values = np.array([-128, -127, 127, 0]) if corners else np.arange(-128, 128)
    words = [1, 3, 1, 1, cols + 2, 1]
    combinations = list(product(values, repeat=3)) if corners else []  # of the activation, even and odd columns: fill a chain
    tiles = []
    for number, count in enumerate([2] * len(combinations) + words):
        if number < len(combinations):
            activation, even, odd = combinations[number]
            activations = np.full((count, depth), activation)
            weights = np.full((count, cols, depth), even)
            weights[:, 1::2] = odd
        else:
            activations = rng.choice(values, (count, depth))
            weights = rng.choice(values, (count, cols, depth))
        tiles.append((activations.astype(np.int8), weights.astype(np.int8)))
    drained, lasts = run_tiles(config, tiles)

    expected = []
    for (activations, weights), last in zip(tiles, lasts, strict=True):
        sums = np.einsum("kd,kcd->c", activations.astype(np.int64), weights.astype(np.int64))
        expected += [(last + PAIR_LATENCY + config.pairs + c, int(sums[c])) for c in range(cols)]
    assert drained == expected


class PackedArithmetic(wiring.Component):
    """Packing and splitting as assertions of every value: weights and sums that are inputs."""

    even: In(signed(8))
    odd: In(signed(8))
    low: In(signed(19))
    high: In(signed(19))

    def elaborate(self, platform):
        m = Module()
        word = Signal(pair_weights(small_config(depth=1), 2))
        chain = Signal(signed(37))
        low, high, borrow = chain_fields(chain)
        m.d.comb += [
            word.eq(pack_words(small_config(depth=1), [self.even, self.odd])),
            Assert(packed_operand(word[0]) == (self.odd << 18) + self.even),
            Assume((self.low >= -8 * 128 * 127) & (self.low <= 8 * 128 * 128)),
            Assume((self.high >= -8 * 128 * 127) & (self.high <= 8 * 128 * 128)),
            chain.eq((self.high << 18) + self.low),
            Assert((low == self.low) & (high + borrow == self.high)),
        ]
        return m


def test_packing_and_splitting_are_proven_for_all_values(tmp_path):
    """Every two weights, and every two sums of 8 products of int8: a SAT solver finds no counterexample."""
    design = read_design([to_rtlil(PackedArithmetic(), "top")])
    for command in ("proc", "flatten", "async2sync", "chformal -lower", "opt_clean"):
        run_pass(design, command)
    report = tmp_path / "report"
    run_pass(design, f"tee -o {report} sat -prove-asserts -set-assumes top")
    assert "SAT proof finished - no model found: SUCCESS!" in report.read_text()


def test_least_interval_of_single_words(rng):
    config = small_config(cols=6, depth=2)
    tiles = [(rng.integers(-128, 128, (1, 2)), rng.integers(-128, 128, (1, 6, 2))) for _ in range(5)]
    drained, _ = run_tiles(config, tiles)
    assert [cycle for cycle, _ in drained] == list(range(PAIR_LATENCY + 3, PAIR_LATENCY + 3 + 30))
    assert [value for _, value in drained] == [int(x) for a, w in tiles for x in np.einsum("kd,kcd->c", a, w)]


def test_model_is_exact_beyond_float32(rng):
    activations = np.full((2, 3, 5000), -128, dtype=np.int8)
    activations[..., ::7] = rng.integers(-128, 128, activations[..., ::7].shape)
    weights = np.full((5000, 4), -128, dtype=np.int8)
    weights[::5] = rng.integers(-128, 128, weights[::5].shape)
    expected = activations.astype(np.int64) @ weights.astype(np.int64)
    np.testing.assert_array_equal(ProcessingPair.model(activations, weights), expected)
    batched = np.stack([weights, weights[::-1]])
    expected = activations.astype(np.int64) @ batched.astype(np.int64)
    np.testing.assert_array_equal(ProcessingPair.model(activations, batched), expected)

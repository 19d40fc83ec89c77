from itertools import product

import numpy as np
import pytest
from amaranth import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.isa import Post
from hw.row.element_skew import ElementSkew, delay_line, operand_delay
from hw.row.processing_pair import ProcessingPair, chain_layout, word_layout
from hw.timing import PAIR_LATENCY, Timing
from tests.hw.row.row_testing import packed, small_config
from tests.hw.simulation import cached, simulate


class PairChain(wiring.Component):
    """All pairs of a row as `RowSlice` wires them, with the delays of `Feed` and `WeightSide` before them."""

    def __init__(self, config, **options):
        self.config = config
        self.options = options
        word = word_layout(config)
        super().__init__(
            {
                "activation": In(word),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "wide": In(1),
                "weights": In(word).array(config.cols),
                "weights_below": Out(word).array(config.cols),
                "chain_out": Out(chain_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        dsp48 = self.options.get("dsp48", False)
        delay = operand_delay(self.config, dsp48=dsp48)
        before = None
        m.submodules.skew = skew = ElementSkew(self.config, dsp48=dsp48)
        m.d.comb += skew.word.eq(self.activation)
        for p in range(self.config.pairs):
            columns = min(2, self.config.cols - 2 * p)
            m.submodules[f"pair_{p}"] = pair = ProcessingPair(self.config, columns, **self.options)
            for name in ("valid", "first", "last", "wide"):
                first = delay_line(m, getattr(self, name), delay, name) if before is None else getattr(before, f"{name}_next")
                m.d.comb += getattr(pair, name).eq(first)
            m.d.comb += pair.activation.eq(skew.skewed if before is None else before.activation_next)
            if before is not None:
                m.d.comb += pair.chain_in.eq(before.chain_out)
            for c in range(columns):
                m.submodules[f"skew_{p}_{c}"] = weight_skew = ElementSkew(self.config, dsp48=dsp48)
                m.d.comb += [
                    weight_skew.word.eq(self.weights[2 * p + c]),
                    pair.weights[c].eq(weight_skew.skewed),
                    self.weights_below[2 * p + c].eq(pair.weights_below[c]),
                ]
            before = pair
        m.d.comb += self.chain_out.eq(before.chain_out)
        return m


def run_tiles(config, tiles, wide=(), **options):
    """Feed tiles [(activations [words, depth], weights [words, cols, depth])] as early as `Timing.drain_interval` allows, those of
    the numbers in ``wide`` as scores; returns [(cycle, value, second)] of the chain's end and each tile's last cycle."""
    dut = cached(PairChain, config, **options)
    schedule, lasts, start = {}, [], 0
    for number, (activations, weights) in enumerate(tiles):
        if lasts:
            post = Post.SCORE if number - 1 in wide else Post.REQUANT
            start = max(start, lasts[-1] + Timing(config).drain_interval(post, False) - len(activations) + 1)
        for k in range(len(activations)):
            last = k == len(activations) - 1
            flags = 1 | (k == 0) << 1 | last << 2 | (number in wide) << 3
            schedule[start + k] = packed(activations[k]), [packed(column) for column in weights[k]], flags
        lasts.append(start + len(activations) - 1)
        start += len(activations)
    drained = []
    flags, activation, chain = Cat(dut.valid, dut.first, dut.last, dut.wide), dut.activation.as_value(), dut.chain_out
    weights, drains = [word.as_value() for word in dut.weights], chain.valid

    async def bench(ctx):
        for cycle in range(start + config.cols + config.pairs + 2 * config.pe_depth + 20):
            word = schedule.get(cycle)
            ctx.set(flags, word[2] if word is not None else 0)
            if word is not None:
                ctx.set(activation, word[0])
            for column in range(config.cols):  # skewed by the pair
                skewed = schedule.get(cycle - column // 2)
                if skewed is not None:
                    ctx.set(weights[column], skewed[1][column])
            if ctx.get(drains):
                slot = ctx.get(chain)
                drained.append((cycle, slot.value, slot.second))
            await ctx.tick()

    simulate(dut, bench)
    return drained, lasts


def captured(config):
    """Cycles from a tile's last word to column 0 at the chain's end."""
    return Timing(config).skew + PAIR_LATENCY + Timing(config).tree_latency + config.pairs


@pytest.mark.parametrize("cols, depth", [(1, 1), (2, 3), (3, 2), (4, 8), (5, 9), (3, 20), (1, 64)])
@pytest.mark.parametrize("corners", [False, True])
def test_tiles_back_to_back(cols, depth, corners, rng):
    config = small_config(cols=cols, pe_depth=depth)
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
        expected += [(last + captured(config) + c, int(sums[c])) for c in range(cols)]
    assert [slot[:2] for slot in drained] == expected


def test_least_interval_of_single_words(rng):
    config = small_config(cols=6, pe_depth=2)
    tiles = [(rng.integers(-128, 128, (1, 2)), rng.integers(-128, 128, (1, 6, 2))) for _ in range(5)]
    drained, _ = run_tiles(config, tiles)
    assert [cycle for cycle, *_ in drained] == list(range(captured(config), captured(config) + 30))
    assert [value for _, value, _ in drained] == [int(x) for a, w in tiles for x in np.einsum("kd,kcd->c", a, w)]


@pytest.mark.parametrize("wide", [range(7), (0, 2, 3, 6), (1, 5)])
def test_both_columns_of_wide_tiles_leave_in_one_slot(wide, rng):
    config = small_config(cols=6, pe_depth=2)
    tiles = [(rng.integers(-128, 128, (1, 2)), rng.integers(-128, 128, (1, 6, 2))) for _ in range(7)]
    drained, _ = run_tiles(config, tiles, wide)
    expected = []
    for number, (activations, weights) in enumerate(tiles):
        sums = np.einsum("kd,kcd->c", activations, weights).reshape(3, 2)
        expected += [(int(even), int(odd)) for even, odd in sums] if number in wide else [int(x) for x in sums.reshape(-1)]
    # slots follow each other without a gap: three of a wide tile, six of another
    assert [cycle for cycle, *_ in drained] == list(range(captured(config), captured(config) + len(expected)))
    for (_, value, second), slot in zip(drained, expected, strict=True):
        assert (value, second) == slot if isinstance(slot, tuple) else value == slot


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

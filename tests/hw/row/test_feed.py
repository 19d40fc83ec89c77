import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.commands import index_width
from hw.row.activation_bank import ActivationBank
from hw.row.element_skew import element_delays, operand_delay
from hw.row.feed import SUM_LATENCY, Feed
from hw.row.processing_pair import word_layout
from hw.row.table import exp_table
from hw.timing import DIVIDE_LATENCY, FEED_LATENCY, Timing
from tests.hw.row.row_testing import small_config
from tests.hw.simulation import simulate


def normalized_element(address, k):
    """Element of the normalised bank's word."""
    return 5 * address + 17 * k - 100


class FeedWithBank(wiring.Component):
    """Feed, its bank, a normalised bank whose words follow from their addresses, and row maxima that the bench sets."""

    def __init__(self, config, **options):
        self.config = config
        self.feed = Feed(config, **options)
        self.maxima = [0] * config.row_tiles
        super().__init__(
            {
                "write_address": In(index_width(config.activation_words)),
                "write_enable": In(config.pe_depth),
                "write_data": In(word_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.feed = feed = self.feed
        m.submodules.bank = bank = ActivationBank(self.config)
        m.d.comb += [
            bank.read_address.eq(feed.bank_address),
            feed.bank_word.eq(bank.read_data),
            bank.write_address.eq(self.write_address),
            bank.write_enable.eq(self.write_enable),
            bank.write_data.eq(self.write_data),
        ]
        address = feed.normalized_address
        for _ in range(2):
            delayed = Signal.like(address)
            m.d.sync += delayed.eq(address)
            address = delayed
        for k in range(self.config.pe_depth):
            m.d.comb += feed.normalized_word[k].eq(normalized_element(address, k))
        with m.Switch(feed.max_row_tile):
            for tile, maximum in enumerate(self.maxima):
                with m.Case(tile):
                    m.d.comb += feed.row_max.eq(maximum)
        return m


async def fill(ctx, dut, words, tables):
    for address, word in enumerate(words):
        ctx.set(dut.write_address, address)
        ctx.set(dut.write_enable, (1 << dut.config.pe_depth) - 1)
        ctx.set(dut.write_data, [int(x) for x in word])
        await ctx.tick()
    ctx.set(dut.write_enable, 0)
    for slot, table in enumerate(tables):
        for index, entry in enumerate(table):
            ctx.set(dut.feed.table_write, dict(valid=1, exponential=1, slot=slot, index=index, data=int(entry)))
            await ctx.tick()
    ctx.set(dut.feed.table_write, dict(valid=1, exponential=0, slot=0, index=3, data=99))  # of a activation table
    await ctx.tick()
    ctx.set(dut.feed.table_write.valid, 0)


def run_tokens(dut, words, tables, commands):
    """Returns {cycle: (activation, first, last, wide)} as if no element were delayed, and {cycle: start}, with command i in cycle
    i; None is an empty cycle."""
    activations, control, sums = [], {}, {}
    config = dut.config
    delays, delay = element_delays(config, dsp48=dut.feed.dsp48), operand_delay(config, dsp48=dut.feed.dsp48)

    async def bench(ctx):
        await fill(ctx, dut, words, tables)
        for cycle in range(len(commands) + SUM_LATENCY + delay + 1):
            command = commands[cycle] if cycle < len(commands) else None
            ctx.set(dut.feed.command, dict(valid=1, **command) if command else dict(valid=0))
            word = ctx.get(dut.feed.activation)
            activations.append([word[k] for k in range(config.pe_depth)])
            if ctx.get(dut.feed.valid):
                control[cycle - delay] = tuple(ctx.get(getattr(dut.feed, name)) for name in ("first", "last", "wide"))
            start = ctx.get(dut.feed.sum_start)
            if start.valid:
                sums[cycle] = (start.sum, start.row_tile, start.multiplier)
            await ctx.tick()

    simulate(dut, bench)
    fed = {cycle: ([activations[cycle + delays[k]][k] for k in range(config.pe_depth)], *bits) for cycle, bits in control.items()}
    return fed, sums


@pytest.mark.parametrize("depth, dsp48", [(1, False), (3, False), (4, False), (3, True), (9, True)])
def test_plain_words_of_both_banks_are_masked(depth, dsp48, rng):
    config = small_config(pe_depth=depth)
    words = rng.integers(-128, 128, (32, depth))
    limits = dict(address=32, elements=depth + 1, first=2, last=2, wide=2, normalized=2)
    commands = [
        {name: int(rng.integers(limit)) for name, limit in limits.items()} if rng.random() < 0.8 else None for _ in range(60)
    ]
    fed, sums = run_tokens(FeedWithBank(config, dsp48=dsp48), words, [], commands)
    expected = {}
    for cycle, command in enumerate(commands):
        if command:
            bank = (
                [normalized_element(command["address"], k) for k in range(depth)]
                if command["normalized"]
                else words[command["address"]]
            )
            word = [(int(x) + 128) % 256 - 128 if k < command["elements"] else 0 for k, x in enumerate(bank)]
            expected[cycle + FEED_LATENCY] = (word, command["first"], command["last"], command["wide"])
    assert fed == expected
    assert not sums


@pytest.mark.parametrize("depth, dsp48", [(1, False), (3, False), (3, True)])
def test_exponentials_and_row_sums(depth, dsp48, rng):
    config = small_config(pe_depth=depth)
    tables = [exp_table(0.01), exp_table(0.3)]
    words = rng.integers(-128, 128, (32, depth)).astype(np.int8)
    dut = FeedWithBank(config, dsp48=dsp48)
    dut.maxima = [127, -128, 5]
    words[10:20] = -128
    words[20:30] = np.minimum(words[20:30], 5)
    commands, expected, starts = [], {}, {}
    for tile, (base, k_words, keys) in enumerate([(0, 10, 10 * depth), (10, 1, 1), (20, 7, 7 * depth - depth // 2)]):
        for reciprocal in (1, 0):
            slot = tile % 2
            scores = words[base : base + k_words].reshape(-1)[:keys]
            exps, total = Feed.model(scores, np.array(dut.maxima[tile], np.int8), tables[slot])
            padded = np.concatenate([exps, np.zeros(k_words * depth - keys, np.int8)]).reshape(k_words, depth)
            for k in range(k_words):
                expected[len(commands) + FEED_LATENCY] = ([int(x) for x in padded[k]], int(k == 0), int(k == k_words - 1), 0)
                commands.append(
                    dict(
                        address=base + k, elements=min(depth, keys - k * depth), first=k == 0, last=k == k_words - 1,
                        exponential=1, reciprocal=reciprocal, table_slot=slot, row_tile=tile, multiplier=40_000 + tile,
                    )
                )  # fmt: skip
            if reciprocal:
                starts[len(commands) - 1 + SUM_LATENCY] = (int(total), tile, 40_000 + tile)
            commands.append(None)
    fed, sums = run_tokens(dut, words, tables, commands)
    assert fed == expected
    assert sums == starts


def test_model_on_known_scores():
    table = np.zeros(256, np.uint8)
    table[[0, 1, 255]] = [127, 50, 3]
    exps, sums = Feed.model(np.array([[127, 126, -128], [4, 4, 3]], np.int8), np.array([127, 4], np.int8), table)
    np.testing.assert_array_equal(exps, [[127, 50, 3], [127, 127, 50]])
    np.testing.assert_array_equal(sums, [180, 304])


def test_row_sum_meets_the_division_latency():
    assert Timing(small_config()).reciprocal_latency == SUM_LATENCY + DIVIDE_LATENCY

from collections import Counter
from itertools import product

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.commands import collector_word
from hw.isa import Post
from hw.row.collector_stage import CollectorStage
from hw.timing import Timing
from tests.hw.row.row_testing import small_config
from tests.hw.simulation import simulate


class Chain(wiring.Component):
    """The collector stages of all rows."""

    def __init__(self, config):
        self.config = config
        self.stages = [CollectorStage(config) for _ in range(config.rows)]
        super().__init__({"top": In(collector_word(config)), "bottom": Out(collector_word(config))})

    def elaborate(self, platform):
        m = Module()
        above = self.top
        for number, stage in enumerate(self.stages):
            m.submodules[f"stage_{number}"] = stage
            m.d.comb += stage.above.eq(above)
            above = stage.below
        m.d.comb += self.bottom.eq(above)
        return m


def word_columns(config, post, position):
    """Columns of a tile with which a row's words leave, when its first channel falls on element ``position``."""
    last = config.cols - 1
    if post == Post.VALUE or config.cols % config.pe_depth == 0:
        return [last]
    return [c for c in range(config.cols) if (position + c) % config.pe_depth == config.pe_depth - 1 or c == last]


def single_words(config, posts):
    """Tiles whose words leave one by one: V is gathered where a machine has one column (test_row_slice)."""
    return [Post.KEY if config.gathers else post for post in posts]


def schedule(config, posts):
    """Cycle of every word of row 0, tiles as close as `Timing.drain_interval` allows."""
    timing, start, position, cycles = Timing(config), 0, 0, []
    for post in posts:
        cycles += [start + c for c in word_columns(config, post, position)]
        position += config.cols if post == Post.KEY else 0
        start += timing.drain_interval(post, False)
    return cycles


@pytest.mark.parametrize(
    "rows, cols, depth", [(1, 1, 1), (2, 3, 2), (3, 4, 1), (4, 9, 8), (5, 2, 4), (3, 8, 4), (6, 1, 3), (7, 5, 2)]
)
def test_no_word_is_lost_at_the_least_interval(rows, cols, depth, rng):
    config = small_config(rows=rows, cols=cols, pe_depth=depth, kv_words=1 << 12)
    posts = [Post.KEY] * 4 + [Post.VALUE] * 3 + [Post(int(p)) for p in rng.choice([Post.KEY, Post.VALUE], 8)]
    cycles = schedule(config, single_words(config, posts))
    sent = {(cycle + row, row): number for row in range(rows) for number, cycle in enumerate(cycles)}
    width = max(config.cols, config.pe_depth)
    arrived = []
    dut = Chain(config)

    async def bench(ctx):
        for cycle in range(cycles[-1] + rows * (config.key_slots_per_tile + 2) + 4):
            for row, stage in enumerate(dut.stages):
                number = sent.get((cycle, row))
                fields = {} if number is None else dict(valid=1, address=number, index=row % width, data=row, mask=1)
                ctx.set(stage.word, fields)
            word = ctx.get(dut.bottom)
            if word.valid:
                assert word.mask == 1 and word.index == word.data % width
                arrived.append((word.data, word.address))
            await ctx.tick()

    simulate(dut, bench)
    assert len(arrived) == len(sent)
    for row in range(rows):  # in order
        assert [number for r, number in arrived if r == row] == list(range(len(cycles)))


def most_waiting(config, posts):
    """Most words that wait in one row, and the slots in which row 0's to the last row's leave: rows and chain are skewed alike, so
    one slot a cycle serves the uppermost row."""
    arrivals = Counter(schedule(config, posts))
    waiting, most, slots = np.zeros(config.rows, int), 0, []
    cycle = 0
    while cycle <= max(arrivals) or waiting.any():
        if (rows := np.flatnonzero(waiting)).size:
            waiting[rows[0]] -= 1
            slots.append((cycle, int(rows[0])))
        waiting += arrivals[cycle]
        most = max(most, int(waiting.max()))
        cycle += 1
    return most, slots


@pytest.mark.parametrize("rows", range(1, 7))
def test_the_least_interval_at_every_small_shape(rows):
    """Whatever K and V tiles follow each other, waiting words fit the FIFO; where a tile takes one slot, rows leave in order, tile
    after tile, and words of a slot of K are written before the next slot that may be of the same bank comes."""
    for cols, depth in product(range(1, 9), range(1, 9)):
        config = small_config(rows=rows, cols=cols, pe_depth=depth)
        for posts in ([Post.KEY] * 5 + [Post.VALUE] * 5 + [Post.KEY] * 3, [Post.VALUE, Post.KEY] * 6, [Post.KEY] * depth):
            posts = single_words(config, posts)
            most, slots = most_waiting(config, posts)
            assert most <= config.key_slots_per_tile, (config, posts)
            if config.key_slots_per_tile > 1:
                continue
            assert [row for _, row in slots] == list(range(rows)) * len(posts), (config, posts)
            written = {}  # by row modulo cols, as tokens of a tile that differ by cols share a bank: cycle from which it is free
            for number, (cycle, row) in enumerate(slots):
                post = posts[number // rows]
                banks = [row % cols] if post == Post.KEY else range(cols)
                assert all(cycle >= written.get(bank, 0) for bank in banks)
                words = config.key_slot_words if post == Post.KEY else 1
                # The next tile's first token may be of any bank.
                shared = range(cols) if row == rows - 1 else banks
                written |= {bank: max(written.get(bank, 0), cycle + words) for bank in shared}


def test_fifo_is_deep_enough(rng):
    """At many shapes, the words that wait fit the FIFO."""
    for _ in range(60):
        rows, cols, depth = (int(rng.integers(1, limit)) for limit in (10, 10, 9))
        config = small_config(rows=rows, cols=cols, pe_depth=depth)
        posts = single_words(config, [Post(int(p)) for p in rng.choice([Post.KEY, Post.VALUE], 12)])
        assert most_waiting(config, posts)[0] <= config.key_slots_per_tile, (config, posts)

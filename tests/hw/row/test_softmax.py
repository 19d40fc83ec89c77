"""The pass of limited exp units: the issue's commands, and a row's unit on them, against a numpy model."""

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.control.softmax_issue import SoftmaxIssue
from hw.isa import Descriptor, Opcode
from hw.row.activation_bank import ActivationBank
from hw.row.processing_pair import word_layout
from hw.row.softmax_unit import SoftmaxUnit
from hw.row.table import exp_table
from hw.timing import SOFTMAX_LATENCY, Timing
from tests.hw.row.row_testing import small_config
from tests.hw.simulation import simulate

BASE, STRIDE = 3, 6


def softmax(tokens: int, keys: int, config) -> Descriptor:
    fields = dict(base=BASE, stride=STRIDE, keys=keys, tokens=tokens, row_tiles=-(-tokens // config.rows))
    return Descriptor(Opcode.SOFTMAX, fields)


def expected_tokens(config, tokens, keys):
    """(row tile, rows at work, address, element) in order."""
    for tile, first in enumerate(range(0, tokens, config.rows)):
        rows = min(config.rows, tokens - first)
        for group in range(0, rows, config.exp_units):
            at_work = range(group, min(group + config.exp_units, rows))
            for key in range(keys):
                yield tile, at_work, BASE + tile * STRIDE + key // config.pe_depth, key % config.pe_depth


def run_issue(config, descriptors, loaded, stop_at=None, cycles=400):
    """(cycle, command) of every command, cycles of `done`, of `waits` and of table releases; descriptors start one after the
    other."""
    dut = SoftmaxIssue(config)
    found, done, waits, releases = [], [], [], []

    async def bench(ctx):
        started = 0
        for now in range(cycles):
            start = started < len(descriptors) and now > 0 and (not started or (bool(done) and done[-1] == now - 1))
            ctx.set(dut.start, start)
            if start:
                ctx.set(dut.descriptor, int.from_bytes(descriptors[started].encode(), "little"))
                started += 1
            ctx.set(dut.table_loaded, now in loaded)
            ctx.set(dut.stop, stop_at is not None and now >= stop_at)
            command = ctx.get(dut.softmax)
            if command.valid:
                rows = range(command.skip, command.skip + command.units)
                found.append((now, command.table_slot, (command.row_tile, rows, command.address, command.element)))
            for log, signal in ((done, dut.done), (waits, dut.waits), (releases, dut.table_release)):
                if ctx.get(signal):
                    log.append(now)
            await ctx.tick()

    simulate(dut, bench)
    return found, done, waits, releases


SHAPES = [(1, 1, 3, 1, 4), (3, 1, 2, 7, 5), (3, 2, 4, 8, 3), (4, 3, 3, 10, 7), (4, 4, 1, 9, 2), (5, 4, 3, 4, 1)]


@pytest.mark.parametrize("rows, units, depth, tokens, keys", SHAPES)
def test_a_pass_takes_each_group_of_rows_once_for_every_key(rows, units, depth, tokens, keys):
    config = small_config(rows=rows, exp_units=units, pe_depth=depth, row_tiles=4, activation_words=64)
    found, done, waits, releases = run_issue(config, [softmax(tokens, keys, config)] * 2, loaded=(0, 20))
    expected = list(expected_tokens(config, tokens, keys))
    assert len(expected) == Timing(config).softmax_pass(tokens, keys)
    assert [command for *_, command in found] == expected * 2
    first = [now for now, slot, _ in found if slot == 0]
    second = [now for now, slot, _ in found if slot == 1]
    assert first == list(range(3, 3 + len(expected)))  # started in cycle 1
    assert done == [first[-1] + SOFTMAX_LATENCY - 2, second[-1] + SOFTMAX_LATENCY - 2]
    begin = max(done[0] + 3, 22)  # when the table of cycle 20 is there
    assert second == list(range(begin, begin + len(expected)))
    assert waits == list(range(done[0] + 2, begin - 1))
    # a slot is free once no row may look up an exp: the last row does so rows + 2 cycles after row 0 got the command
    assert all(release > command + rows + 2 for release, command in zip(releases, (first[-1], second[-1]), strict=True))


def test_stop_ends_the_pass():
    config = small_config(rows=3, exp_units=2, activation_words=64)
    found, done, *_ = run_issue(config, [softmax(3, 20, config)], loaded=(0,), stop_at=12)
    assert [now for now, *_ in found] == list(range(3, 13))
    assert not done


class UnitWithBank(wiring.Component):
    """A unit, its bank, which the bench fills and reads while no command is there, and row maxima that the bench sets."""

    def __init__(self, config, maxima):
        self.config, self.maxima = config, maxima
        self.unit, self.bank = SoftmaxUnit(config), ActivationBank(config)
        address = self.bank.read_address.shape()
        super().__init__(
            {
                "address": In(address),
                "enable": In(config.pe_depth),
                "data": In(word_layout(config)),
                "word": Out(word_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit, m.submodules.bank = unit, bank = self.unit, self.bank
        m.d.comb += [
            unit.bank_word.eq(bank.read_data), self.word.eq(bank.read_data), bank.read_address.eq(self.address),
            bank.write_address.eq(self.address), bank.write_enable.eq(self.enable), bank.write_data.eq(self.data),
        ]  # fmt: skip
        with m.If(unit.reading):
            m.d.comb += bank.read_address.eq(unit.bank_address)
        with m.If(unit.write.valid):
            m.d.comb += [bank.write_address.eq(unit.write.address), bank.write_enable.eq(1 << unit.write.element)]
            m.d.comb += [byte.eq(unit.write.data) for byte in bank.write_data]
        with m.Switch(unit.max_row_tile):
            for tile, maximum in enumerate(self.maxima):
                with m.Case(tile):
                    m.d.comb += unit.row_max.eq(maximum)
        return m


@pytest.mark.parametrize("depth", [1, 3, 4, 16])
def test_scores_become_exps_in_place(depth, rng):
    """Two row tiles, other rows' commands and idle cycles between; what follows a command by the latency reads the exp."""
    config = small_config(pe_depth=depth, rows=4, exp_units=2, activation_words=64)
    scores = rng.integers(-128, 128, (2, 7)).astype(np.int8)
    maxima, tables = scores.max(axis=1), [exp_table(0.3), exp_table(0.02)]
    words = -(-7 // depth)
    stored = rng.integers(-128, 128, (2, words * depth)).astype(np.int8)
    stored[:, :7] = scores
    dut = UnitWithBank(config, maxima.tolist())
    found = np.zeros_like(stored)
    early = []

    async def bench(ctx):
        for slot, table in enumerate(tables):
            for index, entry in enumerate(table):
                ctx.set(dut.unit.table_write, dict(valid=1, exponential=1, slot=slot, index=index, data=int(entry)))
                await ctx.tick()
        ctx.set(dut.unit.table_write, dict(valid=1, exponential=0, slot=0, index=0, data=3))  # of a activation table
        await ctx.tick()
        ctx.set(dut.unit.table_write, {})
        for tile, word in np.ndindex(2, words):
            ctx.set(dut.address, tile * words + word)
            ctx.set(dut.enable, (1 << depth) - 1)
            ctx.set(dut.data, [int(x) for x in stored[tile, word * depth : (word + 1) * depth]])
            await ctx.tick()
        ctx.set(dut.enable, 0)
        for tile, key in np.ndindex(2, 7):
            command = dict(row_tile=tile, address=tile * words + key // depth, element=key % depth, table_slot=tile)
            others = [dict(valid=0, **command), dict(valid=1, skip=1, units=2, **command)]
            for _ in range(int(rng.integers(3))):
                ctx.set(dut.unit.command, others[int(rng.integers(2))])
                await ctx.tick()
            ctx.set(dut.unit.command, dict(valid=1, skip=0, units=1, **command))
            await ctx.tick()
        ctx.set(dut.unit.command, {})
        for _ in range(SOFTMAX_LATENCY - 1):
            await ctx.tick()
        order = [(1, words - 1), *np.ndindex(2, words)]  # first the word that was written last
        for step in range(len(order) + 2):
            if step >= 2:
                tile, word = order[step - 2]
                read = [ctx.get(dut.word)[k] for k in range(depth)]
                early.append(read)
                found[tile, word * depth : (word + 1) * depth] = read
            if step < len(order):
                ctx.set(dut.address, int(order[step][0]) * words + int(order[step][1]))
            await ctx.tick()

    simulate(dut, bench)
    expected = stored.copy()
    for tile in range(2):
        expected[tile, :7] = SoftmaxUnit.model(scores[tile], maxima[tile], tables[tile])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(early[0], expected[1, -depth:])

import numpy as np
import pytest
from amaranth import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.commands import lane_command, table_write
from hw.isa import Post
from hw.row.lane import Lane
from hw.row.normalizer import Normalizer
from hw.row.residual_bank import ResidualBank
from hw.timing import LANE_LATENCY
from tests.hw.cycle_trace import plain, seeded, signed_corner
from tests.hw.row.row_testing import gelu_table, small_config
from tests.hw.simulation import cached, simulate

RECIPROCALS = [(65536, 1), (40000, 7), (131071, 3)]
TABLES = [gelu_table(0.03, 0.02, -90), gelu_table(0.01, 0.03, 5)]
OUTPUTS = ("activation_write", "residual_write", "statistics", "collector", "logits")


class LaneWithBank(wiring.Component):
    """A lane, its residual bank, and the normaliser that requantizes second scores."""

    def __init__(self, config):
        self.lane, self.bank, self.normalizer = Lane(config), ResidualBank(config), Normalizer(config)
        super().__init__(
            {"command": In(lane_command(config)), "column": In(27), "second": In(27), "table_write": In(table_write(config))}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.lane, m.submodules.bank = lane, bank = self.lane, self.bank
        m.submodules.normalizer = normalizer = self.normalizer
        m.d.comb += [
            lane.command.eq(self.command),
            lane.column.eq(self.column),
            lane.second.eq(self.second),
            normalizer.borrow.eq(lane.borrow),
            lane.borrowed.eq(normalizer.borrowed),
            lane.table_write.eq(self.table_write),
            bank.lane_read.eq(lane.residual_read),
            bank.lane_write.eq(lane.residual_write),
            lane.residual_word.eq(bank.lane_word),
        ]
        return m


def accumulator(rng):
    """An accumulator that a bias may be added to."""
    return max(-(1 << 26) + 5000, min((1 << 26) - 5001, signed_corner(rng, 27)))


def tile(rng, config, post, number):
    """Lane commands with their columns, (first, second), for one tile."""
    columns = rng.randint(1, config.cols)
    start, row_tile = rng.randrange(2), rng.randrange(config.row_tiles)
    place = number * config.cols + number // 7  # any element; none comes again before all others came
    if post in (Post.SCORE, Post.KEY):
        place -= place % config.pe_depth
    fixed = {
        "start": start,
        "row_tile": row_tile,
        "post": post,
        "exponential": rng.randrange(2),
        "table_slot": rng.randrange(2),
        "tokens_left": rng.choice((0, 1, 300, 65535)),
        "kv_index": rng.randrange(config.cols),
        "blank": rng.getrandbits(config.rows) if post in (Post.REQUANT, Post.ACTIVATION) else 0,
    }
    elsewhere = rng.choice((0, 8))  # the addend's words from the destination's
    together = config.score_columns if post == Post.SCORE else 1
    for column in range(0, config.cols, together):
        command = {
            "valid": 1,
            "first": int(column == 0),
            "last": int(column + together == config.cols),
            "enabled": int(column < columns),
            "second_enabled": int(together == 2 and column + 1 < columns),
            "bias": rng.randint(-5000, 5000),
            "multiplier": rng.getrandbits(16),
            "shift": rng.choice((rng.randint(16, 30), 33, rng.randint(0, 63))),
            "address": (place // config.pe_depth) % 16 if post != Post.VALUE else number % 16,
            "element": place % config.pe_depth if post != Post.VALUE else 0,
        }
        command["addend"] = (command["address"] + elsewhere) % 16
        yield fixed | command, (accumulator(rng), accumulator(rng))
        place += together


class ReferenceLane:
    """What a lane is to write for one command after the other."""

    def __init__(self, config):
        self.config = config
        self.residual = np.zeros((config.residual_words, config.pe_depth), dtype=np.int16)
        self.maxima = {}
        self.word = {}
        self.columns = self.address = 0

    def value(self, command, column, bias):
        multiplier, shift = command["multiplier"], command["shift"]
        if command["exponential"]:
            multiplier, shift = RECIPROCALS[command["row_tile"]][0], shift + RECIPROCALS[command["row_tile"]][1]
        width = {Post.RESIDUAL: 16, Post.LOGITS: 24}.get(command["post"], 8)
        return int(Lane.model_requantize(column, bias, multiplier, min(shift, 63), width))

    def step(self, command, columns):
        value, second = self.value(command, columns[0], command["bias"]), self.value(command, columns[1], 0)
        if command["blank"] & 1:
            value = -128
        post, where = command["post"], {k: command[k] for k in ("address", "element")}
        expected = {}
        if post in (Post.REQUANT, Post.ACTIVATION, Post.SCORE) and command["enabled"]:
            if post == Post.ACTIVATION:
                value = int(Lane.model_activation(TABLES[command["table_slot"]], value))
            written = {command["element"]: value & 0xFF}
            if command["second_enabled"]:
                written[command["element"] + 1] = second & 0xFF
            expected["activation_write"] = {"address": command["address"], "bytes": written}
        if post == Post.SCORE:
            before = -128 if command["first"] and command["start"] else self.maxima.get(command["row_tile"], 0)
            scores = [before, value if command["enabled"] else -128, second if command["second_enabled"] else -128]
            self.maxima[command["row_tile"]] = int(Lane.model_row_max(scores))
        if post == Post.RESIDUAL:
            expected["statistics"] = {k: command[k] for k in ("valid", "start", "first", "last", "row_tile")} | {"value": 0}
            if command["enabled"]:
                place = command["address"] % self.config.residual_words, command["element"]
                value = int(Lane.model_residual(self.residual[command["addend"], command["element"]], value))
                self.residual[place] = value
                expected["residual_write"] = {"valid": 1, **where, "data": value & 0xFFFF}
                expected["statistics"]["value"] = value
        if post == Post.LOGITS and (command["enabled"] or command["last"]):
            expected["logits"] = {"valid": command["enabled"], "last": command["last"], "value": value}
        if post in (Post.KEY, Post.VALUE):
            word = self.assemble(command, value)
            if word:
                expected["collector"] = word
        return expected

    def assemble(self, command, value):
        key, whole = command["post"] == Post.KEY, self.config.cols % self.config.pe_depth == 0
        if command["first"]:
            self.word, self.columns, self.address = {}, 0, command["address"]
        if command["enabled"]:
            self.word[command["element"] if key and not whole else self.columns] = value
        self.columns += 1
        if not (command["last"] or (key and not whole and command["element"] == self.config.pe_depth - 1)):
            return None
        word, self.word = self.word, {}
        if not word or not command["tokens_left"]:
            return None
        return {
            "valid": 1,
            "value": int(not key),
            "index": command["kv_index"],
            "address": self.address if whole else command["address"],
            "bytes": word,
        }


def comparable(name, answer):
    """An output that says something, as `ReferenceLane` tells it."""
    if name == "activation_write":
        element = answer["element"]
        written = {element: answer["second" if element % 2 else "data"]}
        if answer["second_valid"]:
            written[element + 1] = answer["second"]
        return {"address": answer["address"], "bytes": written}
    if name != "collector":
        return answer
    mask, data = answer.pop("mask"), answer.pop("data")
    written = [byte for byte in range(mask.bit_length()) if mask >> byte & 1]
    signed = {byte: ((data >> (8 * byte) & 0xFF) ^ 0x80) - 0x80 for byte in written}
    return answer | {"bytes": signed}


def steps(rng, config, tiles):
    """Per cycle (command, column), with gaps between some tiles and, seldom, within them."""
    for number in range(tiles):
        for step in tile(rng, config, rng.choice(list(Post)), number):
            yield step
            if rng.random() < 0.02:
                yield {}, (0, 0)
        yield from [({}, (0, 0))] * rng.choice((0, 0, 0, 1, 5))


async def write_tables(ctx, harness, rng):
    for slot, table in enumerate(TABLES):
        for index, entry in enumerate(table):
            await ctx.tick()
            ctx.set(
                harness.table_write,
                {"valid": 1, "exponential": 0, "slot": slot, "index": index, "data": int(entry) & 0xFF},
            )
            if index % 8 == slot:  # none of a lane's
                await ctx.tick()
                ctx.set(harness.table_write, {"valid": 1, "exponential": 1, "slot": slot, "index": index, "data": 77})
    await ctx.tick()
    ctx.set(harness.table_write, {})


@pytest.mark.parametrize(
    ("cols", "depth", "row_tiles"),
    [(4, 4, 3), (1, 1, 1), (5, 3, 2), (3, 8, 1), (8, 2, 2), (6, 4, 1)],
    ids=lambda value: str(value),
)
def test_every_post(cols, depth, row_tiles):
    rng = seeded(100 * cols + depth)
    config = small_config(cols=cols, pe_depth=depth, row_tiles=row_tiles)
    harness, reference = cached(LaneWithBank, config), ReferenceLane(config)
    stream = list(steps(rng, config, 1500 // (cols + 2)))
    expected = [reference.step(*step) if step[0] else {} for step in stream]
    seen = set()

    async def bench(ctx):
        await write_tables(ctx, harness, rng)
        lane = harness.lane
        accumulators, reciprocal = Cat(harness.column, harness.second), Cat(lane.quotient, lane.exponent)
        reciprocal_row_tile, quotient_width = lane.reciprocal_row_tile, len(lane.quotient)
        outputs = {name: getattr(lane, name) for name in OUTPUTS}
        told = {name: output.valid | (output.last if name == "logits" else 0) for name, output in outputs.items()}
        for cycle in range(len(stream) + LANE_LATENCY - 1):
            command, columns = stream[cycle] if cycle < len(stream) else ({}, (0, 0))
            ctx.set(harness.command, command)
            ctx.set(accumulators, columns[0] & ((1 << 27) - 1) | (columns[1] & ((1 << 27) - 1)) << 27)
            quotient, exponent = RECIPROCALS[ctx.get(reciprocal_row_tile) % row_tiles]
            ctx.set(reciprocal, quotient | exponent << quotient_width)
            answers = {name: comparable(name, plain(ctx.get(outputs[name]))) for name in OUTPUTS if ctx.get(told[name])}
            wanted = expected[cycle - LANE_LATENCY + 1] if cycle >= LANE_LATENCY - 1 else {}
            assert answers == wanted, (cycle, stream[cycle - LANE_LATENCY + 1])
            seen.update(answers)
            await ctx.tick()
        for row_tile, maximum in reference.maxima.items():
            ctx.set(lane.max_row_tile, row_tile)
            assert ctx.get(lane.row_max) == maximum

    simulate(harness, bench)
    assert seen == set(OUTPUTS)


def test_row_max_is_there_after_the_latency():
    config = small_config(cols=2)
    harness = cached(LaneWithBank, config)

    async def bench(ctx):
        lane = harness.lane
        ctx.set(lane.max_row_tile, 1)
        command = {
            "valid": 1,
            "first": 1,
            "last": 1,
            "start": 1,
            "enabled": 1,
            "post": Post.SCORE,
            "multiplier": 1,
            "row_tile": 1,
        }
        for score in (-100, 50, -3):
            ctx.set(harness.command, command)
            ctx.set(harness.column, score & ((1 << 27) - 1))
            for _ in range(LANE_LATENCY):
                await ctx.tick()
                ctx.set(harness.command, {})
            assert ctx.get(lane.row_max) == score

    simulate(harness, bench)

"""The collector: words of K and V on their way down, with tiles as close as `Timing.drain_interval` allows."""

from math import gcd

from amaranth.hdl import Array, Mux, Signal
from amaranth.lib import data

from hw.config import AcceleratorConfig
from hw.formal.fifos import Follower
from hw.formal.harness import Harness, Opened, drive_freely
from hw.formal.proof import Mutant, Proof
from hw.formal.read_master import machine
from hw.isa import Post
from hw.row.collector_stage import CollectorStage
from hw.timing import Timing

_MODULE = "hw.row.collector_stage"


def _places(opened: Opened) -> int:
    """Words that a stage's FIFO holds; one place is a register."""
    try:
        opened.signal("waiting")
    except KeyError:
        return len(opened.rows("fifo"))
    return 1


def _stage(config: AcceleratorConfig):
    """One stage that is never given a word while it is full."""

    def describe(h: Harness) -> None:
        stage = CollectorStage(config)
        opened = h.add(stage)
        drive_freely(h.m, stage)
        m, places = h.m, config.key_slots_per_tile
        held = Signal(range(places + 2))
        pop = stage.below.valid & ~h.past(stage.above.valid)
        # A word leaves the FIFO one cycle before it is seen below.
        take = ~stage.above.valid & (held != 0)
        m.d.sync += held.eq(held + stage.word.valid - take)
        h.assume(~stage.word.valid | (held != places) | take)
        h.prove(
            "what comes from above goes on one cycle later, unchanged",
            ~h.past(stage.above.valid) | (stage.below.as_value() == h.past(stage.above)),
        )
        h.prove(
            "an own word goes down whenever the slot from above is empty and one waits",
            stage.below.valid == h.past(stage.above.valid | take),
        )
        follower = Follower(h, push=stage.word.valid, pop=take, data=stage.word, level=held)
        left, data = h.past(follower.leaves), h.past(follower.data)
        h.prove("any own word goes down once, unchanged and in order", ~left | (pop & (stage.below.as_value() == data)))
        h.invariant("the level is counted", (opened.signal("level") == held) & (held <= places))
        h.invariant("the element is among the words", ~follower.inside | ((follower.ahead < held) & follower.data[0]))
        if places == 1:
            stored = opened.signal("waiting")
        else:
            write, read = opened.signal("write_place"), opened.signal("read_place")
            ahead = read + held
            h.invariant("places are in range", (read < places) & (write == Mux(ahead >= places, ahead - places, ahead)))
            where = read + follower.ahead
            stored = Array(opened.rows("fifo"))[Mux(where >= places, where - places, where)]
        h.invariant("the element is in its place", ~follower.inside | (stored == follower.data))

    return describe


def _chain(config: AcceleratorConfig):
    """All rows, each with any subset of the words of row 0's tiles, one cycle later per row; where a slot holds several words,
    which rows that share a bank must not write at once, with those of the first rows."""

    def describe(h: Harness) -> None:
        m, timing = h.m, Timing(config)
        rows, cols, depth = config.rows, config.cols, config.pe_depth
        intervals = {post: timing.drain_interval(post, False) for post in (Post.KEY, Post.VALUE)}
        greatest = max(intervals.values())
        since = Signal(range(greatest + 1), init=greatest)
        value, position, bank = Signal(), Signal(range(max(depth, 2))), Signal(range(cols))
        starts = h.any_value(1, "starts")
        interval = Mux(value, intervals[Post.VALUE], intervals[Post.KEY])
        h.assume(~starts | (since + 1 >= interval))
        first = h.any_value(range(max(depth, 2)), "first_element")
        h.assume((first < depth) & Array([int(element % gcd(cols, depth) == 0) for element in range(1 << len(first))])[first])
        first_bank = h.any_value(range(cols), "first_bank")
        h.assume(first_bank < cols)
        with m.If(starts):
            m.d.sync += [since.eq(0), value.eq(h.any_value(1, "post")), position.eq(first), bank.eq(first_bank)]
        with m.Elif(since != greatest):
            m.d.sync += since.eq(since + 1)
        # Where a tile's channels are whole words of K, they leave together.
        full = Array([int(cols % depth != 0 and element % depth == depth - 1) for element in range(cols + depth)])
        word = (since < cols) & ((since == cols - 1) | (~value & full[position + since]))

        stages = [CollectorStage(config) for _ in range(rows)]
        opened = [h.add(stage) for stage in stages]
        above = stages[0]
        for row, stage in enumerate(stages):
            if row:
                word, value, bank = h.past(word), h.past(value), h.past(Mux(bank == cols - 1, 0, bank + 1))
                m.d.comb += stage.above.eq(above.below)
            valid = word & h.any_value(1, f"exists_{row}")
            if config.key_slot_words > 1:
                word = valid  # rows without a token are the last ones
            m.d.comb += [
                stage.word.valid.eq(valid),
                stage.word.value.eq(value),
                stage.word.index.eq(bank),
            ]
            above = stage
            level, places = opened[row].signal("level"), _places(opened[row])
            taken = (level != 0) & ~stage.above.valid
            h.prove("every word finds a place in its row's FIFO", ~stage.word.valid | (level < places) | taken)
        earlier = slot = above.below
        for _ in range(1, config.key_slot_words):
            earlier = data.View(earlier.shape(), h.past(earlier))
            meets = slot.valid & earlier.valid & ~earlier.value & (slot.value | (slot.index == earlier.index))
            h.prove("no slot comes for a bank that a slot of several words still writes", ~meets)

    return describe


_SHAPES = ((1, 1, 1, 12), (2, 3, 2, 40), (5, 2, 2, 40), (3, 4, 4, 40), (3, 2, 4, 40), (6, 4, 1, 40))
"""Rows, columns, depth; cycles."""
_CHAIN_MUTANTS = {
    (2, 3, 2): (
        Mutant(
            "a place too few",
            _MODULE,
            "places = self.config.key_slots_per_tile",
            "places = self.config.key_slots_per_tile - 1",
        ),
        Mutant(
            "tiles of several slots too close",
            "hw.timing",
            "config.rows * (slots - j) + column - step",
            "config.rows * (slots - j - 1) + column - step",
        ),
    ),
    (5, 2, 2): (
        Mutant(
            "tiles of one slot too close", "hw.timing", "            return config.rows\n", "            return config.rows - 1\n"
        ),
    ),
    (6, 4, 1): (Mutant("no time for a slot's further words", "hw.timing", "+ config.key_slot_words - 1)", ")"),),
}

PROOFS = (
    *(
        Proof(
            f"collector-stage-{cols}x{depth}",
            "hw.row.collector_stage.CollectorStage",
            f"cols {cols}, depth {depth}, kv_words 2, key_slots_per_tile {places}",
            _stage(machine(cols=cols, pe_depth=depth, kv_words=2)),
            3,
            family="collector-stage",
            mutants=(
                Mutant(
                    "the FIFO goes before the row above",
                    _MODULE,
                    "take.eq(~self.above.valid & (level != 0))",
                    "take.eq(level != 0)",
                ),
                Mutant("the ring wraps late", _MODULE, "place == places - 1", "place == places"),
            )
            if places == 3
            else (),
        )
        for cols, depth, places in ((1, 1, 1), (4, 2, 1), (3, 2, 2), (7, 3, 3))
    ),
    *(
        Proof(
            f"collector-{rows}x{cols}x{depth}",
            "hw.row.collector_stage.CollectorStage",
            f"chain of {rows} rows, cols {cols}, depth {depth}; tiles of K and V in any order at Timing.drain_interval or more",
            _chain(machine(rows=rows, cols=cols, pe_depth=depth, kv_words=2)),
            cycles,
            bounded=True,
            family="collector",
            search=cycles,
            slow=rows == 6,
            mutants=_CHAIN_MUTANTS.get((rows, cols, depth), ()),
        )
        for rows, cols, depth, cycles in _SHAPES
    ),
)

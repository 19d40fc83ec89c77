"""FIFOs: nothing is lost, doubled or reordered, and the level is right."""

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered

from hw.formal.harness import Harness
from hw.formal.proof import Mutant, Proof

_LIBRARY = "amaranth.lib.fifo"
WIDTH = 2
"""Bits of an entry; entries are symbolic, so order does not depend on it."""


class Follower:
    """A symbolic element on its way through a queue: any one entry, chosen when it is pushed.

    Args:
        h: where the registers go.
        push, pop: an entry enters, leaves.
        data: the entry that enters.
        level: entries in the queue before this cycle's push and pop.

    Attributes:
        inside: the element is in the queue.
        ahead: entries before it.
        data: what it is.
    """

    def __init__(self, h: Harness, *, push, pop, data, level):
        m = h.m
        self.inside, chosen = Signal(name="inside"), Signal(name="chosen")
        self.ahead, self.data = Signal(len(level), name="ahead"), Signal(len(Value.cast(data)), name="chosen_data")
        self.leaves = self.inside & pop & (self.ahead == 0)
        with m.If(push & ~chosen & h.any_value(1, "choose")):
            m.d.sync += [chosen.eq(1), self.inside.eq(1), self.data.eq(data), self.ahead.eq(level - pop)]
        with m.Elif(self.inside & pop):
            m.d.sync += [self.ahead.eq(self.ahead - 1), self.inside.eq(self.ahead != 0)]


def _modular(value, depth: int):
    return Mux(value >= depth, value - depth, value)


def _queue(h: Harness, fifo, depth: int) -> tuple[Follower, Signal]:
    """The environment of a FIFO, the properties that both kinds share, and the number of entries by counting."""
    m: Module = h.m
    m.d.comb += [
        fifo.w_en.eq(h.any_value(1, "write")),
        fifo.r_en.eq(h.any_value(1, "read")),
        fifo.w_data.eq(h.any_value(WIDTH, "data")),
    ]
    push, pop = Signal(), Signal()
    m.d.comb += [push.eq(fifo.w_en & fifo.w_rdy), pop.eq(fifo.r_en & fifo.r_rdy)]
    held = Signal(range(depth + 2))
    m.d.sync += held.eq(held + push - pop)
    h.prove("the level is the number of entries pushed and not popped, at most the depth", (fifo.level == held) & (held <= depth))
    h.prove("nothing can be read from an empty queue", ~fifo.r_rdy | (held != 0))
    h.prove("an entry that waits unread stays the same", h.held(fifo.r_rdy, fifo.r_en, fifo.r_data))
    follower = Follower(h, push=push, pop=pop, data=fifo.w_data, level=held)
    h.prove(
        "any entry comes out once, unchanged, after those before it and before those after it",
        ~follower.leaves | (fifo.r_data == follower.data),
    )
    h.invariant("the element is among the entries", ~follower.inside | (follower.ahead < held))
    return follower, held


def _plain(depth: int):
    def describe(h: Harness) -> None:
        fifo = SyncFIFO(width=WIDTH, depth=depth)
        opened = h.add(fifo)
        follower, held = _queue(h, fifo, depth)
        h.prove(
            "it can be written unless full and read unless empty", (fifo.w_rdy == (held != depth)) & (fifo.r_rdy == (held != 0))
        )
        h.prove("any entry comes out as soon as those before it have", ~(follower.inside & (follower.ahead == 0)) | fifo.r_rdy)
        if depth > 1:
            produce, consume = opened.signal("produce"), opened.signal("consume")
            h.invariant("addresses are in range", (produce < depth) & (consume < depth))
            h.invariant("write address = read address + level", produce == _modular(consume + held, depth))
            place = _modular(consume + follower.ahead, depth)
        else:
            place = 0
        rows = Array(opened.rows("storage"))
        h.invariant("the element is in its place", ~follower.inside | (rows[place] == follower.data))

    return describe


def _buffered(depth: int):
    def describe(h: Harness) -> None:
        fifo = SyncFIFOBuffered(width=WIDTH, depth=depth)
        opened = h.add(fifo)
        follower, held = _queue(h, fifo, depth)
        inner, produce, consume = (opened.signal(name) for name in ("inner_level", "produce", "consume"))
        pushed = h.past(fifo.w_en & fifo.w_rdy)
        h.prove("it can be written while fewer than depth - 1 entries are in it", (held >= depth - 1) | fifo.w_rdy)
        h.prove(
            "an entry can be read two cycles after it was pushed at the latest, those before it read",
            (held == 0) | fifo.r_rdy | pushed,
        )
        h.invariant("the output register holds the entry that the memory does not", (held == inner + fifo.r_rdy) & (inner < depth))
        if depth > 2:
            h.invariant("addresses are in range", (produce < depth - 1) & (consume < depth - 1))
            h.invariant("write address = read address + level", produce == _modular(consume + inner, depth - 1))
        place = _modular(consume + follower.ahead - fifo.r_rdy, depth - 1) if depth > 2 else 0
        rows = Array(opened.rows("storage"))
        in_register = fifo.r_rdy & (follower.ahead == 0)
        stored = Mux(in_register, fifo.r_data, rows[place])
        h.invariant("the element is in its place", ~follower.inside | (stored == follower.data))

    return describe


_PLAIN_MUTANTS = (
    Mutant("writes into a full queue", _LIBRARY, "self.w_rdy.eq(self.level != self.depth),", "self.w_rdy.eq(1),"),
    Mutant(
        "the level forgets a read",
        _LIBRARY,
        "with m.If(do_read & ~do_write):\n            m.d.sync += self.level.eq(self.level - 1)",
        "with m.If(0):\n            m.d.sync += self.level.eq(self.level - 1)",
    ),
)
_BUFFERED_MUTANTS = (
    Mutant(
        "reads the memory while the output register is in use",
        _LIBRARY,
        "do_inner_read  = inner_r_rdy & (~self.r_rdy | self.r_en)",
        "do_inner_read  = inner_r_rdy",
    ),
    Mutant("writes into a full queue", _LIBRARY, "self.w_rdy.eq(inner_level != inner_depth),", "self.w_rdy.eq(1),"),
)

PROOFS = (
    *(
        Proof(
            f"sync-fifo-{depth}",
            "amaranth.lib.fifo.SyncFIFO",
            f"{depth} entries of {WIDTH} bits",
            _plain(depth),
            2,
            family="sync-fifo",
            mutants=_PLAIN_MUTANTS if depth == 3 else (),
        )
        for depth in (1, 2, 3, 4, 8, 16, 18)
    ),
    *(
        Proof(
            f"sync-fifo-buffered-{depth}",
            "amaranth.lib.fifo.SyncFIFOBuffered",
            f"{depth} entries of {WIDTH} bits",
            _buffered(depth),
            2,
            family="sync-fifo-buffered",
            mutants=_BUFFERED_MUTANTS if depth == 4 else (),
            slow=depth > 64,
        )
        for depth in (3, 4, 8, 16, 64, 128)
    ),
)
"""Depths: `BurstReader.finals` outstanding, `beats` outstanding x burst_beats (or 3), `SegmentReader.flying` 2 x outstanding + 2,
queues ``queue_depth``, placements 4; those of the presets, and the odd ones."""

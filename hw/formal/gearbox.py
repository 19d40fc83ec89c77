"""Gearbox and the drain sequencer's queue: no unit, no tile command lost on the way."""

from amaranth.hdl import Array, Mux, Signal

from hw.config import AcceleratorConfig
from hw.control.drain_sequencer import DrainSequencer
from hw.formal.harness import Harness, drive_freely
from hw.formal.proof import Mutant, Proof
from hw.formal.read_master import machine
from hw.isa import Post
from hw.memory.gearbox import Gearbox

_GEARBOX = "hw.memory.gearbox"
_DRAIN = "hw.control.drain_sequencer"


def _gearbox(unit_width: int, beat_units: int, word_units: tuple[int, ...]):
    """Any runs of one size or another, one unit of one run followed through."""

    def describe(h: Harness) -> None:
        gearbox = Gearbox(unit_width=unit_width, beat_units=beat_units, word_units=word_units)
        opened = h.add(gearbox)
        drive_freely(h.m, gearbox)
        m = h.m
        beat, word = gearbox.beats.payload, gearbox.words.payload
        pushed, popped = Signal(), Signal()
        m.d.comb += [pushed.eq(gearbox.beats.valid & gearbox.beats.ready), popped.eq(gearbox.words.valid & gearbox.words.ready)]
        h.assume((beat.count != 0) & (beat.first + beat.count <= beat_units) & (beat.size < len(word_units)))
        run = Signal()  # in the middle of a run
        size = Signal(len(beat.size))
        with m.If(pushed):
            m.d.sync += [run.eq(~beat.last), size.eq(beat.size)]
        h.assume(~run | (beat.size == size))

        # Units inside, with the zeros that fill up the last word of a run.
        def chosen(values, index):
            return Array([*values, *([values[0]] * ((1 << len(beat.size)) - len(word_units)))])[index]

        inside = Signal(6)  # more than can come in the cycles that are looked at
        most = max(word_units)
        phase, position = Signal(range(most)), Signal(range(most))
        word_size, beat_size, lost = (Signal(range(most + 1)) for _ in range(3))
        added = Signal(range(beat_units + most))
        m.d.comb += [
            word_size.eq(chosen(word_units, opened.signal("size_index"))),
            beat_size.eq(chosen(word_units, beat.size)),
            position.eq(chosen([(phase + beat.count) % units for units in word_units], beat.size)),
            added.eq(beat.count + Mux(beat.last & (position != 0), beat_size - position, 0)),
            lost.eq(Mux(popped, word_size, 0)),
        ]
        m.d.sync += inside.eq(inside + Mux(pushed, added, 0) - lost)
        with m.If(pushed):
            m.d.sync += phase.eq(Mux(beat.last, 0, position))
        shown = word.data & ((1 << (word_size * unit_width)) - 1)[: len(word.data)]
        h.prove("a word that waits stays the same", h.held(gearbox.words.valid, gearbox.words.ready, shown, word.last, word.final))
        h.prove("a word only when all its units are in, or the run has ended", ~gearbox.words.valid | (inside >= word_size))

        # Any one unit, or one of those zeros: how many are before it.
        unit = h.any_constant(range(beat_units + most), "unit")
        followed, taken, known, ends, final = (Signal(name=name) for name in ("followed", "taken", "known", "ends", "final"))
        value, before = Signal(unit_width), Signal.like(inside)
        with m.If(pushed & ~taken & (unit < added) & h.any_value(1, "choose")):
            m.d.sync += [
                taken.eq(1),
                followed.eq(1),
                before.eq(inside - lost + unit),
                known.eq(beat.last),
                value.eq(Mux(unit < beat.count, (beat.data >> ((beat.first + unit) * unit_width))[:unit_width], 0)),
                ends.eq(unit + beat_size >= added),
                final.eq(beat.final),
            ]
        with m.Elif(followed & popped):
            m.d.sync += [before.eq(before - word_size), followed.eq(before >= word_size)]
        out = followed & gearbox.words.valid & (before < word_size)
        h.prove(
            "any unit comes out once, unchanged and in order, a run's last word filled up with zeros",
            ~out | ((word.data >> (before * unit_width))[:unit_width] == value),
        )
        h.prove(
            "`last` and `final` mark the last word of a run",
            ~(out & known) | ((word.last == ends) & (word.final == (ends & final))),
        )

    return describe


def _drain(config: AcceleratorConfig, *, columns: bool):
    """Tiles as close as the interface allows; with ``columns`` their columns too, of scores two a cycle."""

    def describe(h: Harness) -> None:
        drain = DrainSequencer(config)
        opened = h.add(drain)
        cols, tile = config.cols, drain.tile
        drive_freely(h.m, drain, but=("tile",) if columns else ())
        if columns:  # of what a tile says, this alone counts
            post = Mux(h.any_value(1, "is_score"), Post.SCORE, Post.KEY)
            h.m.d.comb += [tile.valid.eq(h.any_value(1, "comes")), tile.post.eq(post)]
        closest = cols // config.score_columns
        arrivals, turn = opened.signal("arrivals"), opened.signal("r_en")
        newest, since = Signal(), Signal(range(cols + 1), init=cols)
        h.m.d.sync += [
            newest.eq(Mux(tile.valid, tile.post == Post.SCORE, newest)),
            since.eq(Mux(tile.valid, 1, Mux(since == cols, cols, since + 1))),
        ]
        h.assume(~tile.valid | (since >= Mux(newest, closest, cols)))
        h.prove("a tile command finds a place in the queue", ~tile.valid | opened.signal("waiting.w_rdy"))
        h.prove("a tile's turn finds its command in the queue", ~turn | opened.signal("waiting.r_rdy"))
        if columns:
            busy = opened.signal("running") & ~opened.signal("final")
            h.prove("a tile's turn does not come before the columns of the one before", ~turn | ~busy)
        h.invariant("ages exist", (since != 0) & (since <= cols))
        h.invariant("every command in the queue is on its way", opened.signal("waiting.level") == sum(arrivals))
        for distance in range(1, closest):
            h.invariant("tiles on their way are apart", (arrivals & (arrivals >> distance)) == 0)
        for recent in range(1, min(closest, len(arrivals) + 1)):
            known = arrivals[recent - 1]
            h.invariant("the newest command's age is known", Mux(since == recent, known, (since < recent) | ~known))

    return describe


PROOFS = (
    *(
        Proof(
            f"gearbox-{beats}to{'-'.join(map(str, words))}",
            "hw.memory.gearbox.Gearbox",
            f"units of 1 bit, beats of {beats}, words of {' or '.join(map(str, words))} units; one unit followed",
            _gearbox(1, beats, words),
            depth,
            bounded=True,
            search=depth,
            family="gearbox",
            mutants=(
                Mutant("the first unit is not moved down", _GEARBOX, "self.beats.payload.first * unit)) & kept", "0)) & kept"),
                Mutant(
                    "takes a beat into a full buffer", _GEARBOX, "(~flush | emptied) & (remaining < most)", "(~flush | emptied)"
                ),
                Mutant(
                    "the next run enters before the last word left",
                    _GEARBOX,
                    "(~flush | emptied) & (remaining < most)",
                    "(remaining < most)",
                ),
            )
            if beats == 4
            else (),
        )
        for beats, words, depth in ((4, (3,), 9), (2, (1, 4), 8), (1, (2,), 14))
    ),
    *(
        Proof(
            f"drain-sequencer-{cols}x{depth}",
            "hw.control.drain_sequencer.DrainSequencer",
            f"cols {cols}, depth {depth}; any tiles",
            _drain(machine(cols=cols, pe_depth=depth), columns=False),
            4,
            family="drain-sequencer",
            search=60,
            mutants=(
                Mutant(
                    "places for plain tiles alone", _DRAIN, "ceil_div(delay, config.cols // pace)", "ceil_div(delay, config.cols)"
                ),
            )
            if cols == 4
            else (),
        )
        for cols, depth in ((1, 1), (4, 4), (16, 8))
    ),
    *(
        Proof(
            f"drain-columns-{cols}x{depth}",
            "hw.control.drain_sequencer.DrainSequencer",
            f"cols {cols}, depth {depth}; scores and other tiles in any order",
            _drain(machine(cols=cols, pe_depth=depth), columns=True),
            30,
            bounded=True,
            family="drain-columns",
            search=30,
            slow=cols == 4,
            mutants=(Mutant("scores leave column by column", _DRAIN, "step = Mux(wide, 2, 1)", "step = 1"),) if cols == 4 else (),
        )
        for cols, depth in ((3, 2), (4, 4))
    ),
)

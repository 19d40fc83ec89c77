"""Credits: what the issue may take, and what may be overwritten, from counters alone."""

from amaranth.hdl import Array, Mux, Signal

from hw.config import TABLE_ENTRIES, TABLE_SLOTS, AcceleratorConfig
from hw.control.table_credits import TableCredits
from hw.formal.harness import Harness, drive_freely
from hw.formal.proof import Mutant, Proof
from hw.formal.read_master import machine
from hw.memory.word_placer import ParameterPlacer, TablePlacer

_TABLES = "hw.control.table_credits"
_PLACER = "hw.memory.word_placer"


class Window:
    """Slots of a ring that are taken in turn and given back in turn, by counting.

    Args:
        h: where the registers go.
        slots: of the ring.
        take, give: a slot is taken, the oldest one given back.
        name: of the registers.

    Attributes:
        used: slots taken and not given back.
        oldest: the slot that is given back next.
        newest: the slot that is taken next.
    """

    def __init__(self, h: Harness, slots: int, take, give, name: str = "window"):
        self.slots = slots
        self.used = Signal(range(slots + 2), name=f"{name}_used")
        self.oldest, self.newest = Signal(range(slots), name=f"{name}_oldest"), Signal(range(slots), name=f"{name}_newest")
        h.m.d.sync += self.used.eq(self.used + take - give)
        for pointer, step in ((self.oldest, give), (self.newest, take)):
            with h.m.If(step):
                h.m.d.sync += pointer.eq(Mux(pointer == slots - 1, 0, pointer + 1))
        ahead = self.oldest + self.used
        h.invariant(
            "taken slots lie between the oldest and the next",
            (self.used <= slots) & (self.oldest < slots) & (self.newest == Mux(ahead >= slots, ahead - slots, ahead)),
        )

    def holds(self, slot):
        """Whether a slot is taken."""
        distance = slot - self.oldest
        return Mux(slot >= self.oldest, distance, distance + self.slots) < self.used


def _table_credits(delay: int):
    def describe(h: Harness) -> None:
        credits = TableCredits(delay)
        opened = h.add(credits)
        drive_freely(h.m, credits)
        m = h.m
        # The loader: at most two tables that are not released. The issue: begins with what is available, ends what it began.
        used, ready, busy = Signal(3), Signal(3), Signal()
        m.d.sync += [used.eq(used + credits.loaded - credits.release), ready.eq(ready + credits.loaded - credits.begin)]
        m.d.sync += busy.eq((busy | credits.begin) & ~credits.end)
        h.assume(~credits.loaded | (used < TABLE_SLOTS))
        h.assume(~credits.begin | (credits.available & ~busy))
        h.assume(~credits.end | busy | credits.begin)
        h.prove("a table is available exactly while one is loaded that no GEMM began with", credits.available == (ready != 0))
        h.prove("never more than two tables are loaded, none below zero", (ready <= TABLE_SLOTS) & (used <= TABLE_SLOTS))
        ended = Signal(3)
        m.d.sync += ended.eq(ended + credits.end - credits.release)
        h.prove("only a table that its GEMM ended with is released", ~credits.release | (ended != 0))
        quiet, waited = Signal(range(delay + 2)), Signal(range(4 * delay + 8))
        m.d.sync += quiet.eq(Mux(credits.end, 0, Mux(quiet > delay, quiet, quiet + 1)))
        h.prove("a table is released no earlier than `delay` cycles after any end", ~credits.release | (quiet >= delay))
        m.d.sync += waited.eq(Mux((ended == 0) | credits.end | credits.release, 0, waited + 1))
        h.prove("every table is released, `delay` cycles after the last end", waited <= delay)
        # The slots by counting: loaded into in turn, begun with in turn.
        place = Signal()
        m.d.sync += place.eq(place ^ credits.end)
        h.prove("GEMMs use the slots in the order in which they are loaded", credits.slot == place)
        h.invariant("each table is ready, at work or ended", used == ready + busy + ended)
        h.invariant("credits are counts", (opened.signal("credit") == ready) & (opened.signal("owed") == ended))
        wait = opened.signal("wait")
        h.invariant(
            "the wait is counted",
            (wait <= delay) & ((wait == 0) | (quiet == delay - wait)) & ((wait != 0) | (quiet >= delay) | (ended == 0)),
        )
        h.invariant("waiting is counted", (ended == 0) | (waited <= quiet))

    return describe


def _parameters(config: AcceleratorConfig):
    def describe(h: Harness) -> None:
        placer = ParameterPlacer(config)
        opened = h.add(placer)
        drive_freely(h.m, placer)
        slots, cols = config.parameter_tiles, config.cols
        m = h.m
        h.assume(~placer.fire | placer.room)
        column = Signal(range(cols))
        take, end = Signal(), Signal()
        m.d.comb += [take.eq(placer.fire & (column == 0)), end.eq(placer.fire & (column == cols - 1))]
        with m.If(placer.fire):
            m.d.sync += column.eq(Mux(end, 0, column + 1))
        filled = Window(h, slots, take, placer.release, "filled")
        whole = Signal(range(slots + 2))
        m.d.sync += whole.eq(whole + placer.tile_done - placer.release)
        h.assume(~placer.release | (whole != 0))
        _placing(h, placer, filled, column, whole)
        h.prove(
            "room exactly while the slot of the next entry is free or begun",
            placer.room == ((filled.used != slots) | (column != 0)),
        )
        h.invariant("columns are counted", opened.signal("column") == column)
        h.invariant("places are counted", opened.signal("free") + filled.used == slots)
        late = Signal()
        m.d.sync += late.eq(end)
        h.invariant("whole slots are taken ones, but for the one at work", whole + (column != 0) + late == filled.used)
        h.invariant("a slot ends as it should", placer.tile_done == late)
        current = Mux(column != 0, Mux(filled.newest == 0, slots - 1, filled.newest - 1), filled.newest)
        h.invariant("the slot at work is known", opened.signal("slot") == current)

    return describe


def _placing(h: Harness, placer, filled: Window, column, whole) -> None:
    """Writes go where nobody reads."""
    m = h.m
    h.prove(
        "no more slots are filled than there are, none given back twice", (filled.used <= filled.slots) & (whole <= filled.used)
    )
    # The oldest slots, `whole` of them, are in use; a write leaves a register, so it is compared with what holds by then.
    at_write = Signal(range(filled.slots + 2))
    m.d.comb += at_write.eq(
        Mux(placer.write.slot >= filled.oldest, placer.write.slot - filled.oldest, placer.write.slot + filled.slots - filled.oldest)
    )
    h.prove("no write touches a slot that is loaded and not released", ~placer.write.valid | (at_write >= whole))


def _tables(h: Harness) -> None:
    placer = TablePlacer(machine())
    opened = h.add(placer)
    drive_freely(h.m, placer)
    m = h.m
    index = Signal(range(TABLE_ENTRIES))
    m.d.sync += index.eq(index + placer.fire)
    h.assume(~placer.fire | placer.room)
    h.assume((index == 0) | (placer.exponential == h.past(placer.exponential)))
    windows = []
    for kind in range(2):
        chosen = placer.fire & (placer.exponential == kind)
        filled = Window(h, TABLE_SLOTS, chosen & (index == 0), placer.release[kind], f"kind_{kind}")
        windows.append(filled)
        whole = Signal(range(TABLE_SLOTS + 2), name=f"whole_{kind}")
        m.d.sync += whole.eq(whole + placer.done[kind] - placer.release[kind])
        h.assume(~placer.release[kind] | (whole != 0))
        late = h.past(chosen & (index == TABLE_ENTRIES - 1))
        begun = (index != 0) & (placer.exponential == kind)
        h.prove(
            "no more slots of a kind are filled than there are, none given back twice",
            (filled.used <= TABLE_SLOTS) & (whole <= filled.used),
        )
        mine = placer.write.valid & (placer.write.exponential == kind)
        distance = placer.write.slot ^ filled.oldest
        h.prove("no write touches a slot that is loaded and not released", ~mine | (distance >= whole))
        h.prove("a table is done with its last entry", placer.done[kind] == late)
        h.invariant("whole slots are taken ones, but for the one at work", whole + begun + late == filled.used)
        h.invariant("places are counted", opened.signal(f"free_{kind}") + filled.used == TABLE_SLOTS)
        h.invariant("the slot at work is known", opened.signal(f"slot_{kind}") == filled.newest ^ begun)
    used = Array([window.used for window in windows])[placer.exponential]
    h.prove("room exactly while the slot of the next entry is free or begun", placer.room == ((used != TABLE_SLOTS) | (index != 0)))
    h.prove("entries of a table are written in order", ~placer.write.valid | (placer.write.index == h.past(index)))
    h.invariant("entries are counted", opened.signal("index") == index)


PROOFS = (
    *(
        Proof(
            f"table-credits-{delay}",
            "hw.control.table_credits.TableCredits",
            f"delay {delay}",
            _table_credits(delay),
            4,
            family="table-credits",
            mutants=(
                Mutant("the wait is not restarted", _TABLES, "with m.If(self.end):", "with m.If(self.end & (wait == 0)):"),
                Mutant("a slot is released twice", _TABLES, "owed.eq(owed + self.end - self.release)", "owed.eq(owed + self.end)"),
                Mutant("a credit is spent twice", _TABLES, "credit + self.loaded - self.begin", "credit + self.loaded"),
                Mutant("released at once", _TABLES, "(owed != 0) & (wait == 0)", "(owed != 0)"),
            )
            if delay == 3
            else (),
        )
        for delay in (1, 3, 30)
    ),
    *(
        Proof(
            f"parameter-placer-{slots}x{cols}",
            "hw.memory.word_placer.ParameterPlacer",
            f"parameter_tiles {slots}, cols {cols}",
            _parameters(machine(parameter_tiles=slots, cols=cols)),
            4,
            family="parameter-placer",
            mutants=(
                Mutant("a slot is given back before it is taken", _PLACER, "(column != 0) | (free != 0)", "1"),
                Mutant("the ring wraps late", _PLACER, "slot == config.parameter_tiles - 1", "slot == config.parameter_tiles"),
                Mutant("a release is forgotten", _PLACER, "free.eq(free - take + self.release)", "free.eq(free - take)"),
            )
            if slots == 3
            else (),
        )
        for slots, cols in ((2, 1), (3, 2), (64, 4))
    ),
    Proof(
        "table-placer",
        "hw.memory.word_placer.TablePlacer",
        "2 slots of 256 entries of each kind",
        _tables,
        4,
        mutants=(
            Mutant("entries out of order", _PLACER, "self.write.index.eq(index)", "self.write.index.eq(index ^ 1)"),
            Mutant("done with the first entry", _PLACER, "self.done[kind].eq(end),", "self.done[kind].eq(take),"),
        ),
    ),
)

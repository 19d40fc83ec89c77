"""One row's place on the collector: words of K and V on their way down to the weight side."""

from amaranth import Module, Mux, Signal
from amaranth.hdl import Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.commands import collector_word
from hw.config import AcceleratorConfig


class CollectorStage(wiring.Component):
    """Passes the slots of the rows above down, one row per cycle, and inserts this row's words into empty ones.

    Words wait in a FIFO of ``key_slots_per_tile``. Rows are skewed by one cycle each, as the chain is, so all rows'
    words meet in the same slots: with ``Timing.drain_interval`` between tiles no FIFO overflows.

    Where rows gather (``gathers``), a word of V that comes down while the row's byte of it waits takes that along.

    Members:
        above: the slot that comes down; registered by the row above, or never valid in row 0.
        word: this row's word, where valid.
        below: the slot that goes down, one cycle after ``above``; a row's own word comes at least two cycles after ``word``.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        layout = collector_word(config)
        super().__init__({"above": In(layout), "word": In(layout), "below": Out(layout)})

    def elaborate(self, platform):
        m = Module()
        places = self.config.key_slots_per_tile
        level = Signal(range(places + 1))
        slot = Signal(collector_word(self.config), reset_less=True)
        valid = Signal()
        take = Signal()
        oldest = self._fifo(m, places, take)
        m.d.comb += [take.eq(~self.above.valid & (level != 0)), self.below.eq(slot), self.below.valid.eq(valid)]
        same = self.above.value & oldest.value & (self.above.address == oldest.address)
        joins = self.above.valid & (level != 0) & same
        leaves = take | joins if self.config.gathers else take
        m.d.sync += [level.eq(level + self.word.valid - leaves), valid.eq(self.above.valid | take)]
        with m.If(self.above.valid):
            m.d.sync += slot.eq(self.above)
            if self.config.gathers:
                self._join(m, slot, oldest, joins)
        with m.Elif(take):
            m.d.sync += slot.eq(oldest)
        return m

    def _join(self, m: Module, slot: Signal, oldest: data.View, joins: Value) -> None:
        """Bytes of the row's word beside those that come from above."""
        with m.If(joins):
            m.d.sync += slot.mask.eq(self.above.mask | oldest.mask)
            for byte in range(self.config.pe_depth):
                with m.If(oldest.mask[byte]):
                    m.d.sync += slot.data[8 * byte : 8 * byte + 8].eq(oldest.data[8 * byte : 8 * byte + 8])

    def _fifo(self, m: Module, places: int, take: Signal):
        """The word that has waited longest."""
        if places == 1:
            word = Signal(collector_word(self.config), name="waiting", reset_less=True)
            with m.If(self.word.valid):
                m.d.sync += word.eq(self.word)
            return word
        m.submodules.fifo = fifo = Memory(
            shape=collector_word(self.config), depth=places, init=[], attrs={"ram_style": "distributed"}
        )
        write = fifo.write_port()
        read = fifo.read_port(domain="comb")
        write_place, read_place = Signal(range(places), name="write_place"), Signal(range(places), name="read_place")
        m.d.comb += [
            write.en.eq(self.word.valid),
            write.data.eq(self.word),
            write.addr.eq(write_place),
            read.addr.eq(read_place),
        ]
        for place, advance in ((write_place, self.word.valid), (read_place, take)):
            with m.If(advance):
                m.d.sync += place.eq(Mux(place == places - 1, 0, place + 1))
        return read.data

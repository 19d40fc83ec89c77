"""Which table slots are loaded, in use and free again."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class TableCredits(wiring.Component):
    """Two slots of one kind of table, used alternately from 0 on, in the order in which they are loaded.

    Args:
        delay: cycles from `end` until the slot may be overwritten; a later `end` restarts the wait.

    Members:
        loaded: one cycle high per loaded table.
        begin, end: one cycle high with the first and the last word of a GEMM that uses the table; `end` may be the same cycle.
        available: a table is loaded that no GEMM began with.
        slot: of the GEMM at work.
        release: one cycle high per slot that is free again.
    """

    loaded: In(1)
    begin: In(1)
    end: In(1)
    available: Out(1)
    slot: Out(1)
    release: Out(1)

    def __init__(self, delay: int):
        self._delay = delay
        super().__init__()

    def elaborate(self, platform) -> Module:
        m = Module()
        credit = Signal(2)  # tables loaded that no GEMM began with
        owed = Signal(2)  # tables ended with and not released
        wait = Signal(range(self._delay + 1))
        m.d.comb += [self.available.eq(credit != 0), self.release.eq((owed != 0) & (wait == 0))]
        m.d.sync += [
            credit.eq(credit + self.loaded - self.begin),
            owed.eq(owed + self.end - self.release),
            self.slot.eq(self.slot ^ self.end),
        ]
        with m.If(self.end):
            m.d.sync += wait.eq(self._delay)
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        return m

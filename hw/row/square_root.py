"""Bit-serial integer square root."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.timing import SQRT_STEPS


class SquareRoot(wiring.Component):
    """`numerics.integer_sqrt` of 54 bits, one bit of the root per cycle by long-hand extraction.

    Members:
        start: In; a start while busy begins anew.
        digits: In, the value's two bits from the top in the cycle after ``start``, the next two in the cycle after that, and so on.
        done: Out, one pulse `SQRT_STEPS` + 1 cycles after ``start``.
        root: Out, unsigned 27, valid with ``done`` and held until the next start.
    """

    start: In(1)
    digits: In(2)
    root: Out(SQRT_STEPS)
    done: Out(1)

    model = staticmethod(numerics.integer_sqrt)

    def elaborate(self, platform) -> Module:
        m = Module()
        step = Signal(range(SQRT_STEPS + 1))
        remainder = Signal(SQRT_STEPS + 1, reset_less=True)  # at most twice the root
        trial = Signal(SQRT_STEPS + 4)
        fits = Signal()
        m.d.comb += [
            trial.eq(Cat(self.digits, remainder) - Cat(1, 0, self.root)),
            fits.eq(~trial[-1]),
        ]
        m.d.sync += self.done.eq(step == SQRT_STEPS)
        with m.If(step != 0):
            m.d.sync += [
                remainder.eq(trial),
                self.root.eq(Cat(fits, self.root)),
                step.eq(step + 1),
            ]
            with m.If(~fits):
                m.d.sync += remainder.eq(Cat(self.digits, remainder))
        with m.If(step == SQRT_STEPS):
            m.d.sync += step.eq(0)
        with m.If(self.start):
            m.d.sync += [step.eq(1), remainder.eq(0), self.root.eq(0)]
        return m

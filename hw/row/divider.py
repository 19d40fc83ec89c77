"""Bit-serial divider with a normalised divisor."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.timing import DIVIDE_LATENCY

DIVISOR_WIDTH = 31
"""Most bits of a divisor."""
EXPONENT_WIDTH = 5
"""Bits of a divisor's bit length."""


class NormalizedDivider(wiring.Component):
    """`numerics.normalized_divide`, one bit per cycle: ``quotient * 2^-exponent`` is about ``multiplier / divisor``.

    A start while busy begins anew. A divisor of 0 gives exponent 0 and a meaningless quotient.

    Args:
        width: bits of a divisor, 16 to `DIVISOR_WIDTH`.

    Members:
        start: In, takes ``multiplier`` (unsigned 16) and ``divisor`` (unsigned, ``width`` bits).
        done: Out, one pulse `DIVIDE_LATENCY` cycles after ``start``.
        quotient, exponent: Out (unsigned 17 and 5), valid with ``done`` and held until the next start.
    """

    model = staticmethod(numerics.normalized_divide)

    def __init__(self, width: int = DIVISOR_WIDTH):
        self.width = width
        super().__init__(
            {
                "start": In(1),
                "multiplier": In(numerics.MULTIPLIER_WIDTH),
                "divisor": In(width),
                "quotient": Out(numerics.QUOTIENT_WIDTH),
                "exponent": Out(EXPONENT_WIDTH),
                "done": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        step = Signal(range(DIVIDE_LATENCY))
        last_step = DIVIDE_LATENCY - 1
        divisor = Signal(self.width, reset_less=True)
        # Always below twice the normalised divisor, as long division wants it.
        remainder = Signal(self.width + 1, reset_less=True)
        difference = Signal(self.width + 2)
        fits = Signal()
        m.d.comb += [difference.eq(remainder - divisor), fits.eq(~difference[-1])]
        m.d.sync += self.done.eq(0)
        with m.Switch(step):
            with m.Case(0):
                pass
            for normalising, amount in enumerate((16, 8, 4, 2, 1), start=1):
                with m.Case(normalising):
                    with m.If(divisor[-amount:] == 0):
                        m.d.sync += [divisor.eq(divisor << amount), self.exponent.eq(self.exponent - amount)]
            with m.Default():
                m.d.sync += [
                    remainder.eq(Mux(fits, difference, remainder) << 1),
                    self.quotient.eq(Cat(fits, self.quotient)),
                    self.done.eq(step == last_step),
                ]
        with m.If(self.start):
            m.d.sync += [
                step.eq(1),
                divisor.eq(self.divisor),
                remainder.eq(self.multiplier << (self.width - numerics.MULTIPLIER_WIDTH)),
                self.exponent.eq(self.width),
            ]
        with m.Elif(step == last_step):
            m.d.sync += step.eq(0)
        with m.Elif(step != 0):
            m.d.sync += step.eq(step + 1)
        return m

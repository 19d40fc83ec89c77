"""Requantization: one product, one rounding, one saturation."""

from amaranth import Module, Mux, Signal, signed, unsigned
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics

REQUANTIZER_LATENCY = 5
"""Operands to value, in cycles: sum, product, coarse shift, fine shift, rounding and saturation."""

_SUM_WIDTH = 27  # the wide operand of a DSP48E2, behind its pre-adder
_PRODUCT_WIDTH = 44


class Saturation(enum.Enum, shape=2):  # type: ignore[call-arg]  # amaranth is untyped
    """Width that a value is saturated to."""

    BYTE = 0
    RESIDUAL = 1
    LOGIT = 2


SATURATION_WIDTHS = {
    Saturation.BYTE: 8,
    Saturation.RESIDUAL: numerics.RESIDUAL_WIDTH,
    Saturation.LOGIT: numerics.LOGIT_WIDTH,
}
"""Bits of each `Saturation`."""


class Requantizer(wiring.Component):
    """`numerics.requantize`, pipelined: ``saturate((accumulator + bias) * multiplier * 2^-shift)``, rounded half up.

    One sum and one 27 x 18 product: a DSP48E2 with its pre-adder. All inputs belong to the same cycle.

    Members:
        accumulator, bias: In, signed 27; their sum must fit 27 bits too.
        multiplier: In, unsigned 17.
        shift: In, unsigned 7; 63 and above give 0.
        saturation: In, `Saturation`.
        value: Out, signed 24, `REQUANTIZER_LATENCY` cycles later.
    """

    accumulator: In(signed(_SUM_WIDTH))
    bias: In(signed(_SUM_WIDTH))
    multiplier: In(numerics.QUOTIENT_WIDTH)
    shift: In(numerics.SHIFT_WIDTH + 1)
    saturation: In(Saturation)
    value: Out(signed(numerics.LOGIT_WIDTH))

    model = staticmethod(numerics.requantize)

    def elaborate(self, platform) -> Module:
        m = Module()
        total = Signal(signed(_SUM_WIDTH), reset_less=True)
        multiplier = Signal(signed(numerics.QUOTIENT_WIDTH + 1), reset_less=True)
        product = Signal(signed(_PRODUCT_WIDTH), reset_less=True)
        # One bit below the result's last, so that the rounding bit survives the shift.
        coarse = Signal(signed(_PRODUCT_WIDTH + 1), reset_less=True)
        fine = Signal(signed(_PRODUCT_WIDTH + 1), reset_less=True)
        m.d.sync += [
            total.eq(self.accumulator + self.bias),
            multiplier.eq(self.multiplier),
            product.eq(total * multiplier),
        ]
        limit = (1 << numerics.SHIFT_WIDTH) - 1
        shift = Signal(unsigned(numerics.SHIFT_WIDTH), reset_less=True)
        coarse_shift, fine_shift = Signal.like(shift), Signal(3, reset_less=True)
        m.d.sync += [
            shift.eq(Mux(self.shift > limit, limit, self.shift)),
            coarse_shift.eq(shift),
            fine_shift.eq(coarse_shift[:3]),
            coarse.eq((product << 1) >> (coarse_shift[3:] << 3)),
            fine.eq(coarse >> fine_shift),
        ]
        saturation = self.saturation
        for stage in range(REQUANTIZER_LATENCY - 1):
            delayed = Signal(Saturation, name=f"saturation{stage}", reset_less=True)
            m.d.sync += delayed.eq(saturation)
            saturation = delayed
        # Bounds before rounding: it lifts an odd `fine` of 2 * maximum + 1 beyond the maximum.
        rounded = Signal(signed(numerics.LOGIT_WIDTH))
        m.d.comb += rounded.eq((fine >> 1) + fine[0])
        with m.Switch(saturation):
            for choice, width in SATURATION_WIDTHS.items():
                maximum, minimum = (1 << (width - 1)) - 1, -(1 << (width - 1))
                with m.Case(choice):
                    with m.If(fine >= 2 * maximum + 1):
                        m.d.sync += self.value.eq(maximum)
                    with m.Elif(fine < 2 * minimum):
                        m.d.sync += self.value.eq(minimum)
                    with m.Else():
                        m.d.sync += self.value.eq(rounded)
        return m

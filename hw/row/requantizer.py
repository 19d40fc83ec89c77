"""Requantization: one product, one rounding, one saturation."""

from amaranth import Array, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics

REQUANTIZER_LATENCY = 5
"""Operands to value, in cycles: sum, product, coarse shift, fine shift, rounding and saturation."""

_SUM_WIDTH = 27  # the wide operand of a DSP48E2, behind its pre-adder
_PRODUCT_WIDTH = 44


class Saturation(enum.Enum, shape=2):  # type: ignore[call-arg]  # amaranth is untyped
    """Width that a value is saturated to; LEAST: -128, whatever the value."""

    BYTE = 0
    RESIDUAL = 1
    LOGIT = 2
    LEAST = 3


SATURATION_WIDTHS = {
    Saturation.BYTE: 8,
    Saturation.RESIDUAL: numerics.RESIDUAL_WIDTH,
    Saturation.LOGIT: numerics.LOGIT_WIDTH,
}
"""Bits of each `Saturation` to a width."""


class Requantizer(wiring.Component):
    """`numerics.requantize`, pipelined: ``saturate((accumulator + bias) * multiplier * 2^-shift)``, rounded half up.

    One sum and one 27 x 18 product: a DSP48E2 with its pre-adder. All inputs belong to the same cycle. Behind the product only
    the bits that the widest result can hold are shifted; that any above them differs from the sign is one bit beside them.

    Args:
        widest: widest `Saturation` that is asked for.

    Members:
        accumulator, bias: In, signed 27; their sum must fit 27 bits too.
        multiplier: In, unsigned 17.
        shift: In, unsigned 7; 63 and above give 0.
        saturation: In, `Saturation`; ``widest`` where that is BYTE.
        value: Out, signed 24, `REQUANTIZER_LATENCY` cycles later.
    """

    model = staticmethod(numerics.requantize)

    def __init__(self, widest: Saturation | int = Saturation.LOGIT):
        self.widest = widest
        super().__init__(
            {
                "accumulator": In(signed(_SUM_WIDTH)),
                "bias": In(signed(_SUM_WIDTH)),
                "multiplier": In(numerics.QUOTIENT_WIDTH),
                "shift": In(numerics.SHIFT_WIDTH + 1),
                "saturation": In(Saturation),
                "value": Out(signed(numerics.LOGIT_WIDTH)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        total = Signal(signed(_SUM_WIDTH), reset_less=True)
        multiplier = Signal(signed(numerics.QUOTIENT_WIDTH + 1), reset_less=True)
        product = Signal(signed(_PRODUCT_WIDTH), reset_less=True)
        limit = (1 << numerics.SHIFT_WIDTH) - 1
        shift = Signal(unsigned(numerics.SHIFT_WIDTH), reset_less=True)
        coarse_shift = Signal.like(shift)
        m.d.sync += [
            total.eq(self.accumulator + self.bias),
            multiplier.eq(self.multiplier),
            product.eq(total * multiplier),
            shift.eq(Mux(self.shift > limit, limit, self.shift)),
            coarse_shift.eq(shift),
        ]
        fine, sign, far = self._shift(m, product, coarse_shift)
        self._saturate(m, fine, sign, far)
        return m

    def _shift(self, m: Module, product: Signal, shift: Signal) -> tuple[Signal, Signal, Signal]:
        """Shift by eights, then by single bits.

        Returns:
            The bits below the sign of twice the value, as many as the widest result has, so that the rounding bit survives;
            the sign; and whether a bit above them differs from it.
        """
        width = SATURATION_WIDTHS[self.widest]
        kept = width + 7  # of which the fine shift may drop 7
        doubled = Cat(0, product).as_signed()
        differs = [bit ^ product[-1] for bit in doubled]
        beyond = Array(Cat(0, *differs[kept + 8 * step :]).any() for step in range(8))
        coarse, coarse_sign, coarse_far = Signal(kept, reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
        fine_shift = Signal(3, reset_less=True)
        m.d.sync += [
            coarse.eq(doubled >> (shift[3:] << 3)),
            coarse_sign.eq(product[-1]),
            coarse_far.eq(beyond[shift[3:]]),
            fine_shift.eq(shift[:3]),
        ]
        fine, sign, far = Signal(width, reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
        over = Cat(coarse[width:], coarse_sign) ^ coarse_sign.replicate(8)
        m.d.sync += [
            fine.eq(Cat(coarse, coarse_sign).as_signed() >> fine_shift),
            sign.eq(coarse_sign),
            far.eq(coarse_far | (over >> fine_shift).any()),
        ]
        return fine, sign, far

    def _saturate(self, m: Module, fine: Signal, sign: Signal, far: Signal) -> None:
        saturation = self.saturation
        for stage in range(REQUANTIZER_LATENCY - 1):
            delayed = Signal(Saturation, name=f"saturation{stage}", reset_less=True)
            m.d.sync += delayed.eq(saturation)
            saturation = delayed
        rounded = Signal(signed(numerics.LOGIT_WIDTH))
        m.d.comb += rounded.eq((Cat(fine, sign).as_signed() >> 1) + fine[0])
        m.d.sync += self.value.eq(rounded)
        with m.Switch(saturation if self.widest != Saturation.BYTE else Saturation.BYTE):
            with m.Case(Saturation.LEAST):
                m.d.sync += self.value.eq(-128)
            for choice, width in SATURATION_WIDTHS.items():
                if width > len(fine):
                    continue
                # Rounding lifts a greatest `fine`, all ones, beyond the maximum.
                outside = far | (fine[width:] != sign.replicate(len(fine) - width)) | (~sign & fine[:width].all())
                with m.Case(choice):
                    with m.If(outside):
                        m.d.sync += self.value.eq(Cat((~sign).replicate(width - 1), sign).as_signed())

"""Mean and reciprocal standard deviation of a row's residual, without a pass over it."""

import numpy as np
from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.commands import norm_command
from hw.config import AcceleratorConfig
from hw.row.divider import EXPONENT_WIDTH, NormalizedDivider
from hw.row.row_moments import SUM_WIDTH, RowMoments, statistics_update
from hw.row.square_root import SquareRoot
from hw.timing import CHANNEL_STEPS, SQRT_STEPS, SUM_STEPS

MEAN_WIDTH = numerics.RESIDUAL_WIDTH + numerics.MEAN_FRACTION + 1
"""Bits of the signed mean; one more than exact, as the inverse may be rounded up."""

_READ = 1
_MEAN = _READ + 1
_SQUARES = _MEAN + numerics.MULTIPLIER_WIDTH
_SQUARE = _SQUARES + CHANNEL_STEPS
_ROOT = _SQUARE + SUM_STEPS


class RowStatistics(wiring.Component):
    """Sum and sum of squares per row tile, and the serial unit that turns them into what normalises a row.

    An update in cycle t counts for a command from cycle t + 1 on. The unit is started by ``command.statistics`` and takes
    the mean (fraction of 4 bits), V = n * square sum + epsilon - sum^2, its root and the quotient, one bit a cycle, without
    a DSP. A command with ``capture``, `STATISTICS_LATENCY` cycles later at the earliest, brings them to the outputs: from
    2 cycles after itself until 2 cycles after the next capture. The next start may come with the capture, but not
    before it. ``inverse_shift`` is at least 4.

    Members:
        update: In, `statistics_update`.
        command: In, `norm_command`.
        minus_mean: Out, signed 21, in units of 2^-4.
        quotient, exponent: Out (unsigned 17 and 5), of ``multiplier / root``.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "update": In(statistics_update(config)),
                "command": In(norm_command(config)),
                "minus_mean": Out(signed(MEAN_WIDTH)),
                "quotient": Out(numerics.QUOTIENT_WIDTH),
                "exponent": Out(EXPONENT_WIDTH),
            }
        )

    @staticmethod
    def model(
        residual: np.ndarray, channels: int, inverse: int, inverse_shift: int, epsilon: int, multiplier: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Statistics of rows.

        Args:
            residual: int16 [..., n]; elements beyond ``channels`` are 0.
            channels: n of the formula, 1 to 4095.
            inverse: mantissa of 1 / n, in [2^15, 2^16).
            inverse_shift: ``inverse * 2^-inverse_shift`` is 1 / n.
            epsilon: n^2 * epsilon in squared residual units, at least 1.
            multiplier: numerator of the quotient.

        Returns:
            (mean, quotient, exponent), int64 [...].
        """
        elements = np.asarray(residual).astype(np.float64)  # sums stay below 2^42, so they are exact
        total = elements.sum(axis=-1).astype(np.int64)
        square_sum = np.einsum("...i,...i->...", elements, elements).astype(np.int64)
        magnitude = numerics.rounding_shift(np.abs(total) * inverse, inverse_shift - numerics.MEAN_FRACTION)
        variance = channels * square_sum - total * total + epsilon
        root = np.maximum(numerics.integer_sqrt(variance), 1)
        quotient, exponent = numerics.normalized_divide(multiplier, root)
        return np.sign(total) * magnitude, quotient, exponent

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.moments = moments = RowMoments(self.config)
        m.submodules.root = root = SquareRoot()
        m.submodules.divider = divider = NormalizedDivider()
        m.d.comb += moments.update.eq(self.update)

        step = Signal(range(_ROOT + 1))
        job = Signal.like(self.command, reset_less=True)
        with m.If(self.command.statistics):
            m.d.sync += [step.eq(_READ), job.eq(self.command)]
        with m.Elif(step == _ROOT):
            m.d.sync += step.eq(0)
        with m.Elif(step != 0):
            m.d.sync += step.eq(step + 1)

        negative = Signal(reset_less=True)
        m.d.comb += moments.row_tile.eq(job.row_tile)
        total = self._elaborate_horner(m, step, job, moments, negative)
        # The root takes its operand two bits a cycle from the top.
        digits = Signal(2, reset_less=True)
        m.d.sync += digits.eq(total[-2:])
        m.d.comb += [
            root.start.eq(step == _ROOT),
            root.digits.eq(digits),
            divider.start.eq(root.done),
            divider.divisor.eq(Mux(root.root == 0, 1, root.root)),
            divider.multiplier.eq(job.multiplier),
        ]
        self._elaborate_results(m, step == _SQUARES, total, negative, job.inverse_shift, divider)
        return m

    def _elaborate_horner(self, m: Module, step: Signal, job, moments: RowMoments, negative: Signal) -> Signal:
        """``total = 2 * total + addend bit +- bit * factor``, the most significant bits first: |sum| * inverse, then
        channels * square sum + epsilon, then that - sum^2. What the product is added to begins as the bits of the addend above
        those that follow one by one."""
        magnitude = Signal(SUM_STEPS, reset_less=True)
        square_sum = Signal.like(moments.square_sum, reset_less=True)
        bits = Signal(SUM_STEPS, reset_less=True)
        addend = Signal(SUM_STEPS, reset_less=True)
        total = Signal(2 * SQRT_STEPS, reset_less=True)
        negate = moments.sum[SUM_WIDTH - 1]
        m.d.sync += [bits.eq(bits << 1), addend.eq(addend << 1)]
        with m.Switch(step):
            with m.Case(_READ):
                m.d.sync += [
                    negative.eq(negate),
                    magnitude.eq((moments.sum ^ negate.replicate(SUM_WIDTH)) + negate),
                    square_sum.eq(moments.square_sum),
                    bits.eq(job.inverse << (SUM_STEPS - numerics.MULTIPLIER_WIDTH)),
                ]
            with m.Case(_SQUARES - 1):
                m.d.sync += [
                    bits.eq(job.channels << (SUM_STEPS - CHANNEL_STEPS)),
                    addend.eq(job.epsilon[:CHANNEL_STEPS] << (SUM_STEPS - CHANNEL_STEPS)),
                ]
            with m.Case(_SQUARE - 1):
                m.d.sync += bits.eq(magnitude)
            with m.Case(_SQUARE):
                m.d.sync += addend.eq(total << 1)
        # While the root takes it, the total runs out, as bits and addend did: all are 0 when the next one begins.
        running_out, new = (step == 0) | (step == _ROOT), (step == _SQUARES) | (step == _SQUARE)
        before = Mux(
            new,
            Mux(step == _SQUARE, total[SUM_STEPS - 1 :], Cat(addend[-1], job.epsilon[CHANNEL_STEPS:])),
            Mux(running_out, total << 2, Cat(addend[-1], total)),
        )
        squares, square = (step >= _SQUARES) & (step < _SQUARE), step >= _SQUARE
        product = Mux(bits[-1], Mux(squares, square_sum, magnitude), 0) ^ square.replicate(len(total))
        # One adder, which takes the one of a negative product as its carry.
        m.d.sync += total.eq((Cat(square, before) + Cat(square, product))[1:])
        return total

    def _elaborate_results(self, m, mean_multiplied, product, negative, inverse_shift, divider):
        """Shift the mean's product while the unit goes on, and hand all over at the capture."""
        # Twice the mean, so that the rounding bit survives the shift.
        mean = Signal(SUM_STEPS + numerics.MULTIPLIER_WIDTH + 1, reset_less=True)
        shifts = Signal(numerics.SHIFT_WIDTH)
        with m.If(mean_multiplied):
            m.d.sync += [mean.eq(product << 1), shifts.eq(inverse_shift - numerics.MEAN_FRACTION)]
        with m.Elif(shifts != 0):
            m.d.sync += [mean.eq(mean >> 1), shifts.eq(shifts - 1)]
        rounded = Signal(signed(MEAN_WIDTH))
        capture = Signal()
        # A negative sum's magnitude as it is; else -(x + b) = ~x + ~b, with the rounding bit b.
        positive = ~negative
        m.d.comb += rounded.eq((Cat(mean[1:MEAN_WIDTH], 0) ^ positive.replicate(MEAN_WIDTH)).as_signed() + (mean[0] ^ positive))
        # One cycle late: the element before the capture still uses the old results 2 cycles after its command.
        m.d.sync += capture.eq(self.command.capture)
        with m.If(capture):
            m.d.sync += [
                self.minus_mean.eq(rounded),
                self.quotient.eq(divider.quotient),
                self.exponent.eq(divider.exponent),
            ]

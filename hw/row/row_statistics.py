"""Mean and reciprocal standard deviation of a row's residual, without a pass over it."""

import numpy as np
from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.config import AcceleratorConfig
from hw.row.divider import EXPONENT_WIDTH, NormalizedDivider
from hw.row.square_root import SquareRoot
from hw.tokens import index_width, norm_token

SUM_WIDTH = 28
"""Bits of the signed sum of 4095 int16."""
SQUARE_SUM_WIDTH = 44
"""Bits of the sum of 4095 squares of int16."""
CHANNEL_WIDTH = 12
"""Bits of the number of channels."""
MEAN_WIDTH = numerics.RESIDUAL_WIDTH + numerics.MEAN_FRACTION + 1
"""Bits of the signed mean; one more than exact, as the inverse may be rounded up."""


def statistics_update(config: AcceleratorConfig) -> data.StructLayout:
    """One residual element from the lane; columns that do not exist carry 0 and count for ``first`` and ``last`` alone."""
    return data.StructLayout(
        {
            "valid": 1,
            "start": 1,
            "first": 1,
            "last": 1,
            "row_tile": index_width(config.row_tiles),
            "value": signed(numerics.RESIDUAL_WIDTH),
        }
    )


class RowStatistics(wiring.Component):
    """Sum and sum of squares per row tile, and the serial unit that turns them into what normalises a row.

    An update in cycle t can be read from cycle t + 2 on. The unit is started by ``token.statistics`` and takes mean (fraction
    of 4 bits), V = n * square sum - sum^2 + epsilon, its root and the quotient, one bit a cycle, without a DSP; a token with
    ``capture``, `STATISTICS_LATENCY` cycles later at the earliest, brings them to the outputs from 2 cycles after itself until 2
    cycles after the next capture. The next start may come with the capture.

    Members:
        update: In, `statistics_update`.
        token: In, `norm_token`.
        mean: Out, signed 21, in units of 2^-4.
        quotient, exponent: Out (unsigned 17 and 5), of ``multiplier / root``.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "update": In(statistics_update(config)),
                "token": In(norm_token(config)),
                "mean": Out(signed(MEAN_WIDTH)),
                "quotient": Out(numerics.QUOTIENT_WIDTH),
                "exponent": Out(EXPONENT_WIDTH),
            }
        )

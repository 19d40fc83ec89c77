"""LayerNorm's normalise pass."""

import numpy as np
from amaranth import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.config import AcceleratorConfig
from hw.row.divider import EXPONENT_WIDTH
from hw.row.requantizer import Requantizer, Saturation
from hw.row.residual_bank import RESIDUAL_READ_LATENCY, residual_read, residual_word
from hw.row.row_statistics import MEAN_WIDTH, RowStatistics
from hw.tokens import index_width, norm_token


def masked_write(config: AcceleratorConfig) -> data.StructLayout:
    """Write of the bytes of an activation word that ``mask`` names."""
    return data.StructLayout(
        {
            "valid": 1,
            "address": index_width(config.activation_words),
            "mask": config.depth,
            "data": config.depth * 8,
        }
    )


class Normalizer(wiring.Component):
    """``saturate8(rounding_shift((16 * x - mean) * quotient, shift + exponent))`` of ``norm_elements`` elements a cycle.

    Elements beyond ``channels`` are normalised like the others: their weights are zero.

    Members:
        token: In, `norm_token`; uses ``valid``, ``source``, ``group``, ``destination`` and ``shift``.
        mean, quotient, exponent: In, read 2 cycles after the token.
        residual_read: Out, `residual_read`, with the token.
        residual_word: In, `residual_word`, 2 cycles later.
        activation_write: Out, `masked_write`; the bytes can be read `NORM_LATENCY` cycles after the token.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "token": In(norm_token(config)),
                "mean": In(signed(MEAN_WIDTH)),
                "quotient": In(numerics.QUOTIENT_WIDTH),
                "exponent": In(EXPONENT_WIDTH),
                "residual_read": Out(residual_read(config)),
                "residual_word": In(residual_word(config)),
                "activation_write": Out(masked_write(config)),
            }
        )

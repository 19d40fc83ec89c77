"""LayerNorm's normalise pass."""

import numpy as np
from amaranth import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.config import AcceleratorConfig
from hw.row.divider import EXPONENT_WIDTH
from hw.row.requantizer import REQUANTIZER_LATENCY, Requantizer, Saturation
from hw.row.residual_bank import RESIDUAL_READ_LATENCY, residual_read, residual_word
from hw.row.row_moments import statistics_update
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
    """``saturate8(rounding_shift((16 * x - mean) * quotient, shift + exponent))``, ``norm_elements`` elements a cycle.

    Elements beyond ``channels`` are normalised like the others: their weights are zero.

    Members:
        token: In, `norm_token`; uses ``valid``, ``source``, ``group``, ``destination`` and ``shift``.
        mean, quotient, exponent: In, read 2 cycles after the token.
        residual_read: Out, `residual_read`, with the token.
        residual_word: In, `residual_word`, `RESIDUAL_READ_LATENCY` cycles later.
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

    @staticmethod
    def model(residual: np.ndarray, mean: np.ndarray, quotient: np.ndarray, exponent: np.ndarray, shift: int) -> np.ndarray:
        """Normalised elements, int8 [..., n], of residual int16 [..., n] with statistics [...]."""
        # float64 is exact: the product has 39 bits, and scaling by a power of two and adding a half keeps them.
        scale = np.ldexp(np.asarray(quotient, dtype=np.float64), -(np.asarray(exponent, dtype=np.int64) + shift))
        centred = np.multiply(residual, float(1 << numerics.MEAN_FRACTION), dtype=np.float64)
        centred -= np.asarray(mean, dtype=np.float64)[..., None]
        centred *= scale[..., None]
        centred += 0.5
        return np.clip(np.floor(centred, out=centred), -128, 127, out=centred).astype(np.int8)

    def elaborate(self, platform) -> Module:
        m = Module()
        names = ("destination", "group", "shift")
        passage = data.StructLayout({name: self.token.shape()[name].shape for name in names})
        stages, valids = [Signal(passage, name="passage0")], [self.token.valid]
        m.d.comb += [stages[0][name].eq(self.token[name]) for name in names]
        for cycle in range(1, RESIDUAL_READ_LATENCY + REQUANTIZER_LATENCY + 1):
            stages.append(Signal(passage, name=f"passage{cycle}", reset_less=True))
            valids.append(Signal(name=f"valid{cycle}"))
            m.d.sync += [stages[cycle].eq(stages[cycle - 1]), valids[cycle].eq(valids[cycle - 1])]

        m.d.comb += [
            self.residual_read.valid.eq(self.token.valid),
            self.residual_read.address.eq(self.token.source),
        ]
        arrived, written = stages[RESIDUAL_READ_LATENCY], stages[-1]
        elements = self.config.norm_elements
        group = Signal(data.ArrayLayout(signed(numerics.RESIDUAL_WIDTH), elements))
        m.d.comb += group.eq(self.residual_word.as_value().word_select(arrived.group, len(group.as_value())))
        values = []
        for element in range(elements):
            m.submodules[f"requantizer{element}"] = requantizer = Requantizer()
            m.d.comb += [
                requantizer.accumulator.eq(group[element] << numerics.MEAN_FRACTION),
                requantizer.bias.eq(-self.mean),
                requantizer.multiplier.eq(self.quotient),
                requantizer.shift.eq(arrived.shift + self.exponent),
                requantizer.saturation.eq(Saturation.BYTE),
            ]
            values.append(requantizer.value[:8])
        m.d.comb += [
            self.activation_write.valid.eq(valids[-1]),
            self.activation_write.address.eq(written.destination),
            self.activation_write.mask.eq(((1 << elements) - 1) << (written.group * elements)),
            self.activation_write.data.eq(Cat(values).replicate(self.config.depth // elements)),
        ]
        return m


class LayerNorm(wiring.Component):
    """`RowStatistics` and `Normalizer` of a row, connected.

    Members:
        update: In, `statistics_update`.
        token: In, `norm_token`.
        residual_read: Out, `residual_read`; residual_word: In, `residual_word`.
        activation_write: Out, `masked_write`.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "update": In(statistics_update(config)),
                "token": In(norm_token(config)),
                "residual_read": Out(residual_read(config)),
                "residual_word": In(residual_word(config)),
                "activation_write": Out(masked_write(config)),
            }
        )

    @staticmethod
    def model(residual: np.ndarray, inverse: int, inverse_shift: int, epsilon: int, multiplier: int, shift: int) -> np.ndarray:
        """LayerNorm without scale and offset of each row of residual int16 [..., n]; arguments as in `isa.Opcode.NORM`.

        Returns:
            int8 [..., n].
        """
        residual = np.asarray(residual)
        mean, quotient, exponent = RowStatistics.model(residual, residual.shape[-1], inverse, inverse_shift, epsilon, multiplier)
        return Normalizer.model(residual, mean, quotient, exponent, shift)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.statistics = statistics = RowStatistics(self.config)
        m.submodules.normalizer = normalizer = Normalizer(self.config)
        m.d.comb += [
            statistics.update.eq(self.update),
            statistics.token.eq(self.token),
            normalizer.token.eq(self.token),
            normalizer.mean.eq(statistics.mean),
            normalizer.quotient.eq(statistics.quotient),
            normalizer.exponent.eq(statistics.exponent),
            normalizer.residual_word.eq(self.residual_word),
            self.residual_read.eq(normalizer.residual_read),
            self.activation_write.eq(normalizer.activation_write),
        ]
        return m

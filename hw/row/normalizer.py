"""LayerNorm's normalise pass."""

import numpy as np
from amaranth import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.commands import index_width, norm_command
from hw.config import AcceleratorConfig
from hw.row.divider import EXPONENT_WIDTH
from hw.row.requantizer import REQUANTIZER_LATENCY, Requantizer, Saturation
from hw.row.residual_bank import RESIDUAL_READ_LATENCY, residual_read, residual_word
from hw.row.row_moments import statistics_update
from hw.row.row_statistics import MEAN_WIDTH, RowStatistics


def masked_write(config: AcceleratorConfig) -> data.StructLayout:
    """Write of the bytes of a normalised word that ``mask`` names."""
    return data.StructLayout(
        {
            "valid": 1,
            "address": index_width(config.normalized_words),
            "mask": config.pe_depth,
            "data": config.pe_depth * 8,
        }
    )


def borrowed_product(config: AcceleratorConfig) -> data.StructLayout:
    """What the lane has the normaliser's first requantizer do while no NORM is at work."""
    return data.StructLayout(
        {
            "accumulator": signed(config.accumulator_width),
            "multiplier": numerics.QUOTIENT_WIDTH,
            "shift": numerics.SHIFT_WIDTH + 1,
        }
    )


class Normalizer(wiring.Component):
    """``saturate8(rounding_shift((16 * x - mean) * quotient, shift + exponent))``, ``norm_elements`` elements a cycle.

    Elements beyond ``channels`` are normalised like the others: their weights are zero.

    Members:
        command: In, `norm_command`; uses ``valid``, ``source``, ``group``, ``destination`` and ``shift``.
        minus_mean, quotient, exponent: In, read 2 cycles after the command.
        residual_read: Out, `residual_read`, with the command.
        residual_word: In, `residual_word`, `RESIDUAL_READ_LATENCY` cycles later.
        normalized_write: Out, `masked_write`; the bytes can be read `NORM_LATENCY` cycles after the command.
        borrow: In, `borrowed_product`, where ``score_columns`` is 2; taken in cycles that are not `RESIDUAL_READ_LATENCY` after a
            valid command.
        borrowed: Out, signed 8, its value `REQUANTIZER_LATENCY` cycles later.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "command": In(norm_command(config)),
                "minus_mean": In(signed(MEAN_WIDTH)),
                "quotient": In(numerics.QUOTIENT_WIDTH),
                "exponent": In(EXPONENT_WIDTH),
                "residual_read": Out(residual_read(config)),
                "residual_word": In(residual_word(config)),
                "normalized_write": Out(masked_write(config)),
                "borrow": In(borrowed_product(config)),
                "borrowed": Out(signed(8)),
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
        command, elements = self.command, self.config.norm_elements
        valid, group, destination, shift = command.valid, command.group, command.destination, command.shift
        for cycle in range(1, RESIDUAL_READ_LATENCY + 1):
            valid = _delayed(m, valid, f"valid{cycle}", reset_less=False)
            group, shift = _delayed(m, group, f"group{cycle}"), _delayed(m, shift, f"shift{cycle}")
            destination = _delayed(m, destination, f"destination{cycle}")

        m.d.comb += [self.residual_read.valid.eq(command.valid), self.residual_read.address.eq(command.source)]
        chosen = Signal(data.ArrayLayout(signed(numerics.RESIDUAL_WIDTH), elements))
        m.d.comb += chosen.eq(self.residual_word.as_value().word_select(group, len(chosen.as_value())))
        values = []
        for element in range(elements):
            m.submodules[f"requantizer{element}"] = requantizer = Requantizer(Saturation.BYTE)
            m.d.comb += [
                requantizer.accumulator.eq(chosen[element] << numerics.MEAN_FRACTION),
                requantizer.bias.eq(self.minus_mean),
                requantizer.multiplier.eq(self.quotient),
                requantizer.shift.eq(shift + self.exponent),
            ]
            if element == 0 and self.config.score_columns == 2:
                with m.If(~valid):
                    m.d.comb += [getattr(requantizer, name).eq(self.borrow[name]) for name in self.borrow.shape().members]
                    m.d.comb += requantizer.bias.eq(0)
                m.d.comb += self.borrowed.eq(requantizer.value)
            values.append(requantizer.value[:8])

        for cycle in range(REQUANTIZER_LATENCY):
            valid = _delayed(m, valid, f"requantized_valid{cycle}", reset_less=False)
            group, destination = _delayed(m, group, f"requantized_group{cycle}"), _delayed(m, destination, f"write{cycle}")
        m.d.comb += [
            self.normalized_write.valid.eq(valid),
            self.normalized_write.address.eq(destination),
            self.normalized_write.mask.eq(((1 << elements) - 1) << (group * elements)),
            self.normalized_write.data.eq(Cat(values).replicate(self.config.pe_depth // elements)),
        ]
        return m


def _delayed(m: Module, value: Signal, name: str, reset_less: bool = True) -> Signal:
    """``value`` a cycle later."""
    delayed = Signal.like(value, name=name, reset_less=reset_less)
    m.d.sync += delayed.eq(value)
    return delayed


class LayerNorm(wiring.Component):
    """`RowStatistics` and `Normalizer` of a row, connected.

    Members:
        update: In, `statistics_update`.
        command: In, `norm_command`.
        residual_read: Out, `residual_read`; residual_word: In, `residual_word`.
        normalized_write: Out, `masked_write`.
        borrow: In, `borrowed_product`; borrowed: Out, as of `Normalizer`.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "update": In(statistics_update(config)),
                "command": In(norm_command(config)),
                "residual_read": Out(residual_read(config)),
                "residual_word": In(residual_word(config)),
                "normalized_write": Out(masked_write(config)),
                "borrow": In(borrowed_product(config)),
                "borrowed": Out(signed(8)),
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
            statistics.command.eq(self.command),
            normalizer.command.eq(self.command),
            normalizer.minus_mean.eq(statistics.minus_mean),
            normalizer.quotient.eq(statistics.quotient),
            normalizer.exponent.eq(statistics.exponent),
            normalizer.residual_word.eq(self.residual_word),
            self.residual_read.eq(normalizer.residual_read),
            self.normalized_write.eq(normalizer.normalized_write),
            normalizer.borrow.eq(self.borrow),
            self.borrowed.eq(normalizer.borrowed),
        ]
        return m

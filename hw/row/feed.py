"""From a feed command to the activation word of the first PE pair; row sum of softmax, and exp where it has no pass, on the way."""

import numpy as np
from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw import numerics
from hw.commands import feed_command, index_width, table_write
from hw.config import AcceleratorConfig
from hw.row.activation_bank import BANK_READ_LATENCY
from hw.row.element_skew import ElementSkew, delay_line, operand_delay
from hw.row.processing_pair import word_layout
from hw.row.reciprocal import reciprocal_start
from hw.row.softmax_unit import SoftmaxUnit
from hw.row.table import Table
from hw.timing import FEED_LATENCY

SUM_LATENCY = FEED_LATENCY + 2
"""Last feed command of an exp tile to its row sum, in cycles: the word's sum, and the row's."""

_EXP_MAX = (1 << numerics.EXP_WIDTH) - 1


class Feed(wiring.Component):
    """Reads a bank; plain, or ``table[row_max - score]`` of the activation bank; elements beyond ``elements`` become zero.
    With ``softmax_pass`` the bank holds the exps, which are fed as they are; then there is neither a table nor a row maximum.

    Args:
        config: the machine.
        dsp48: the PE pairs are cascades of DSP48E2s (`ElementSkew`).

    Members:
        command: what to feed.
        bank_address, bank_word: read port of the `ActivationBank`.
        normalized_address, normalized_word: read port of the normalised bank, of the same latency.
        max_row_tile, row_max: asynchronous read of the row maximum, int8; not with ``softmax_pass``.
        table_write: writes of the exp table; those of activation tables are ignored; not with ``softmax_pass``.
        activation: operands of pair 0, ``FEED_LATENCY`` cycles after the command and an element's `element_delays`.
        valid, first, last, wide: ``FEED_LATENCY`` and `operand_delay` cycles after the command, beside the last element.
        sum_start: sum of a tile's exps with its ``reciprocal`` command's fields, ``SUM_LATENCY`` cycles after the last command.
    """

    def __init__(self, config: AcceleratorConfig, *, dsp48: bool = False):
        self.config = config
        self.dsp48 = dsp48
        exps = {
            "max_row_tile": Out(index_width(config.row_tiles)),
            "row_max": In(signed(8)),
            "table_write": In(table_write(config)),
        }
        super().__init__(
            {
                "command": In(feed_command(config)),
                "bank_address": Out(index_width(config.activation_words)),
                "bank_word": In(word_layout(config)),
                "normalized_address": Out(index_width(config.normalized_words)),
                "normalized_word": In(word_layout(config)),
                **({} if config.softmax_pass else exps),
                "activation": Out(word_layout(config)),
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "wide": Out(1),
                "sum_start": Out(reciprocal_start(config)),
            }
        )

    @staticmethod
    def model(scores: np.ndarray, row_max: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unnormalised softmax of existing keys.

        Args:
            scores: int8 [..., K].
            row_max: int8 [...], at least every score of its row.
            table: uint8 [256], 0 to 127.

        Returns:
            (exps int8 [..., K], sums int64 [...]).
        """
        exps = SoftmaxUnit.model(scores, row_max, table)
        return exps, Feed.model_sum(exps)

    @staticmethod
    def model_sum(exps: np.ndarray) -> np.ndarray:
        """Row sums int64 [...] of exps int8 [..., K]; of what is no exp the bits of one count."""
        return (exps & _EXP_MAX).sum(axis=-1, dtype=np.int64)

    def elaborate(self, platform):
        m = Module()
        commands, valid = [self.command], [self.command.valid]  # entry i is the command i cycles later; only valid needs a reset
        for number in range(1, SUM_LATENCY):
            commands.append(Signal(feed_command(self.config), name=f"command_{number}", reset_less=True))
            valid.append(Signal(name=f"valid_{number}"))
            m.d.sync += [commands[-1].eq(commands[-2]), valid[-1].eq(valid[-2])]
        activation = self._activations(m, commands[BANK_READ_LATENCY], commands[BANK_READ_LATENCY + 1])
        self._sum(m, commands[-1], valid[-1], activation)
        m.submodules.skew = skew = ElementSkew(self.config, dsp48=self.dsp48)
        m.d.comb += [
            self.bank_address.eq(self.command.address),
            self.normalized_address.eq(self.command.address),
            *([] if self.config.softmax_pass else [self.max_row_tile.eq(commands[BANK_READ_LATENCY].row_tile)]),
            skew.word.eq(activation),
            self.activation.eq(skew.skewed),
        ]
        delay = operand_delay(self.config, dsp48=self.dsp48)
        for name in ("first", "last", "wide"):
            m.d.comb += getattr(self, name).eq(delay_line(m, commands[FEED_LATENCY][name], delay, name))
        bit = valid[FEED_LATENCY]
        for cycle in range(delay):
            delayed = Signal(name=f"skewed_valid_{cycle}")
            m.d.sync += delayed.eq(bit)
            bit = delayed
        m.d.comb += self.valid.eq(bit)
        return m

    def _activations(self, m: Module, word, lookup):
        """Difference to the row maximum, then table and mask; ``word`` and ``lookup`` are the commands of these stages."""
        config = self.config
        activation = Signal(word_layout(config), name="word", reset_less=True)
        if config.softmax_pass:
            for k in range(config.pe_depth):
                element = Signal(8, name=f"element_{k}", reset_less=True)
                m.d.sync += element.eq(Mux(word.normalized, self.normalized_word[k], self.bank_word[k]))
                m.d.sync += activation[k].eq(Mux(k < lookup.elements, element, 0))
            return activation
        write = self.table_write
        m.submodules.table = table = Table(numerics.EXP_WIDTH, read_ports=config.pe_depth)
        m.d.comb += [
            table.write.valid.eq(write.valid & write.exponential),
            table.write.slot.eq(write.slot),
            table.write.index.eq(write.index),
            table.write.data.eq(write.data),
        ]
        for k in range(config.pe_depth):
            index = Signal(8, name=f"index_{k}", reset_less=True)
            plain = Mux(word.normalized, self.normalized_word[k], self.bank_word[k])
            m.d.sync += index.eq(Mux(word.exponential, self.row_max - self.bank_word[k], plain))
            m.d.comb += [table.select[k].slot.eq(lookup.table_slot), table.select[k].index.eq(index)]
            m.d.sync += activation[k].eq(Mux(k < lookup.elements, Mux(lookup.exponential, table.value[k], index), 0))
        return activation

    def _sum(self, m: Module, command, valid, activation) -> None:
        """Sum of the word, then of the row; exps are at most 127, so an element's sign bit is 0."""
        word_sum = Signal(bits_for(self.config.pe_depth * _EXP_MAX), reset_less=True)
        exps = [activation[k].as_unsigned()[: numerics.EXP_WIDTH] for k in range(self.config.pe_depth)]
        m.d.sync += word_sum.eq(sum(exps[1:], exps[0]))
        start = Signal(reciprocal_start(self.config), name="row_sum", reset_less=True)
        start_valid = Signal()
        with m.If(valid):
            m.d.sync += start.sum.eq(Mux(command.first, 0, start.sum) + word_sum)
        m.d.sync += [
            start.row_tile.eq(command.row_tile),
            start.multiplier.eq(command.multiplier),
            start_valid.eq(valid & command.last & command.exponential & command.reciprocal),
        ]
        m.d.comb += [self.sum_start.eq(start), self.sum_start.valid.eq(start_valid)]

"""A row's exp unit, where the machine has fewer of them than its feeds would need."""

import numpy as np
from amaranth import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.commands import index_width, softmax_command, table_write
from hw.config import AcceleratorConfig
from hw.row.activation_bank import BANK_READ_LATENCY
from hw.row.processing_pair import word_layout
from hw.row.table import Table
from hw.timing import SOFTMAX_LATENCY


def exp_write(config: AcceleratorConfig) -> data.StructLayout:
    """Write of byte ``element`` of an activation word."""
    return data.StructLayout(
        {
            "valid": 1,
            "address": index_width(config.activation_words),
            "element": index_width(config.pe_depth),
            "data": numerics.EXP_WIDTH,
        }
    )


class SoftmaxUnit(wiring.Component):
    """``table[row_max - score]`` of one score a cycle, written to where the score was. The write is asserted `SOFTMAX_LATENCY` - 1
    cycles after the command, so a read `SOFTMAX_LATENCY` cycles after it sees the exp.

    Every row has a unit, and a command lets at most ``exp_units`` of them work, one element each: the machine's rate is that of so
    many units. (Rows are skewed, so the last ones of a row tile end while the first ones of the next begin.)

    Members:
        command: In, `softmax_command`; this row's where ``skip`` is 0.
        reading: Out, the bank's read port is the unit's in this cycle.
        bank_address: Out; bank_word: In, `BANK_READ_LATENCY` cycles later.
        max_row_tile, row_max: asynchronous read of the row maximum, int8.
        table_write: In, writes of the exp table; those of activation tables are ignored.
        write: Out, `exp_write`, a register.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "command": In(softmax_command(config)),
                "reading": Out(1),
                "bank_address": Out(index_width(config.activation_words)),
                "bank_word": In(word_layout(config)),
                "max_row_tile": Out(index_width(config.row_tiles)),
                "row_max": In(signed(8)),
                "table_write": In(table_write(config)),
                "write": Out(exp_write(config)),
            }
        )

    @staticmethod
    def model(scores: np.ndarray, row_max: np.ndarray, table: np.ndarray) -> np.ndarray:
        """Exps int8 [..., K] of scores int8 [..., K] with row maxima int8 [...], at least every score of the row, and a table
        uint8 [256], 0 to 127."""
        distance = row_max[..., None].astype(np.int16) - scores
        return table.astype(np.int8).take(distance)

    def elaborate(self, platform) -> Module:
        m = Module()
        write = self.table_write
        m.submodules.table = table = Table(numerics.EXP_WIDTH, read_ports=1)
        m.d.comb += [
            self.reading.eq(self.command.valid & (self.command.skip == 0)),
            self.bank_address.eq(self.command.address),
            table.write.valid.eq(write.valid & write.exponential),
            table.write.slot.eq(write.slot),
            table.write.index.eq(write.index),
            table.write.data.eq(write.data),
        ]
        commands, valid = [self.command], [self.reading]  # entry i is the command i cycles later; only valid needs a reset
        for number in range(1, SOFTMAX_LATENCY - 1):
            commands.append(Signal(softmax_command(self.config), name=f"command_{number}", reset_less=True))
            valid.append(Signal(name=f"valid_{number}"))
            m.d.sync += [commands[-1].eq(commands[-2]), valid[-1].eq(valid[-2])]
        now, lookup = commands[BANK_READ_LATENCY], commands[-1]
        distance = Signal(8, reset_less=True)
        m.d.comb += [
            self.max_row_tile.eq(now.row_tile),
            table.select[0].slot.eq(lookup.table_slot),
            table.select[0].index.eq(distance),
        ]
        m.d.sync += [
            distance.eq(self.row_max - self.bank_word[now.element]),
            self.write.valid.eq(valid[-1]),
            self.write.address.eq(lookup.address),
            self.write.element.eq(lookup.element),
            self.write.data.eq(table.value[0]),
        ]
        return m

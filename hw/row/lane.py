"""What becomes of a drained column: requantization and everything fused behind it."""

import numpy as np
from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.commands import collector_word, index_width, lane_command, table_write
from hw.config import AcceleratorConfig
from hw.isa import Post
from hw.row.divider import EXPONENT_WIDTH
from hw.row.normalizer import borrowed_product
from hw.row.requantizer import REQUANTIZER_LATENCY, Requantizer, Saturation
from hw.row.residual_bank import RESIDUAL_READ_LATENCY, element_write, residual_read, residual_word
from hw.row.row_maximum import RowMaximum
from hw.row.row_moments import statistics_update
from hw.row.table import Table
from hw.row.word_assembly import WordAssembly


def byte_write(config: AcceleratorConfig) -> data.StructLayout:
    """Write of byte ``element`` of an activation word, with ``second_valid`` of the byte behind it, too; then ``element`` is even.
    Bytes of odd elements are in ``second``, all others in ``data``."""
    return data.StructLayout(
        {
            "valid": 1,
            "second_valid": 1,
            "address": index_width(config.activation_words),
            "element": index_width(config.pe_depth),
            "data": 8,
            "second": 8,
        }
    )


def logit(config: AcceleratorConfig) -> data.StructLayout:
    """A logit on its way to the gate; ``last`` comes with the tile's last column, ``valid`` or not."""
    return data.StructLayout({"valid": 1, "last": 1, "value": signed(numerics.LOGIT_WIDTH)})


_PASSAGE = (
    "first", "last", "enabled", "second_enabled", "start", "post", "table_slot", "row_tile", "address", "addend", "element",
    "tokens_left", "kv_index",
)  # fmt: skip
_OPERANDS = 1  # cycle in which the requantizer takes its operands
_VALUE = _OPERANDS + REQUANTIZER_LATENCY  # cycle in which the requantized value is there
_RESIDUAL_READ = _VALUE - 1 - RESIDUAL_READ_LATENCY  # one more for the choice of the element


class Lane(wiring.Component):
    """Requantizes one column a cycle and takes it where ``command.post`` says. Its writes are registered.

    Where ``score_columns`` is 2, the normaliser requantizes the second of two scores, without a bias.

    Every memory write is asserted `LANE_LATENCY` - 1 cycles after the command, so a read `LANE_LATENCY` cycles after it
    sees the data; the row maximum can be looked up from then on, too. An element of the residual must not be added to
    within 5 cycles of its write. KEY: address and element go on counting in commands that are not ``enabled``.

    Members:
        column, second: In, signed `accumulator_width`, with their ``command``.
        command: In, `lane_command`.
        reciprocal_row_tile: Out, row tile to look up, one cycle after the command.
        quotient, exponent: In (unsigned 17 and 5), in the cycle of the lookup.
        table_write: In, `table_write`; entries for exp are not the lane's.
        activation_write: Out, `byte_write`.
        residual_read: Out, `residual_read`; residual_word: In, `RESIDUAL_READ_LATENCY` cycles later.
        residual_write: Out, `element_write`.
        statistics: Out, `statistics_update`.
        collector: Out, `collector_word`.
        logits: Out, `logit`.
        borrow: Out, `borrowed_product` of the second score; borrowed: In, signed 8, `REQUANTIZER_LATENCY` cycles later.
        max_row_tile: In, row tile whose maximum score is ``row_max``: Out, signed 8, same cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "column": In(signed(config.accumulator_width)),
                "second": In(signed(config.accumulator_width)),
                "command": In(lane_command(config)),
                "reciprocal_row_tile": Out(index_width(config.row_tiles)),
                "quotient": In(numerics.QUOTIENT_WIDTH),
                "exponent": In(EXPONENT_WIDTH),
                "table_write": In(table_write(config)),
                "activation_write": Out(byte_write(config)),
                "residual_read": Out(residual_read(config)),
                "residual_word": In(residual_word(config)),
                "residual_write": Out(element_write(config)),
                "statistics": Out(statistics_update(config)),
                "collector": Out(collector_word(config)),
                "logits": Out(logit(config)),
                "borrow": Out(borrowed_product(config)),
                "borrowed": In(signed(8)),
                "max_row_tile": In(index_width(config.row_tiles)),
                "row_max": Out(signed(8)),
            }
        )

    @staticmethod
    def model_residual(residual: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """Residual int16 after the add of int16 ``delta``, saturated; any broadcastable shapes."""
        return numerics.saturate(np.asarray(residual, dtype=np.int32) + delta, numerics.RESIDUAL_WIDTH).astype(np.int16)

    @staticmethod
    def model_activation(table: np.ndarray, code: np.ndarray) -> np.ndarray:
        """int8 of `activation_table` for requantized int8 codes of any shape."""
        return Table.model(table, np.asarray(code, dtype=np.int16) + 128)

    model_requantize = staticmethod(Requantizer.model)
    model_row_max = staticmethod(RowMaximum.model)

    def elaborate(self, platform) -> Module:
        m = Module()
        operands = Signal.like(self.command, reset_less=True)
        column = Signal.like(self.column, reset_less=True)
        second = Signal.like(self.second, reset_less=True)
        with m.If(self.command.valid):
            m.d.sync += [operands.eq(self.command), column.eq(self.column), second.eq(self.second)]

        m.submodules.requantizer = requantizer = Requantizer()
        m.d.comb += [
            self.reciprocal_row_tile.eq(operands.row_tile),
            requantizer.accumulator.eq(column),
            requantizer.bias.eq(operands.bias),
            requantizer.multiplier.eq(Mux(operands.exponential, self.quotient, operands.multiplier)),
            requantizer.shift.eq(operands.shift + Mux(operands.exponential, self.exponent, 0)),
            self.borrow.accumulator.eq(second),
            self.borrow.multiplier.eq(requantizer.multiplier),
            self.borrow.shift.eq(requantizer.shift),
        ]
        with m.Switch(operands.post):
            with m.Case(Post.RESIDUAL):
                m.d.comb += requantizer.saturation.eq(Saturation.RESIDUAL)
            with m.Case(Post.LOGITS):
                m.d.comb += requantizer.saturation.eq(Saturation.LOGIT)
            with m.Default():
                m.d.comb += requantizer.saturation.eq(Mux(operands.blank[0], Saturation.LEAST, Saturation.BYTE))

        valids, stages = self._elaborate_passage(m, operands)
        self._elaborate_residual(m, valids, stages, requantizer.value)
        self._elaborate_bytes(m, valids[_VALUE], stages[_VALUE], requantizer.value[:8])
        now, valid = stages[_VALUE], valids[_VALUE]
        m.d.sync += [
            self.logits.valid.eq(valid & now.enabled & (now.post == Post.LOGITS)),
            self.logits.last.eq(valid & now.last & (now.post == Post.LOGITS)),
            self.logits.value.eq(requantizer.value),
        ]
        return m

    def _elaborate_passage(self, m, operands):
        """What is still needed of the command behind the operands, by cycle."""
        layout = data.StructLayout({name: self.command.shape()[name].shape for name in _PASSAGE} | {"tokens_left": 1})
        valids, stages = {_OPERANDS: Signal(name="valid1")}, {_OPERANDS: Signal(layout, name="passage1")}
        m.d.sync += valids[_OPERANDS].eq(self.command.valid)
        m.d.comb += [stages[_OPERANDS][name].eq(operands[name]) for name in _PASSAGE if name != "tokens_left"]
        m.d.comb += stages[_OPERANDS].tokens_left.eq(operands.tokens_left != 0)
        for cycle in range(_OPERANDS + 1, _VALUE + 1):
            valids[cycle] = Signal(name=f"valid{cycle}")
            stages[cycle] = Signal(layout, name=f"passage{cycle}", reset_less=True)
            m.d.sync += [valids[cycle].eq(valids[cycle - 1]), stages[cycle].eq(stages[cycle - 1])]
        return valids, stages

    def _elaborate_residual(self, m, valids, stages, value):
        """Read the element, add, write it back and report it to the statistics."""
        early, chosen, now = stages[_RESIDUAL_READ], stages[_VALUE - 1], stages[_VALUE]
        before = Signal(signed(numerics.RESIDUAL_WIDTH), reset_less=True)
        total = Signal(signed(numerics.RESIDUAL_WIDTH + 1))
        maximum = (1 << (numerics.RESIDUAL_WIDTH - 1)) - 1
        saturated = Mux(total > maximum, maximum, Mux(total < ~maximum, ~maximum, total))
        is_residual = valids[_VALUE] & (now.post == Post.RESIDUAL)
        m.d.comb += [
            self.residual_read.valid.eq(valids[_RESIDUAL_READ] & (early.post == Post.RESIDUAL)),
            self.residual_read.address.eq(early.addend),
            total.eq(before + value[: numerics.RESIDUAL_WIDTH].as_signed()),
            self.statistics.value.eq(self.residual_write.data),
        ]
        m.d.sync += [
            before.eq(self.residual_word[chosen.element]),
            self.residual_write.valid.eq(is_residual & now.enabled),
            self.residual_write.address.eq(now.address),
            self.residual_write.element.eq(now.element),
            self.residual_write.data.eq(Mux(now.enabled, saturated, 0)),
            self.statistics.valid.eq(is_residual),
            self.statistics.start.eq(now.start),
            self.statistics.first.eq(now.first),
            self.statistics.last.eq(now.last),
            self.statistics.row_tile.eq(now.row_tile),
        ]

    def _elaborate_bytes(self, m, valid, now, byte):
        """Everything that is an int8: activations, scores, words of K and V."""
        m.submodules.activation_table = table = Table(width=8, read_ports=1)
        m.submodules.row_maximum = row_maximum = RowMaximum(self.config)
        m.submodules.assembly = assembly = WordAssembly(self.config)
        is_activation = now.post == Post.ACTIVATION
        to_bank = is_activation | (now.post == Post.REQUANT) | (now.post == Post.SCORE)
        m.d.comb += [
            table.write.valid.eq(self.table_write.valid & ~self.table_write.exponential),
            table.write.slot.eq(self.table_write.slot),
            table.write.index.eq(self.table_write.index),
            table.write.data.eq(self.table_write.data),
            table.select[0].slot.eq(now.table_slot),
            table.select[0].index.eq(Cat(byte[:7], ~byte[7])),
            row_maximum.row_tile.eq(self.max_row_tile),
            row_maximum.column.valid.eq(valid & (now.post == Post.SCORE)),
            row_maximum.column.score.eq(byte),
            row_maximum.column.second.eq(self.borrowed),
            self.row_max.eq(row_maximum.row_max),
            assembly.column.valid.eq(valid & ((now.post == Post.KEY) | (now.post == Post.VALUE))),
            assembly.column.value.eq(now.post == Post.VALUE),
            assembly.column.exists.eq(now.tokens_left),
            assembly.column.index.eq(now.kv_index),
            assembly.column.byte.eq(byte),
            self.collector.eq(assembly.word),
        ]
        for component, own in ((row_maximum, ("start", "row_tile", "second_enabled")), (assembly, ("element", "address"))):
            m.d.comb += [component.column[name].eq(now[name]) for name in ("first", "last", "enabled", *own)]
        scores = (now.post == Post.SCORE) if self.config.score_columns == 2 else 0
        value = Mux(is_activation, table.value[0], byte)
        m.d.sync += [
            self.activation_write.valid.eq(valid & now.enabled & to_bank),
            self.activation_write.second_valid.eq(valid & now.second_enabled & scores),
            self.activation_write.address.eq(now.address),
            self.activation_write.element.eq(now.element),
            self.activation_write.data.eq(value),
            self.activation_write.second.eq(Mux(scores, self.borrowed, value)),
        ]

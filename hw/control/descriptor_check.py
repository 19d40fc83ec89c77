"""Checks a descriptor against the configuration and the Program's size, serially, before anything of it happens."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import isa
from hw.config import TABLE_ENTRIES, AcceleratorConfig
from hw.control.norm_issue import MAX_CHANNELS
from hw.isa import Error, Opcode, Post

CHECK_CYCLES = {Opcode.END: 1, Opcode.GATE: 1, Opcode.NORM: 7, Opcode.SOFTMAX: 9, Opcode.LOAD: 27, Opcode.GEMM: 27}
"""Cycles from `start` to `done` of a good descriptor; a bad one may end sooner."""

_WIDE = 34
"""Bits of an operand: one more than a sum of two 32-bit numbers; greater products are clipped to the greatest operand."""
_COMMON_FLAGS = isa.FLAG_WAIT | isa.FLAG_ATTENTION | isa.FLAG_HIGH
_FLAGS = {
    Opcode.LOAD: _COMMON_FLAGS | isa.FLAG_IMAGE | isa.FLAG_CONTIGUOUS,
    Opcode.GEMM: _COMMON_FLAGS | isa.FLAG_KV | isa.FLAG_EXP | isa.FLAG_PER_COLUMN | isa.FLAG_NORMALIZED,
}
"""Flags that an operation may have; the others `_COMMON_FLAGS`."""


def known_opcodes(config: AcceleratorConfig) -> tuple[Opcode, ...]:
    """Operations that a machine has."""
    return tuple(op for op in Opcode if op != Opcode.SOFTMAX or config.softmax_pass)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """``total = a * b + c``, kept in `partial` or `extra`, and a condition on it that raises `code` while `when` holds."""

    a: ValueLike
    b: ValueLike
    c: ValueLike = 0
    keep: str = ""
    round_up: bool = False  # keep whole beats
    covered: ValueLike | None = None  # total - unit < covered <= total
    unit: int = 0
    limit: ValueLike | None = None  # total <= limit
    when: ValueLike = 1
    divide: bool = False  # divide total - 1
    quotient: bool = False  # needs the quotient
    code: Error = Error.FIELD


class DescriptorCheck(wiring.Component):
    """One descriptor at a time, in CHECK_CYCLES; an error ends the check at once.

    Members:
        start: one cycle high; `descriptor`, `program_bytes` and `image_bytes` (what a LOAD may read) stay until `done`.
        done: one cycle high, with `code`, an `isa.Error` or 0.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "descriptor": In(isa.DESCRIPTOR_BYTES * 8),
                "program_bytes": In(32),
                "image_bytes": In(32),
                "done": Out(1),
                "code": Out(8),
            }
        )

    def _view(self, opcode: Opcode) -> data.View:
        return data.View(isa.descriptor_layout(opcode), self.descriptor)

    def elaborate(self, platform) -> Module:
        m = Module()
        opcode = self.descriptor[:8]
        partial, extra, quotient = Signal(_WIDE), Signal(_WIDE), Signal(16)
        programs = {
            Opcode.GEMM: self._gemm_steps(partial, quotient),
            Opcode.NORM: self._norm_steps(),
            Opcode.LOAD: self._load_steps(partial, extra, quotient),
        }
        if self._config.softmax_pass:
            programs[Opcode.SOFTMAX] = self._softmax_steps(partial)
        immediate = Signal(8)
        self._field_rules(m, immediate)

        busy, evaluate, number = Signal(), Signal(), Signal(range(16))
        total = Signal(_WIDE + 17)
        operands = {"a": Signal(_WIDE), "b": Signal(17), "c": Signal(_WIDE)}  # of one multiplier for all steps
        m.d.sync += total.eq(operands["a"] * operands["b"] + operands["c"])
        dividend, dividing, divided = Signal(16), Signal(), Signal()
        wrong, wait, final = Signal(8), Signal(), Signal()
        with m.Switch(opcode):
            for operation, steps in programs.items():
                with m.Case(operation):
                    with m.Switch(number):
                        for position, step in enumerate(steps):
                            with m.Case(position):
                                self._step(m, step, operands, total, evaluate, wrong, {"partial": partial, "extra": extra})
                                m.d.comb += final.eq(position == len(steps) - 1)
                                m.d.comb += wait.eq(~divided if step.quotient else 0)
                                m.d.comb += dividing.eq(evaluate & step.divide)
        m.d.sync += evaluate.eq(0)
        with m.If(self.start):
            m.d.sync += [number.eq(0), evaluate.eq(0), busy.eq(1)]
            with m.If((immediate != 0) | (opcode == Opcode.END) | (opcode == Opcode.GATE)):
                m.d.sync += busy.eq(0)
        with m.Elif(busy & ~evaluate):
            m.d.sync += evaluate.eq(~wait)
        with m.Elif(busy):
            m.d.sync += [number.eq(number + 1), busy.eq(~final & (wrong == 0))]
        ended = Signal()
        m.d.comb += ended.eq(busy & evaluate & (final | (wrong != 0)))
        m.d.sync += self.done.eq(ended | (self.start & ((immediate != 0) | (opcode <= Opcode.GATE))))
        with m.If(self.start):
            m.d.sync += self.code.eq(immediate)
        with m.Elif(busy & evaluate):
            m.d.sync += self.code.eq(wrong)

        gemm = self._view(Opcode.GEMM)
        key = gemm.post == Post.KEY
        m.d.comb += dividend.eq(Mux(self.start, Mux(key, gemm.tokens, gemm.k_words), total[:16]) - 1)
        divisor = Mux(opcode == Opcode.LOAD, self._config.rows, Mux(key, self._config.cols, gemm.segment_words))
        self._divider(m, self.start | dividing, dividend, divisor, quotient, divided)
        return m

    def _step(
        self,
        m: Module,
        step: _Step,
        operands: dict[str, Signal],
        total: Signal,
        evaluate: Signal,
        wrong: Signal,
        kept: dict[str, Signal],
    ) -> None:
        """Operands, what is kept, and the rule of the step at work."""
        m.d.comb += [operands[name].eq(getattr(step, name)) for name in operands]
        if step.keep:
            beat = self._config.axi_bytes if step.round_up else 1
            shift = (beat - 1).bit_length()
            rounded = ((total + (beat - 1)) >> shift) << shift
            with m.If(evaluate):
                m.d.sync += kept[step.keep].eq(Mux(total[_WIDE - 1 :].any(), (1 << _WIDE) - 1, rounded))
        broken: Value | None = None
        if step.covered is not None:
            broken = (step.covered > total) | (step.covered + Value.cast(step.unit) <= total)
        elif step.limit is not None:
            broken = total > step.limit
        if broken is not None:
            m.d.comb += wrong.eq(Mux(broken & Value.cast(step.when).bool(), step.code, Error.NONE))

    def _divider(self, m: Module, start: Value, dividend: Signal, divisor: Value, quotient: Signal, divided: Signal) -> None:
        """``quotient = dividend // divisor``, of 16 bits each, one bit a cycle; `divided` 17 cycles after `start`."""
        count = Signal(range(17))
        rest, doubled = Signal(16), Signal(17)
        m.d.comb += [doubled.eq(Cat(quotient[-1], rest)), divided.eq(count == 0)]
        with m.If(start):
            m.d.sync += [count.eq(16), rest.eq(0), quotient.eq(dividend)]
        with m.Elif(~divided):
            fits = doubled >= divisor
            m.d.sync += [
                count.eq(count - 1),
                rest.eq(Mux(fits, doubled - divisor, doubled)),
                quotient.eq(Cat(fits, quotient[:-1])),
            ]

    def _field_rules(self, m: Module, code: Signal) -> None:
        """Rules that need no arithmetic."""
        config = self._config
        gemm, load, norm = (self._view(op) for op in (Opcode.GEMM, Opcode.LOAD, Opcode.NORM))
        per_column, table, stream_weights = self._uses()
        score, exponential = gemm.post == Post.SCORE, (gemm.flags & isa.FLAG_EXP) != 0
        normalized = (gemm.flags & isa.FLAG_NORMALIZED) != 0
        parameters = per_column & (gemm.resident > config.parameter_tiles)
        logits = (gemm.columns > config.classes) | (gemm.row_tiles != 1)
        rules: dict[Opcode, list[ValueLike]] = {
            op: [self._view(op).classes == 0, self._view(op).classes > config.classes] for op in (Opcode.END, Opcode.GATE)
        }
        rules[Opcode.LOAD] = [
            load.first_row >= config.rows,
            load.first_row_tile >= config.row_tiles,
            load.target > isa.Target.RESIDUAL,
            *(load[name] == 0 for name in ("segment_bytes", "segments", "tokens_inner", "tokens_outer")),
            ((load.flags & isa.FLAG_CONTIGUOUS) != 0) & (load.inner_stride != load.segment_bytes),
        ]
        rules[Opcode.NORM] = [
            *(norm[name] == 0 for name in ("words", "channels", "row_tiles", "epsilon")),
            norm.channels > MAX_CHANNELS,
            norm.first_row_tile + norm.row_tiles > config.row_tiles,
            norm.shift > 63,
            (norm.inverse_shift < 4) | (norm.inverse_shift > 63),
        ]
        rules[Opcode.GEMM] = [
            *(gemm[name] == 0 for name in ("k_words", "k_elements", "columns", "column_tiles", "row_tiles", "tokens")),
            gemm.first_row_tile + gemm.row_tiles > config.row_tiles,
            gemm.element >= config.pe_depth,
            gemm.post > Post.LOGITS,
            gemm.shift > 63,
            (gemm.post == Post.LOGITS) & logits,
            exponential & (gemm.post == Post.ACTIVATION),
            score & (per_column | normalized),
            # Two scores share an activation word; the collector's slot for K is whole words.
            score & (gemm.element[0] if config.score_columns == 2 else 0),
            (gemm.post == Post.KEY) & (gemm.element != 0 if config.cols % config.pe_depth == 0 else 0),
            (gemm.segment_words != 0) & (gemm.post == Post.KEY),
            (gemm.post > Post.ACTIVATION) & (gemm.blank_rows != 0),
            gemm.blank_rows[config.rows :].any(),
        ]
        if config.softmax_pass:
            softmax = self._view(Opcode.SOFTMAX)
            rules[Opcode.SOFTMAX] = [
                *(softmax[name] == 0 for name in ("keys", "row_tiles", "tokens")),
                softmax.row_tiles > config.row_tiles,
            ]
        misaligned = [
            (offset[: (config.axi_bytes - 1).bit_length()] != 0) & used
            for offset, used in ((gemm.weights, stream_weights), (gemm.parameters, per_column), (gemm.table, table))
        ]
        common = [gemm.encoder > 31, gemm.operation > max(isa.Operation)]
        m.d.comb += code.eq(Error.OPCODE)
        with m.Switch(gemm.opcode):
            for op, broken in rules.items():
                with m.Case(op):
                    view = self._view(op)
                    flags = view.flags & ~_FLAGS.get(op, _COMMON_FLAGS) & 0xFF
                    m.d.comb += code.eq(Error.NONE)
                    if op == Opcode.GEMM:
                        with m.If(parameters):
                            m.d.comb += code.eq(Error.BUFFER)
                        with m.If(Cat(*misaligned).any()):
                            m.d.comb += code.eq(Error.ADDRESS)
                    if op == Opcode.SOFTMAX:
                        with m.If(self._view(op).table[: (config.axi_bytes - 1).bit_length()] != 0):
                            m.d.comb += code.eq(Error.ADDRESS)
                    with m.If(Cat(*broken, *common, flags != 0, view.reserved != 0).any()):
                        m.d.comb += code.eq(Error.FIELD)

    def _uses(self) -> tuple[Value, Value, Value]:
        """Whether a GEMM reads parameters, a table, weights from memory."""
        gemm = self._view(Opcode.GEMM)
        activation = gemm.post == Post.ACTIVATION
        return (
            (gemm.flags & isa.FLAG_PER_COLUMN) != 0,
            activation if self._config.softmax_pass else ((gemm.flags & isa.FLAG_EXP) != 0) | activation,
            (gemm.flags & isa.FLAG_KV) == 0,
        )

    def _gemm_steps(self, partial: Signal, quotient: Signal) -> list[_Step]:
        config, gemm = self._config, self._view(Opcode.GEMM)
        per_column, table, stream_weights = self._uses()
        key, value = gemm.post == Post.KEY, gemm.post == Post.VALUE
        group_bytes = config.groups_per_port * config.columns_per_beat * config.pe_depth
        beat_shift = (config.axi_bytes - 1).bit_length()
        whole_beats = (self.program_bytes >> beat_shift) << beat_shift
        bank_words = Mux(
            key | value, config.kv_words, Mux(gemm.post == Post.RESIDUAL, config.residual_words, config.activation_words)
        )
        normalized = (gemm.flags & isa.FLAG_NORMALIZED) != 0
        source_words = Mux(normalized, config.normalized_words, config.activation_words)
        strides = Mux(key, quotient, Mux(value, gemm.column_tiles, gemm.row_tiles) - 1)[:16]
        segmented = gemm.segment_words != 0
        elsewhere = (gemm.post == Post.RESIDUAL) & (gemm.addend_base > gemm.base)
        return [
            _Step(a=gemm.k_words, b=config.pe_depth, covered=gemm.k_elements, unit=config.pe_depth),
            _Step(a=gemm.column_tiles, b=config.cols, covered=gemm.columns, unit=config.cols),
            _Step(a=gemm.row_tiles, b=config.rows, covered=gemm.tokens, unit=config.rows),
            _Step(
                a=gemm.k_words, b=Mux(gemm.resident == 0, 1, gemm.resident), limit=config.weight_words, when=stream_weights,
                code=Error.BUFFER,
            ),
            _Step(
                a=gemm.k_words, b=gemm.column_tiles, c=Mux(stream_weights, 0, gemm.kv_base), keep="partial",
                limit=config.kv_words, when=~stream_weights, code=Error.BUFFER,
            ),
            _Step(a=partial, b=group_bytes, keep="partial", round_up=True),
            _Step(
                a=partial, b=config.weight_ports, c=gemm.weights, limit=self.program_bytes, when=stream_weights,
                code=Error.ADDRESS,
            ),
            _Step(
                a=gemm.column_tiles, b=config.cols * 8, c=gemm.parameters, limit=whole_beats, when=per_column,
                code=Error.ADDRESS,
            ),
            _Step(a=gemm.table, b=1, c=TABLE_ENTRIES, limit=whole_beats, when=table, code=Error.ADDRESS),
            _Step(
                a=(gemm.row_tiles - 1)[:16], b=gemm.source_stride,
                c=gemm.source_base + Mux(segmented, gemm.segment_words, gemm.k_words), keep="partial",
            ),
            _Step(
                a=Mux(segmented, quotient, 0), b=gemm.segment_stride, c=partial, quotient=True, limit=source_words,
                code=Error.BUFFER,
            ),
            # Of what is written and, for a RESIDUAL, read with the same stride: the range that ends last.
            _Step(a=strides, b=gemm.stride, c=Mux(elsewhere, gemm.addend_base, gemm.base), keep="partial", quotient=True),
            _Step(
                a=partial, b=config.pe_depth, c=Mux(value, gemm.tokens, gemm.element + gemm.columns),
                limit=bank_words * config.pe_depth, when=gemm.post != Post.LOGITS, code=Error.BUFFER,
            ),
        ]  # fmt: skip

    def _norm_steps(self) -> list[_Step]:
        config, norm = self._config, self._view(Opcode.NORM)
        strides = (norm.row_tiles - 1)[:16]
        return [
            _Step(a=norm.words, b=config.pe_depth, covered=norm.channels, unit=config.pe_depth),
            _Step(
                a=strides, b=norm.source_stride, c=norm.source_base + norm.words, limit=config.residual_words,
                code=Error.BUFFER,
            ),
            _Step(
                a=strides, b=norm.stride, c=norm.base + norm.words, limit=config.normalized_words, code=Error.BUFFER
            ),
        ]  # fmt: skip

    def _softmax_steps(self, partial: Signal) -> list[_Step]:
        config, softmax = self._config, self._view(Opcode.SOFTMAX)
        beat_shift = (config.axi_bytes - 1).bit_length()
        whole_beats = (self.program_bytes >> beat_shift) << beat_shift
        return [
            _Step(a=softmax.row_tiles, b=config.rows, covered=softmax.tokens, unit=config.rows),
            _Step(a=softmax.table, b=1, c=TABLE_ENTRIES, limit=whole_beats, code=Error.ADDRESS),
            _Step(a=(softmax.row_tiles - 1)[:16], b=softmax.stride, c=softmax.base, keep="partial"),
            _Step(
                a=partial, b=config.pe_depth, c=softmax.keys, limit=config.activation_words * config.pe_depth, code=Error.BUFFER
            ),
        ]  # fmt: skip

    def _load_steps(self, partial: Signal, extra: Signal, quotient: Signal) -> list[_Step]:
        config, load = self._config, self._view(Opcode.LOAD)
        residual = load.target == isa.Target.RESIDUAL
        word_bytes = Mux(residual, 2 * config.pe_depth, config.pe_depth)
        bank_bytes = Mux(residual, config.residual_words * 2 * config.pe_depth, config.activation_words * config.pe_depth)
        memory_bytes = Mux((load.flags & isa.FLAG_IMAGE) != 0, self.image_bytes, self.program_bytes)
        return [
            _Step(a=load.address, b=1, c=1, limit=memory_bytes, code=Error.ADDRESS),
            _Step(a=load.tokens_inner, b=load.tokens_outer, c=load.first_row, keep="partial"),
            _Step(a=load.first_row_tile, b=config.rows, c=partial, limit=config.max_tokens, divide=True),
            _Step(
                a=load.segment_words, b=word_bytes, covered=load.segment_bytes, unit=1,
                when=(load.flags & isa.FLAG_CONTIGUOUS) != 0,
            ),
            _Step(a=load.segments, b=load.segment_bytes, keep="extra"),
            _Step(a=quotient, b=load.stride, c=load.base, keep="partial", quotient=True),
            _Step(a=partial, b=word_bytes, c=extra, limit=bank_bytes, code=Error.BUFFER),
        ]  # fmt: skip

"""Issues the statistics and the passes of a NORM."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import isa, tokens
from hw.config import AcceleratorConfig
from hw.isa import Opcode
from hw.timing import STATISTICS_LATENCY, Timing


class NormIssue(wiring.Component):
    """Row tile j's statistics and row tile j - 1's pass begin together, every ``Timing.norm_interval`` cycles; the first interval
    is STATISTICS_LATENCY. With R row tiles, `done` comes ``STATISTICS_LATENCY + (R - 1) * norm_interval + words * depth /
    norm_elements + norm_settle`` cycles after `start`.

    Members:
        start: one cycle high, with the encoded descriptor.
        stop: give up the NORM at hand.
        done: one cycle high, when all rows have written.
        norm: `tokens.norm_token`, a register.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "stop": In(1),
                "descriptor": In(8 * isa.DESCRIPTOR_BYTES),
                "done": Out(1),
                "norm": Out(tokens.norm_token(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        m = Module()
        layout = isa.descriptor_layout(Opcode.NORM)
        norm = Signal(layout)
        with m.If(self.start):
            m.d.sync += norm.eq(data.View(layout, self.descriptor))

        busy, passing, settling = Signal(), Signal(), Signal()
        timer = Signal(range(max(STATISTICS_LATENCY, Timing(config).norm_settle) + 1))
        phase = Signal(range(config.row_tiles + 2))
        begin, emit, statistics = Signal(), Signal(), Signal()
        word, last = Signal(16), Signal()
        group = Signal.like(self.norm.group)
        last_group = group == config.depth // config.norm_elements - 1
        final = phase == (norm.row_tiles + 1)[:16]
        m.d.comb += [
            begin.eq(busy & ~settling & (timer == 0) & ~passing & ~final),
            statistics.eq(begin & (phase != norm.row_tiles)),
            emit.eq(passing | (begin & (phase != 0))),
            last.eq(emit & last_group & (word == (norm.words - 1)[:16])),
        ]
        source_row, target_row = Signal.like(self.norm.source), Signal.like(self.norm.destination)
        source, target = Signal.like(source_row), Signal.like(target_row)
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.If(begin):
            m.d.sync += [timer.eq(STATISTICS_LATENCY - 1), phase.eq(phase + 1)]
        with m.If(emit):
            m.d.sync += [passing.eq(~last), group.eq(group + 1)]
            with m.If(last_group):
                m.d.sync += [group.eq(0), word.eq(word + 1), source.eq(source + 1), target.eq(target + 1)]
        with m.If(last):
            next_source, next_target = source_row + norm.source_stride, target_row + norm.stride
            m.d.sync += [
                word.eq(0),
                source_row.eq(next_source),
                source.eq(next_source),
                target_row.eq(next_target),
                target.eq(next_target),
            ]
            with m.If((phase == norm.row_tiles) & begin | final):
                m.d.sync += [settling.eq(1), timer.eq(Timing(config).norm_settle - 1)]
        m.d.comb += self.done.eq(settling & (timer == 0))
        with m.If(self.done):
            m.d.sync += [busy.eq(0), settling.eq(0)]
        with m.If(self.start):
            view = data.View(layout, self.descriptor)
            m.d.sync += [busy.eq(1), phase.eq(0), timer.eq(0)]
            m.d.sync += [signal.eq(view.source_base) for signal in (source, source_row)]
            m.d.sync += [signal.eq(view.base) for signal in (target, target_row)]

        with m.If(self.stop):
            m.d.sync += [busy.eq(0), passing.eq(0), settling.eq(0)]

        constants = ("channels", "inverse", "inverse_shift", "epsilon", "multiplier", "shift")
        m.d.sync += [self.norm[name].eq(norm[name]) for name in constants]
        m.d.sync += [
            self.norm.statistics.eq(statistics),
            self.norm.capture.eq(emit & ~passing),
            self.norm.valid.eq(emit),
            self.norm.row_tile.eq(phase),
            self.norm.source.eq(source),
            self.norm.group.eq(group),
            self.norm.destination.eq(target),
        ]
        return m

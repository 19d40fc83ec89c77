"""Issues the statistics and the passes of a NORM, row tile by row tile, beside the GEMMs around it."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw import commands, isa
from hw.config import AcceleratorConfig
from hw.isa import Opcode
from hw.timing import NORM_LATENCY, STATISTICS_LATENCY

MAX_CHANNELS = 4095
"""Most channels of a token: a row's sums and its serial unit have widths for no more."""


class NormIssue(wiring.Component):
    """One NORM at a time. The statistics of row tile i begin when its residual is complete, with FLAG_WAIT when every GEMM has
    settled, and with the pass of i - 1 at the earliest; the pass of i begins STATISTICS_LATENCY later, behind the pass of i - 1 at
    the earliest. What is decided in a cycle is on `norm` in the next one.

    Members:
        start: one cycle high, with the encoded descriptor, while not `busy`; statistics may begin in the next cycle.
        stop: give up the NORM at hand.
        residual_tiles: row tiles whose residual is complete.
        quiet: no GEMM at hand will complete another one; nor will a later one, which waits for this NORM.
        normalizes: a command that normalises is decided in this cycle.
        busy: a NORM is at work, until a feed command may read what its last command writes.
        normalized_tiles: row tiles whose first feed command may be decided in this cycle (`Timing.norm_ready`).
        norm: `commands.norm_command`, a register.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "stop": In(1),
                "descriptor": In(8 * isa.DESCRIPTOR_BYTES),
                "residual_tiles": In(range(config.row_tiles + 1)),
                "quiet": In(1),
                "normalizes": Out(1),
                "busy": Out(1),
                "normalized_tiles": Out(range(config.row_tiles + 1)),
                "norm": Out(commands.norm_command(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        layout = isa.descriptor_layout(Opcode.NORM)
        norm, head = Signal(layout), data.View(layout, self.descriptor)
        statistics, begin, last = Signal(), Signal(), Signal()  # in this cycle: statistics begin, a pass begins, a pass ends
        row_tile = Signal(range(self._config.row_tiles + 1))  # of the next statistics
        row_state = Signal.like(self.norm.row_tile)
        was_quiet, complete = Signal(), Signal()
        computing = Signal()  # statistics whose pass has not begun
        timer = Signal(range(STATISTICS_LATENCY))
        passing = Signal()
        m.d.comb += [
            begin.eq(computing & (timer == 0) & ~passing),
            self.normalizes.eq(begin | passing),
            complete.eq(was_quiet | self.quiet | ((row_tile < self.residual_tiles) & ((norm.flags & isa.FLAG_WAIT) == 0))),
            statistics.eq(self.busy & (row_tile != norm.row_tiles) & complete & (begin | ~computing)),
        ]
        m.d.sync += [computing.eq(statistics | (computing & ~begin)), passing.eq((begin | passing) & ~last)]
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.If(statistics):
            m.d.sync += [timer.eq(STATISTICS_LATENCY - 1), row_tile.eq(row_tile + 1), row_state.eq(row_state + 1)]
        final = last & (row_tile == norm.row_tiles) & (begin | ~computing)
        self._pass(m, norm, head, last)
        self._ready(m, head, last, final)
        m.d.sync += was_quiet.eq(~self.start & (was_quiet | self.quiet))
        with m.If(self.start):
            m.d.sync += [norm.eq(head), row_tile.eq(0), row_state.eq(head.first_row_tile), self.busy.eq(1)]
        with m.If(self.stop):
            m.d.sync += [self.busy.eq(0), computing.eq(0), passing.eq(0)]

        constants = ("channels", "inverse", "inverse_shift", "epsilon", "multiplier", "shift")
        m.d.sync += [
            *(self.norm[name].eq(norm[name]) for name in constants),
            self.norm.statistics.eq(statistics),
            self.norm.row_tile.eq(row_state),
            self.norm.capture.eq(begin),
            self.norm.valid.eq(self.normalizes),
        ]
        return m

    def _pass(self, m: Module, norm: data.View, head: data.View, last: Signal) -> None:
        """Words and groups of elements of the pass at hand."""
        config = self._config
        word, group = Signal(range(MAX_CHANNELS)), Signal.like(self.norm.group)
        source_row, target_row = Signal.like(self.norm.source), Signal.like(self.norm.destination)
        source, target = Signal.like(source_row), Signal.like(target_row)
        last_group = group == config.pe_depth // config.norm_elements - 1
        m.d.comb += last.eq(self.normalizes & last_group & (word == (norm.words - 1)[:16]))
        with m.If(self.normalizes):
            m.d.sync += group.eq(group + 1)
            with m.If(last_group):
                m.d.sync += [group.eq(0), word.eq(word + 1), source.eq(source + 1), target.eq(target + 1)]
        next_source, next_target = source_row + norm.source_stride, target_row + norm.stride
        for end, first_source, first_target in ((last, next_source, next_target), (self.start, head.source_base, head.base)):
            with m.If(end):
                m.d.sync += [word.eq(0), group.eq(0)]
                m.d.sync += [signal.eq(first_source) for signal in (source, source_row)]
                m.d.sync += [signal.eq(first_target) for signal in (target, target_row)]
        m.d.sync += [self.norm.source.eq(source), self.norm.group.eq(group), self.norm.destination.eq(target)]

    def _ready(self, m: Module, head: data.View, last: Signal, final: Value) -> None:
        """Row tiles that may be fed, and the end of the work: NORM_LATENCY after the pass's command that decides."""
        config = self._config
        steps = config.pe_depth // config.norm_elements
        width = bits_for(MAX_CHANNELS + config.pe_depth)
        number, deciding = Signal(width), Signal(width)  # as many commands as the row tile has words are left with this one
        decided, ended = Signal(NORM_LATENCY - 1), Signal(NORM_LATENCY - 1)
        m.d.sync += [
            decided.eq((decided << 1) | (self.normalizes & (number == deciding))),
            ended.eq((ended << 1) | final),
            self.normalized_tiles.eq(self.normalized_tiles + decided[-1]),
            number.eq(Mux(last, 0, number + self.normalizes)),
        ]
        with m.If(ended[-1]):
            m.d.sync += self.busy.eq(0)
        with m.If(self.start):
            m.d.sync += [deciding.eq(head.words * steps - head.words), number.eq(0), self.normalized_tiles.eq(0)]
        with m.If(self.stop):
            m.d.sync += [decided.eq(0), ended.eq(0)]

"""Takes checked descriptors in order and issues commands; the only place where the machine waits."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw import commands, isa
from hw.config import AcceleratorConfig
from hw.control.gemm_issue import CAUSES, GemmIssue
from hw.control.jobs import compute_entry
from hw.control.norm_issue import NormIssue
from hw.control.softmax_issue import SoftmaxIssue
from hw.isa import Opcode, Operation

_GEMM_MEMBERS = (
    "feed", "weight", "tile", "weight_take", "weight_release", "weight_release_words", "table_release", "settled",
)  # fmt: skip
_GEMM_INPUTS = ("stop", "weight_available", "parameter_loaded", "table_loaded")


def stall_causes() -> data.StructLayout:
    """Why the issue does nothing in a cycle; at most one bit is set."""
    return data.StructLayout({"weights": 1, "parameters": 1, "table": 1, "drain": 1, "norm": 1, "load": 1, "fetch": 1})


class Issue(wiring.Component):
    """GEMM, LOAD, SOFTMAX, GATE and END, one at a time, with all waits, and one NORM beside them.

    GEMMs follow each other without a gap; another descriptor is taken in a cycle of its own and begins, at the earliest, in
    the next one. A NORM is handed over while the RESIDUAL GEMM before it is at work, if it is the next descriptor by then; that
    GEMM still counts as at work. Events and causes (from `array` on) belong to the cycle of the decision, one before the command.
    Every cycle has exactly one of `array`, `gate_busy` or a cause in `stall`, but for those of a SOFTMAX's pass; waiting for the
    drain interval and being stopped count as `drain`.

    Members:
        stop: issue nothing any more.
        feed, weight, tile: commands of a GEMM, registered, in step; `tile` comes with the last feed command.
        norm: commands of a NORM.
        weight_available: the next column tile is in every port's ring.
        weight_take: one cycle high in the cycle before that tile's first weight command.
        weight_release: one cycle high with the last weight command of the last row tile: ``weight_release_words`` are free.
        parameter_loaded: one cycle high per column tile of parameters that is in the ring.
        table_loaded: bit 0 activation, bit 1 exp: one cycle high per loaded table; slots of a kind are used alternately, from 0.
        table_release: the same bits: one cycle high when the oldest slot in use may be overwritten.
        rows_go: one cycle high: the side loader may write the rows of the oldest LOAD; it answers `rows_done`.
        gate_start: one cycle high for GATE and END, when the logits are complete; `gate_end` and `gate_classes` stay.
        proceed: one cycle high: go on after a GATE.
        settled: all that GEMMs issued is in its memory.
        operation, index: of the descriptor at work (0 without one); while it waits for a NORM the operation is NORM.
        array, attention_array: a word is issued; it belongs to an attention.
        softmax: with ``softmax_pass``, commands of a SOFTMAX.
        tiles: a tile begins.
        normalizes: the NORM at work decides a command that normalises, whatever else is at work.
        gate_busy: a GATE or END is at work.
        stall: why nothing is issued.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "entries": In(stream.Signature(compute_entry(config))),
                "stop": In(1),
                "feed": Out(commands.feed_command(config)),
                "weight": Out(commands.weight_command(config)),
                "tile": Out(commands.tile_command(config)),
                "norm": Out(commands.norm_command(config)),
                **({"softmax": Out(commands.softmax_command(config))} if config.softmax_pass else {}),
                "weight_available": In(1),
                "weight_take": Out(1),
                "weight_release": Out(1),
                "weight_release_words": Out(bits_for(config.weight_words)),
                "parameter_loaded": In(1),
                "table_loaded": In(2),
                "table_release": Out(2),
                "rows_go": Out(1),
                "rows_done": In(1),
                "gate_start": Out(1),
                "gate_end": Out(1),
                "gate_classes": Out(16),
                "proceed": In(1),
                "settled": Out(1),
                "operation": Out(4),
                "index": Out(16),
                "array": Out(1),
                "attention_array": Out(1),
                "tiles": Out(1),
                "normalizes": Out(1),
                "gate_busy": Out(1),
                "stall": Out(stall_causes()),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.gemm = gemm = GemmIssue(self._config)
        m.submodules.norm_issue = norm = NormIssue(self._config)
        entry = self.entries.payload
        head = data.View(isa.descriptor_layout(Opcode.END), entry.descriptor)
        m.d.comb += [
            *(getattr(self, name).eq(getattr(gemm, name)) for name in _GEMM_MEMBERS),
            *(getattr(gemm, name).eq(getattr(self, name)) for name in _GEMM_INPUTS),
            gemm.head.eq(entry.descriptor),
        ]
        current = Signal(compute_entry(self._config))
        work = data.View(isa.descriptor_layout(Opcode.END), current.descriptor)
        taken = self.entries.valid & self.entries.ready
        at_work, is_norm = Signal(), Signal()
        m.d.comb += [
            is_norm.eq(head.opcode == Opcode.NORM),
            self.gate_end.eq(work.opcode == Opcode.END),
            self.gate_classes.eq(work.classes),
            self.operation.eq(Mux(self.stall.norm, Operation.NORM, Mux(at_work, work.operation, Operation.OTHER))),
            self.index.eq(current.index),
            self.array.eq(gemm.word),
            self.attention_array.eq(gemm.word & ((work.flags & isa.FLAG_ATTENTION) != 0)),
            self.tiles.eq(gemm.tile_begins),
        ]
        with m.If(taken & gemm.ready):
            m.d.sync += current.eq(entry)
        self._connect_norm(m, gemm, norm, taken & is_norm)
        begin = Signal()
        softmax = self._softmax(m, work, begin)
        with m.FSM():
            with m.State("NEXT"):
                # Before its first tile the GEMM may wait for the NORM at work, and a FLAG_NORMALIZED one reads its bank.
                free = Mux(is_norm, ~norm.busy & (gemm.ready | (gemm.residual_at_work & ~gemm.normalized)), gemm.ready)
                waits = self.entries.valid & is_norm & norm.busy
                m.d.comb += [
                    self.entries.ready.eq(free & ~self.stop),
                    at_work.eq(gemm.busy),
                    self.stall.norm.eq(~gemm.busy & waits),
                    self.stall.fetch.eq(~gemm.busy & ~waits),
                ]
                with m.If(taken & (head.opcode == Opcode.GEMM)):
                    m.d.comb += gemm.accept.eq(1)
                with m.Elif(taken & ~is_norm):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.comb += [
                    at_work.eq(1),
                    begin.eq(self.settled & ~norm.busy & ~self.stop),
                    self.stall.norm.eq(self.settled & norm.busy),
                    self.stall.drain.eq(~self.stall.norm),
                ]
                with m.If(begin):
                    with m.If(work.opcode == Opcode.LOAD):
                        m.d.comb += self.rows_go.eq(1)
                        m.next = "LOAD"
                    if softmax is not None:
                        with m.Elif(softmax.start):
                            m.next = "SOFTMAX"
                    with m.Else():
                        m.d.comb += self.gate_start.eq(1)
                        m.next = "GATE"
            if softmax is not None:
                with m.State("SOFTMAX"):
                    m.d.comb += [at_work.eq(1), self.stall.table.eq(softmax.waits)]
                    with m.If(softmax.done):
                        m.next = "NEXT"
            with m.State("LOAD"):
                m.d.comb += [at_work.eq(1), self.stall.load.eq(1)]
                with m.If(self.rows_done):
                    m.next = "NEXT"
            with m.State("GATE"):
                m.d.comb += [at_work.eq(1), self.gate_busy.eq(1)]
                with m.If(self.proceed):
                    m.next = "NEXT"
        with m.If(gemm.busy):
            m.d.comb += [self.stall[cause].eq(getattr(gemm, cause)) for cause in CAUSES]
        return m

    def _softmax(self, m: Module, work: data.View, begin: Signal) -> SoftmaxIssue | None:
        """The unit for a SOFTMAX, which starts with what begins; its tables are no GEMM's."""
        if not self._config.softmax_pass:
            return None
        m.submodules.softmax_issue = softmax = SoftmaxIssue(self._config)
        m.d.comb += [
            softmax.start.eq(begin & (work.opcode == Opcode.SOFTMAX)),
            softmax.stop.eq(self.stop),
            softmax.descriptor.eq(work.as_value()),
            softmax.table_loaded.eq(self.table_loaded[1]),
            self.table_release[1].eq(softmax.table_release),
            self.softmax.eq(softmax.softmax),
        ]
        return softmax

    def _connect_norm(self, m: Module, gemm: GemmIssue, norm: NormIssue, start: Value) -> None:
        """The NORM at work with the GEMMs before and behind it."""
        m.d.comb += [
            norm.start.eq(start),
            norm.stop.eq(self.stop),
            norm.descriptor.eq(self.entries.payload.descriptor),
            norm.residual_tiles.eq(gemm.residual_tiles),
            norm.quiet.eq(gemm.settled & ~gemm.residual_at_work),
            gemm.norm_busy.eq(norm.busy),
            gemm.normalized_tiles.eq(norm.normalized_tiles),
            self.norm.eq(norm.norm),
            self.normalizes.eq(norm.normalizes),
        ]

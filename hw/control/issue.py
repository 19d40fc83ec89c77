"""Takes checked descriptors in order and issues commands; the only place where the machine waits."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw import commands, isa, signatures
from hw.config import AcceleratorConfig
from hw.control.gemm_issue import CAUSES, GemmIssue
from hw.control.jobs import compute_entry
from hw.control.norm_issue import NormIssue
from hw.control.softmax_issue import SoftmaxIssue
from hw.isa import Opcode, Operation


class Issue(wiring.Component):
    """GEMM, LOAD, SOFTMAX, GATE and END, one at a time, with all waits, and one NORM beside them.

    GEMMs follow each other without a gap; another descriptor is taken in a cycle of its own and begins, at the earliest, in
    the next one. A NORM is handed over while the RESIDUAL GEMM before it is at work, if it is the next descriptor by then; that
    GEMM still counts as at work.

    Members:
        stop: issue nothing any more.
        feed, weight, tile: commands of a GEMM, registered, in step; `tile` comes with the last feed command.
        norm: commands of a NORM.
        softmax: with ``softmax_pass``, commands of a SOFTMAX.
        weight_credits, table_credits, load_rows: signatures of `hw.signatures`.
        parameter_loaded: of `signatures.parameter_credits`.
        gate: `signatures.gate_request`, for GATE and END.
        settled: all that GEMMs issued is in its memory.
        index: of the descriptor at work (0 without one).
        events: `signatures.issue_events`.
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
                "weight_credits": Out(signatures.weight_credits(config)),
                "parameter_loaded": In(1),
                "table_credits": Out(signatures.table_credits()),
                "load_rows": Out(signatures.load_rows()),
                "gate": Out(signatures.gate_request()),
                "settled": Out(1),
                "index": Out(16),
                "events": Out(signatures.issue_events()),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.gemm = gemm = GemmIssue(self._config)
        m.submodules.norm_issue = norm = NormIssue(self._config)
        entry = self.entries.payload
        head = data.View(isa.descriptor_layout(Opcode.END), entry.descriptor)
        wiring.connect(m, gemm.weight_credits, wiring.flipped(self.weight_credits))
        wiring.connect(m, gemm.table_credits, wiring.flipped(self.table_credits))
        m.d.comb += [
            *(getattr(self, name).eq(getattr(gemm, name)) for name in ("feed", "weight", "tile", "settled")),
            gemm.stop.eq(self.stop),
            gemm.parameter_loaded.eq(self.parameter_loaded),
            gemm.head.eq(entry.descriptor),
        ]
        current = Signal(compute_entry(self._config))
        work = data.View(isa.descriptor_layout(Opcode.END), current.descriptor)
        taken = self.entries.valid & self.entries.ready
        at_work, is_norm = Signal(), Signal()
        events, stall = self.events, self.events.stall
        m.d.comb += [
            is_norm.eq(head.opcode == Opcode.NORM),
            self.gate.end.eq(work.opcode == Opcode.END),
            self.gate.classes.eq(work.classes),
            events.operation.eq(Mux(stall.norm, Operation.NORM, Mux(at_work, work.operation, Operation.OTHER))),
            self.index.eq(current.index),
            events.array.eq(gemm.word),
            events.attention_array.eq(gemm.word & ((work.flags & isa.FLAG_ATTENTION) != 0)),
            events.tiles.eq(gemm.tile_begins),
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
                    stall.norm.eq(~gemm.busy & waits),
                    stall.fetch.eq(~gemm.busy & ~waits),
                ]
                with m.If(taken & (head.opcode == Opcode.GEMM)):
                    m.d.comb += gemm.accept.eq(1)
                with m.Elif(taken & ~is_norm):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.comb += [
                    at_work.eq(1),
                    begin.eq(self.settled & ~norm.busy & ~self.stop),
                    stall.norm.eq(self.settled & norm.busy),
                    stall.drain.eq(~stall.norm),
                ]
                with m.If(begin):
                    with m.If(work.opcode == Opcode.LOAD):
                        m.d.comb += self.load_rows.go.eq(1)
                        m.next = "LOAD"
                    if softmax is not None:
                        with m.Elif(softmax.start):
                            m.next = "SOFTMAX"
                    with m.Else():
                        m.d.comb += self.gate.start.eq(1)
                        m.next = "GATE"
            if softmax is not None:
                with m.State("SOFTMAX"):
                    m.d.comb += [at_work.eq(1), stall.table.eq(softmax.waits)]
                    with m.If(softmax.done):
                        m.next = "NEXT"
            with m.State("LOAD"):
                m.d.comb += [at_work.eq(1), stall.load.eq(1)]
                with m.If(self.load_rows.done):
                    m.next = "NEXT"
            with m.State("GATE"):
                m.d.comb += [at_work.eq(1), events.gate.eq(1)]
                with m.If(self.gate.proceed):
                    m.next = "NEXT"
        with m.If(gemm.busy):
            m.d.comb += [stall[cause].eq(getattr(gemm, cause)) for cause in CAUSES]
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
            softmax.table_loaded.eq(self.table_credits.loaded[1]),
            self.table_credits.release[1].eq(softmax.table_release),
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
            self.events.norm.eq(norm.normalizes),
        ]

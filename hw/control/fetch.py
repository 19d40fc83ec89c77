"""Reads descriptors ahead of use, drops skipped attentions, checks the rest and hands them to the units."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hw import isa, signatures
from hw.config import AcceleratorConfig
from hw.control.descriptor_check import DescriptorCheck
from hw.control.jobs import compute_entry, error_report, settings
from hw.isa import DESCRIPTOR_BYTES, Error, Opcode, Post
from hw.memory.jobs import JobKind, rows_layout, side_job
from hw.weights.jobs import weight_job

MAX_DESCRIPTORS = (1 << 16) - 1
"""Most descriptors of a Program: an index has 16 bits."""


class Fetch(wiring.Component):
    """Descriptors of one image, in order.

    The whole Program head is asked for with one command; the reader's space bounds how far it runs ahead. A dropped
    descriptor takes its beats, one that is executed also CHECK_CYCLES and 2 to 4 cycles to hand it on.

    Members:
        settings, image_address: stable from `start` on.
        start: one cycle high; begins at the Program's first descriptor.
        proceed: one cycle high; goes on after a GATE.
        flush: while high nothing is handed on.
        descriptors: `signatures.descriptor_read`, from the system port's reader.
        weight_job, side_job: a GEMM's table comes before its parameters.
        entries: queue of ``queue_depth`` for the issue.
        error: stays until reset.
        events: `signatures.fetch_events`.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "settings": In(settings(config)),
                "image_address": In(config.address_width),
                "start": In(1),
                "proceed": In(1),
                "flush": In(1),
                "descriptors": Out(signatures.descriptor_read(config)),
                "weight_job": Out(stream.Signature(weight_job(config))),
                "side_job": Out(stream.Signature(side_job(config))),
                "entries": Out(stream.Signature(compute_entry(config))),
                "error": Out(error_report()),
                "events": Out(signatures.fetch_events()),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        m = Module()
        beats = DESCRIPTOR_BYTES // config.axi_bytes
        m.submodules.check = check = DescriptorCheck(config)
        m.submodules.dispatch = dispatch = _Dispatch(config)
        wiring.connect(m, wiring.flipped(self.weight_job), dispatch.weight_job)
        wiring.connect(m, wiring.flipped(self.side_job), dispatch.side_job)
        wiring.connect(m, wiring.flipped(self.entries), dispatch.entries)
        descriptors, command = self.descriptors, self.descriptors.command
        descriptor, index = Signal(8 * DESCRIPTOR_BYTES), Signal(16)
        m.d.comb += [
            command.payload.address.eq(self.settings.program_base),
            command.payload.beats.eq(self.settings.descriptor_count[:16] * beats),
            check.descriptor.eq(descriptor),
            check.program_bytes.eq(self.settings.program_bytes),
            check.image_bytes.eq(self.settings.image_stride),
            dispatch.descriptor.eq(descriptor),
            dispatch.index.eq(index),
            dispatch.settings.eq(self.settings),
            dispatch.image_address.eq(self.image_address),
            dispatch.flush.eq(self.flush),
        ]
        head = data.View(isa.descriptor_layout(Opcode.END), descriptor)
        mask = Mux((head.flags & isa.FLAG_HIGH) != 0, self.settings.path_mask_high, self.settings.path_mask_low)
        skip = ((head.flags & isa.FLAG_ATTENTION) != 0) & (head.encoder < 32) & ~mask.bit_select(head.encoder[:5], 1)
        beat = Signal(range(beats))

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.next = "COMMAND"
            with m.State("COMMAND"):
                m.d.comb += command.valid.eq(1)
                with m.If(command.ready):
                    m.next = "ASSEMBLE"
            with m.State("ASSEMBLE"):
                m.d.comb += descriptors.beats.ready.eq(1)
                with m.If(index == self.settings.descriptor_count):
                    m.d.comb += descriptors.beats.ready.eq(0)
                    m.d.sync += [self.error.code.eq(Error.MISSING_END), self.error.index.eq(index - 1)]
                    m.next = "STOPPED"
                with m.Elif(descriptors.beats.valid):
                    m.d.sync += descriptor.eq(Cat(descriptor[8 * config.axi_bytes :], descriptors.beats.payload.data))
                    m.d.sync += beat.eq(Mux(beat == beats - 1, 0, beat + 1))
                    with m.If(beat == beats - 1):
                        m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.comb += [self.events.descriptors_skipped.eq(skip), check.start.eq(~skip)]
                m.next = "CHECK"
                with m.If(skip):
                    m.d.sync += index.eq(index + 1)
                    m.next = "ASSEMBLE"
            with m.State("CHECK"):
                with m.If(check.done):
                    m.next = "DISPATCH"
                    with m.If(check.code != 0):
                        m.d.sync += [self.error.code.eq(check.code), self.error.index.eq(index)]
                        m.next = "STOPPED"
                    with m.Else():
                        m.d.comb += dispatch.start.eq(1)
            with m.State("DISPATCH"):
                with m.If(dispatch.done):
                    m.d.comb += self.events.descriptors.eq(1)
                    m.d.sync += index.eq(index + 1)
                    with m.Switch(head.opcode):
                        with m.Case(Opcode.END):
                            m.next = "STOPPED"
                        with m.Case(Opcode.GATE):
                            m.next = "GATE"
                        with m.Default():
                            m.next = "ASSEMBLE"
            with m.State("GATE"):
                with m.If(self.proceed):
                    m.next = "ASSEMBLE"
            with m.State("STOPPED"):
                pass
        return m


class _Dispatch(wiring.Component):
    """Hands a checked descriptor to the units: all at once from the cycle after `start`, `done` when all have it."""

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "settings": In(settings(config)),
                "image_address": In(config.address_width),
                "flush": In(1),
                "descriptor": In(8 * DESCRIPTOR_BYTES),
                "index": In(16),
                "start": In(1),
                "done": Out(1),
                "weight_job": Out(stream.Signature(weight_job(config))),
                "side_job": Out(stream.Signature(side_job(config))),
                "entries": Out(stream.Signature(compute_entry(config))),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        layout = compute_entry(self._config)
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=layout.size, depth=self._config.queue_depth)
        gemm = data.View(isa.descriptor_layout(Opcode.GEMM), self.descriptor)
        is_gemm, is_load = gemm.opcode == Opcode.GEMM, gemm.opcode == Opcode.LOAD
        softmax = data.View(isa.descriptor_layout(Opcode.SOFTMAX), self.descriptor)
        # of the table at hand: by the operation that uses it
        exponential, table_address = (gemm.flags & isa.FLAG_EXP) != 0, gemm.table
        uses_table = is_gemm & (exponential | (gemm.post == Post.ACTIVATION))
        if self._config.softmax_pass:
            exponential = softmax.opcode == Opcode.SOFTMAX
            uses_table = exponential | (is_gemm & (gemm.post == Post.ACTIVATION))
            table_address = Mux(exponential, softmax.table, gemm.table)

        weights, table, parameters, rows, entry = Signal(), Signal(), Signal(), Signal(), Signal()
        pending = Cat(weights, table, parameters, rows, entry)
        with m.If(self.start):
            m.d.sync += [
                weights.eq(is_gemm & ((gemm.flags & isa.FLAG_KV) == 0)),
                table.eq(uses_table),
                parameters.eq(is_gemm & ((gemm.flags & isa.FLAG_PER_COLUMN) != 0)),
                rows.eq(is_load),
                entry.eq(1),
            ]
        with m.Else():
            with m.If(self.weight_job.valid & self.weight_job.ready):
                m.d.sync += weights.eq(0)
            with m.If(self.side_job.valid & self.side_job.ready):
                m.d.sync += [rows.eq(0), table.eq(0), parameters.eq(parameters & table)]
            with m.If(queue.w_en & queue.w_rdy):
                m.d.sync += entry.eq(0)

        repeats = Mux(gemm.resident == 0, gemm.row_tiles, 1)
        m.d.comb += [
            self.done.eq(~pending.any()),
            self.weight_job.valid.eq(weights & ~self.flush),
            self.weight_job.payload.address.eq(self.settings.program_base + gemm.weights),
            self.weight_job.payload.k_words.eq(gemm.k_words),
            self.weight_job.payload.column_tiles.eq(gemm.column_tiles),
            self.weight_job.payload.repeats.eq(repeats),
            self.side_job.valid.eq((table | parameters | rows) & ~self.flush),
            queue.w_en.eq(entry & ~self.flush),
            queue.w_data.eq(Cat(self.index, self.descriptor)),
            self.entries.valid.eq(queue.r_rdy),
            self.entries.payload.eq(queue.r_data),
            queue.r_en.eq(self.entries.ready),
        ]
        self._side_payload(m, table, exponential, table_address, is_load, repeats)
        return m

    def _side_payload(self, m: Module, table: Signal, exponential, table_address, is_load, repeats) -> None:
        gemm = data.View(isa.descriptor_layout(Opcode.GEMM), self.descriptor)
        load = data.View(isa.descriptor_layout(Opcode.LOAD), self.descriptor)
        job = self.side_job.payload
        program = self.settings.program_base
        m.d.comb += [job.column_tiles.eq(gemm.column_tiles), job.repeats.eq(repeats), job.exponential.eq(exponential)]
        m.d.comb += job.contiguous.eq((load.flags & isa.FLAG_CONTIGUOUS) != 0)
        m.d.comb += [job.rows[name].eq(load[name]) for name in rows_layout().members]
        with m.If(is_load):
            m.d.comb += job.kind.eq(JobKind.ROWS)
            with m.If((load.flags & isa.FLAG_IMAGE) != 0):
                m.d.comb += job.address.eq(self.image_address + load.address)
                m.d.comb += job.limit.eq(self.image_address + self.settings.image_stride)
            with m.Else():
                m.d.comb += job.address.eq(program + load.address)
                m.d.comb += job.limit.eq(program + self.settings.program_bytes)
        with m.Elif(table):
            m.d.comb += [job.kind.eq(JobKind.TABLE), job.address.eq(program + table_address)]
        with m.Else():
            m.d.comb += [job.kind.eq(JobKind.PARAMETERS), job.address.eq(program + gemm.parameters)]

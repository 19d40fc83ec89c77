"""The batch: image after image, until its end, an error or a soft reset."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.commands import index_width
from hw.config import AcceleratorConfig
from hw.control.fetch import MAX_DESCRIPTORS
from hw.control.jobs import error_report, settings
from hw.isa import DESCRIPTOR_BYTES, RECORD_HEAD_BYTES, Error, Post
from hw.memory.result_writer import record_layout
from hw.timing import NORM_LATENCY, STATISTICS_LATENCY, Timing

NO_GATE = 0xFFFFFFFF
"""``gate_entropy`` of an image that no gate saw."""


def flush_cycles(config: AcceleratorConfig) -> int:
    """Cycles from a stop until every command that was issued, and every serial unit, has come to its end."""
    timing = Timing(config)
    return max(*(timing.settle(post) for post in Post), NORM_LATENCY + config.rows, STATISTICS_LATENCY) + 8


class ImageLoop(wiring.Component):
    """Starts every image with idle units, ends it with a record, reports the batch's end or its error.

    From one image's record to the next image's start: 4 cycles, or more where descriptors that were read ahead arrive late.
    An error is reported in the cycle after it happens. It, or a soft reset, stops the issue and the DMAs; `busy` ends when all
    that was issued and asked for has come to its end (`flush_cycles` at least) and the units are reset. An image that is not
    at its end, memory accesses included, ``deadline`` cycles after its start is an error reported in that very cycle, whatever
    a memory does. A record that is longer than ``result_stride`` is not written: an address error of its descriptor.

    Members:
        start, soft_reset, clear_interrupt, settings: from the registers; a start while busy is ignored.
        busy, done, error, images_done, pending: to the registers.
        clear_counters: one cycle high at start; `image_start` one cycle high at each image's.
        flush: high while the units must stop and the DMAs end what they began (their ``abort``).
        unit_reset: high for one cycle; resets every unit but the loop, the registers and the counters.
        idle: no AXI transfer is under way, in any unit.
        image_address: of the image at work.
        unit_error: an error of fetch or the loaders, a level or a pulse.
        axi_error: pulse, a port answered an error; reported with `index`, the descriptor at issue.
        gate_end, gate_classes: from the issue; gate_done, entropy, top1: from the gate.
        proceed: one cycle high: the gate lets the image go on.
        record_start, record, record_done: to and from the result writer.
        exited_low: one cycle high per image that leaves at a gate.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "soft_reset": In(1),
                "clear_interrupt": In(1),
                "settings": In(settings(config)),
                "busy": Out(1),
                "done": Out(1),
                "error": Out(error_report()),
                "images_done": Out(32),
                "pending": Out(1),
                "clear_counters": Out(1),
                "image_start": Out(1),
                "flush": Out(1),
                "unit_reset": Out(1),
                "idle": In(1),
                "image_address": Out(config.address_width),
                "unit_error": In(error_report()),
                "axi_error": In(1),
                "index": In(16),
                "gate_end": In(1),
                "gate_classes": In(16),
                "gate_done": In(1),
                "entropy": In(numerics.LOGIT_WIDTH),
                "top1": In(index_width(config.classes)),
                "proceed": Out(1),
                "record_start": Out(1),
                "record": Out(record_layout(config)),
                "record_done": In(1),
                "exited_low": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        found, code, index = Signal(), Signal(8), Signal(16)  # an error of this cycle
        too_long = Signal()  # the record would reach beyond its stride
        resetting, working = Signal(), Signal()
        stopped = resetting | (self.error.code != 0)  # before the image's end
        least = flush_cycles(self._config)
        waited = Signal(range(least + 1))
        flushed, ending = Signal(), Signal()
        self._errors(m, working, ending, too_long, found, code, index)
        self._images(m)
        m.d.comb += [self.busy.eq(1), flushed.eq(self.idle & (waited >= Mux(stopped, least, 2)))]
        m.d.sync += waited.eq(0)

        def leave() -> None:
            """Into FLUSH with the first error or for a soft reset; the last word of every state that works."""
            with m.If(found):
                self._report(m, code, index)
                m.next = "FLUSH"
            with m.If(self.soft_reset):
                m.d.sync += resetting.eq(1)
                m.next = "FLUSH"

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.busy.eq(0), self.unit_reset.eq(self.soft_reset)]
                with m.If(self.start):
                    m.d.comb += self.clear_counters.eq(1)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "RESET"
                with m.If(self._bad_start()):
                    self._report(m, Error.START, 0)
                    m.next = "IDLE"
                leave()
            with m.State("RESET"):
                m.d.comb += self.unit_reset.eq(1)
                m.next = "START"
                leave()
            with m.State("START"):
                m.d.comb += self.image_start.eq(1)
                m.next = "RUN"
                leave()
            with m.State("RUN"):
                m.d.comb += working.eq(1)
                low = self.entropy <= self.settings.threshold
                with m.If(self.gate_done & (self.gate_end | low)):
                    m.d.comb += self.exited_low.eq(~self.gate_end)
                    m.next = "RECORD"
                with m.Elif(self.gate_done):
                    m.d.comb += self.proceed.eq(1)
                leave()
            with m.State("RECORD"):
                m.d.comb += [
                    working.eq(1),
                    too_long.eq(RECORD_HEAD_BYTES + 4 * self.gate_classes > self.settings.result_stride),
                    self.record_start.eq(~too_long),
                ]
                m.next = "WRITE"
                leave()
            with m.State("WRITE"):
                m.d.comb += working.eq(1)
                with m.If(self.record_done):
                    m.d.sync += self.images_done.eq(self.images_done + 1)
                    m.next = "FLUSH"
                leave()
            with m.State("FLUSH"):
                m.d.comb += [self.flush.eq(1), ending.eq(~flushed & ~stopped)]
                m.d.sync += waited.eq(Mux(waited == least, waited, waited + 1))
                with m.If(flushed):
                    m.d.comb += self.unit_reset.eq(1)
                    m.d.sync += resetting.eq(0)
                    m.next = "IDLE"
                    with m.If(~stopped & (self.images_done == self.settings.image_count)):
                        m.d.sync += [self.done.eq(1), self.pending.eq(1)]
                    with m.Elif(~stopped):
                        m.next = "START"
                leave()
        with m.If(self.soft_reset | (self.start & ~self.busy)):
            m.d.sync += [self.done.eq(0), self.error.eq(0), self.pending.eq(0), self.images_done.eq(0)]
        with m.If(self.clear_interrupt):
            m.d.sync += self.pending.eq(0)
        return m

    def _report(self, m: Module, code, index) -> None:
        m.d.sync += [self.error.code.eq(code), self.error.index.eq(index), self.pending.eq(1)]

    def _bad_start(self):
        """Registers that no batch can start with."""
        batch, beat = self.settings, (self._config.axi_bytes - 1).bit_length()
        return Cat(
            batch.image_count == 0,
            batch.descriptor_count == 0,
            batch.descriptor_count > MAX_DESCRIPTORS,
            batch.program_bytes < batch.descriptor_count * DESCRIPTOR_BYTES,
            batch.program_base[: (DESCRIPTOR_BYTES - 1).bit_length()] != 0,
            *(batch[name][:beat] != 0 for name in ("image_base", "result_base", "result_stride")),
        ).any()

    def _errors(
        self, m: Module, working: Signal, ending: Signal, too_long: Signal, found: Signal, code: Signal, index: Signal
    ) -> None:
        """The error of this cycle; while an image is only `ending`, the deadline's alone."""
        late = (self.settings.deadline != 0) & (self.record.cycles + 1 >= self.settings.deadline)
        m.d.comb += [
            code.eq(Mux(late, Error.DEADLINE, Error.NONE)),
            index.eq(self.index),
            found.eq(Mux(ending, late, working & (code != 0))),
        ]
        with m.If(too_long):
            m.d.comb += code.eq(Error.ADDRESS)
        with m.If(self.axi_error):
            m.d.comb += code.eq(Error.AXI)
        with m.If(self.unit_error.code != 0):
            m.d.comb += [code.eq(self.unit_error.code), index.eq(self.unit_error.index)]

    def _images(self, m: Module) -> None:
        """Addresses and the record of the image at work."""
        record = self.record
        m.d.comb += [record.classes.eq(self.gate_classes), record.top1.eq(self.top1), record.entropy.eq(self.entropy)]
        with m.If(self.clear_counters):
            m.d.sync += [self.image_address.eq(self.settings.image_base), record.address.eq(self.settings.result_base)]
        with m.If(self.record_done):
            m.d.sync += [
                self.image_address.eq(self.image_address + self.settings.image_stride),
                record.address.eq(record.address + self.settings.result_stride),
            ]
        m.d.sync += record.cycles.eq(record.cycles + 1)
        with m.If(self.image_start):
            m.d.sync += [record.cycles.eq(0), record.gate_entropy.eq(NO_GATE)]
        with m.If(self.gate_done):
            m.d.sync += record.exit.eq(self.gate_end)
            with m.If(~self.gate_end):
                m.d.sync += record.gate_entropy.eq(self.entropy)

"""The batch: image after image, until its end, an error or a soft reset."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import signatures
from hw.config import AcceleratorConfig
from hw.control.fetch import MAX_DESCRIPTORS
from hw.control.jobs import error_report
from hw.isa import DESCRIPTOR_BYTES, NO_GATE, RECORD_HEAD_BYTES, Error, Post
from hw.timing import NORM_LATENCY, STATISTICS_LATENCY, Timing


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
        batch: `signatures.batch`; counters are cleared with its start.
        image: `signatures.image`; with ``flush`` the DMAs, too, end what they began (their ``abort``).
        record: `signatures.record`.
        events: `signatures.batch_events`.
        unit_reset: high for one cycle; resets every unit but the loop, the registers and the counters.
        idle: no AXI transfer is under way, in any unit.
        axi_error: pulse, a port answered an error; reported with the image's ``index``, the descriptor at issue.
        address_error: pulse, the rows of that descriptor lie outside of the Program and the image.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "batch": In(signatures.batch(config)),
                "image": Out(signatures.image(config)),
                "record": Out(signatures.record(config)),
                "events": Out(signatures.batch_events()),
                "unit_reset": Out(1),
                "idle": In(1),
                "axi_error": In(1),
                "address_error": In(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        batch, image = self.batch, self.image
        found, code, index = Signal(), Signal(8), Signal(16)  # an error of this cycle
        too_long = Signal()  # the record would reach beyond its stride
        resetting, working = Signal(), Signal()
        stopped = resetting | (batch.error.code != 0)  # before the image's end
        least = flush_cycles(self._config)
        waited = Signal(range(least + 1))
        flushed, ending = Signal(), Signal()
        self._errors(m, working, ending, too_long, found, code, index)
        self._images(m)
        m.d.comb += [
            image.settings.eq(batch.settings),
            self.events.busy.eq(batch.busy),
            batch.busy.eq(1),
            flushed.eq(self.idle & image.settled & (waited >= Mux(stopped, least, 2))),
        ]
        m.d.sync += waited.eq(0)

        def leave() -> None:
            """Into FLUSH with the first error or for a soft reset; the last word of every state that works."""
            with m.If(found):
                self._report(m, code, index)
                m.next = "FLUSH"
            with m.If(batch.soft_reset):
                m.d.sync += resetting.eq(1)
                m.next = "FLUSH"

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [batch.busy.eq(0), self.unit_reset.eq(batch.soft_reset)]
                with m.If(batch.start):
                    m.d.comb += self.events.clear.eq(1)
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
                m.d.comb += image.start.eq(1)
                m.next = "RUN"
                leave()
            with m.State("RUN"):
                m.d.comb += working.eq(1)
                low = image.entropy <= batch.settings.threshold
                with m.If(image.gate_done & (image.gate_end | low)):
                    m.d.comb += self.events.exits_low.eq(~image.gate_end)
                    m.next = "RECORD"
                with m.Elif(image.gate_done):
                    m.d.comb += image.proceed.eq(1)
                leave()
            with m.State("RECORD"):
                m.d.comb += [
                    working.eq(1),
                    too_long.eq(RECORD_HEAD_BYTES + 4 * image.classes > batch.settings.result_stride),
                    self.record.start.eq(~too_long),
                ]
                m.next = "WRITE"
                leave()
            with m.State("WRITE"):
                m.d.comb += working.eq(1)
                with m.If(self.record.done):
                    m.d.sync += batch.images_done.eq(batch.images_done + 1)
                    m.next = "FLUSH"
                leave()
            with m.State("FLUSH"):
                m.d.comb += [image.flush.eq(1), ending.eq(~flushed & ~stopped)]
                m.d.sync += waited.eq(Mux(waited == least, waited, waited + 1))
                with m.If(flushed):
                    m.d.comb += self.unit_reset.eq(1)
                    m.d.sync += resetting.eq(0)
                    m.next = "IDLE"
                    with m.If(~stopped & (batch.images_done == batch.settings.image_count)):
                        m.d.sync += [batch.done.eq(1), batch.pending.eq(1)]
                    with m.Elif(~stopped):
                        m.next = "START"
                leave()
        with m.If(batch.soft_reset | (batch.start & ~batch.busy)):
            m.d.sync += [batch.done.eq(0), batch.error.eq(0), batch.pending.eq(0), batch.images_done.eq(0)]
        with m.If(batch.clear_interrupt):
            m.d.sync += batch.pending.eq(0)
        return m

    def _report(self, m: Module, code, index) -> None:
        error = self.batch.error
        m.d.sync += [error.code.eq(code), error.index.eq(index), self.batch.pending.eq(1)]

    def _bad_start(self):
        """Registers that no batch can start with."""
        batch, beat = self.batch.settings, (self._config.axi_bytes - 1).bit_length()
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
        image, deadline = self.image, self.batch.settings.deadline
        late = (deadline != 0) & (self.record.head.cycles + 1 >= deadline)
        unit_error = Signal(error_report())
        m.d.comb += [
            unit_error.eq(image.error),
            code.eq(Mux(late, Error.DEADLINE, Error.NONE)),
            index.eq(image.index),
            found.eq(Mux(ending, late, working & (code != 0))),
        ]
        with m.If(too_long):
            m.d.comb += code.eq(Error.ADDRESS)
        with m.If(self.axi_error):
            m.d.comb += code.eq(Error.AXI)
        with m.If(self.address_error):
            m.d.comb += [unit_error.code.eq(Error.ADDRESS), unit_error.index.eq(image.index)]
        with m.If(unit_error.code != 0):
            m.d.comb += [code.eq(unit_error.code), index.eq(unit_error.index)]

    def _images(self, m: Module) -> None:
        """Addresses and the record of the image at work."""
        image, record, settings = self.image, self.record.head, self.batch.settings
        m.d.comb += [record.classes.eq(image.classes), record.top1.eq(image.top1), record.entropy.eq(image.entropy)]
        with m.If(self.events.clear):
            m.d.sync += [image.address.eq(settings.image_base), record.address.eq(settings.result_base)]
        with m.If(self.record.done):
            m.d.sync += [
                image.address.eq(image.address + settings.image_stride),
                record.address.eq(record.address + settings.result_stride),
            ]
        m.d.sync += record.cycles.eq(record.cycles + 1)
        with m.If(image.start):
            m.d.sync += [record.cycles.eq(0), record.gate_entropy.eq(NO_GATE)]
        with m.If(image.gate_done):
            m.d.sync += record.exit.eq(image.gate_end)
            with m.If(~image.gate_end):
                m.d.sync += record.gate_entropy.eq(image.entropy)

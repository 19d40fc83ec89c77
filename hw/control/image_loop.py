"""The batch: image after image, until its end, an error or a soft reset."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.config import AcceleratorConfig
from hw.control.jobs import error_report, record, settings
from hw.tokens import index_width


class ImageLoop(wiring.Component):
    """Starts every image with idle units, ends it with a record, reports the batch's end or its error.

    Members:
        start, soft_reset, clear_interrupt, settings: from the registers.
        busy, done, error, images_done, pending: to the registers.
        clear_counters: one cycle high at start; `image_start` one cycle high at each image's.
        flush: high while the units must stop and the DMAs end what they began.
        unit_reset: high for one cycle; resets every unit but the loop, the registers and the counters.
        idle: no AXI transfer is under way and no data of one waits in a unit that `flush` does not empty.
        image_address, result_address: of the image at work.
        unit_error: the first error of fetch and the loaders; `axi_error`: a port answered an error; `index`: at issue.
        gate_start, gate_end: from the issue; gate_done, entropy, top1: from the gate.
        proceed: one cycle high: the gate lets the image go on.
        record_start, record, record_done: to and from the result writer.
        exited_low: one cycle high per image that leaves at a gate.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
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
                "result_address": Out(config.address_width),
                "unit_error": In(error_report()),
                "axi_error": In(1),
                "index": In(16),
                "gate_start": In(1),
                "gate_end": In(1),
                "gate_classes": In(16),
                "gate_done": In(1),
                "entropy": In(numerics.LOGIT_WIDTH),
                "top1": In(index_width(config.classes)),
                "proceed": Out(1),
                "record_start": Out(1),
                "record": Out(record(config)),
                "record_done": In(1),
                "exited_low": Out(1),
            }
        )

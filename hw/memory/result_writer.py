"""Writes an image's result record."""

from amaranth.hdl import signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics, tokens
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4WriteSignature


def record_layout(config: AcceleratorConfig) -> data.StructLayout:
    """``address`` of a record, aligned to a beat, and its head's fields, as in `isa.RECORD_FIELDS`."""
    return data.StructLayout(
        {
            "address": config.address_width,
            "exit": 32,
            "entropy": 32,
            "gate_entropy": 32,
            "top1": 16,
            "classes": 16,  # 1 to config.classes
            "cycles": 32,
        }
    )


class ResultWriter(wiring.Component):
    """Result record of `isa.RECORD_FIELDS`, logits sign-extended to 32 bits, zeros up to a whole beat.

    One 32-bit word a cycle; INCR bursts of at most ``burst_beats`` beats that stay within 4 KiB.

    Members:
        start: pulse while `idle`: takes over `record`.
        record: `record_layout`, valid with `start`.
        logit_address: class whose logit is wanted; `logit` follows one cycle later.
        logit: signed, 2^-12 nat.
        done: pulse after the last write response; not after an abort.
        error: pulse with each write response that is SLVERR or DECERR.
        abort: while 1: the burst in flight ends regularly, then no more.
        idle: nothing in work; no burst without its response.
        beat_accepted: pulse with each data beat.
        axi: AXI4 write master; ``awid`` is 0, all bytes enabled.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "record": In(record_layout(config)),
                "logit_address": Out(tokens.index_width(config.classes)),
                "logit": In(signed(numerics.LOGIT_WIDTH)),
                "done": Out(1),
                "error": Out(1),
                "abort": In(1),
                "idle": Out(1),
                "beat_accepted": Out(1),
                "axi": Out(AXI4WriteSignature(config.address_width, config.axi_bytes)),
            }
        )

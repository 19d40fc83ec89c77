"""Entropy and greatest class of the logits."""

from amaranth import signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.config import AcceleratorConfig
from hw.tokens import index_width


class Gate(wiring.Component):
    """Keeps the logits of an image and evaluates them on request.

    Members:
        logit_valid, logit: logits in class order; the first one after reset or after `start` is class 0.
        start: one cycle high, with `classes` stable until `done`.
        done: one cycle high; `entropy` (2^-12 nat) and `top1` stay until the next `done`.
        read_address, read_data: the logits' memory, one cycle of latency.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "logit_valid": In(1),
                "logit": In(signed(numerics.LOGIT_WIDTH)),
                "start": In(1),
                "classes": In(16),
                "done": Out(1),
                "entropy": Out(numerics.LOGIT_WIDTH),
                "top1": Out(index_width(config.classes)),
                "read_address": In(index_width(config.classes)),
                "read_data": Out(signed(numerics.LOGIT_WIDTH)),
            }
        )

"""Takes checked descriptors in order and issues tokens; the only place where the machine waits."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw import tokens
from hw.config import AcceleratorConfig
from hw.control.jobs import compute_entry


def stall_causes() -> data.StructLayout:
    """Why the issue does nothing in a cycle; at most one bit is set."""
    return data.StructLayout({"weights": 1, "parameters": 1, "table": 1, "drain": 1, "load": 1, "fetch": 1})


class Issue(wiring.Component):
    """GEMM, NORM, LOAD, GATE and END, one at a time, with all waits.

    Members:
        feed, weight, tile: tokens of a GEMM, registered, in step; `tile` comes with the last feed token.
        norm: tokens of a NORM.
        weight_available: the next column tile is in every port's ring.
        weight_take: one cycle high when the issue begins with that tile (its first word's decision).
        weight_release: one cycle high with the last word of the last row tile: ``weight_release_words`` words are free.
        parameter_loaded: one cycle high per column tile of parameters that is in the ring.
        table_loaded: bit 0 GELU, bit 1 exp: one cycle high per loaded table; slots of a kind are used alternately, from 0.
        table_release: the same bits: one cycle high when the oldest slot in use may be overwritten.
        rows_go: one cycle high: the side loader may write the rows of the oldest LOAD; it answers `rows_done`.
        gate_start: one cycle high for GATE and END, when the logits are complete, with `gate_end` and `gate_classes`.
        proceed: one cycle high: go on after a GATE.
        settled: all that was issued is in its memory.
        operation, index, attention: of the descriptor at work (0 without one).
        stall: why nothing is issued; norm_busy, gate_busy: a NORM, a GATE or END is at work.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "entries": In(stream.Signature(compute_entry(config))),
                "stop": In(1),
                "feed": Out(tokens.feed_token(config)),
                "weight": Out(tokens.weight_token(config)),
                "tile": Out(tokens.tile_token(config)),
                "norm": Out(tokens.norm_token(config)),
                "weight_available": In(1),
                "weight_take": Out(1),
                "weight_release": Out(1),
                "weight_release_words": Out(16),
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
                "attention": Out(1),
                "stall": Out(stall_causes()),
                "norm_busy": Out(1),
                "gate_busy": Out(1),
            }
        )

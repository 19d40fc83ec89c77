"""What becomes of a drained column: requantization and everything fused behind it."""

import numpy as np
from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.config import AcceleratorConfig
from hw.isa import Post
from hw.row.divider import EXPONENT_WIDTH
from hw.row.requantizer import REQUANTIZER_LATENCY, Requantizer, Saturation
from hw.row.residual_bank import RESIDUAL_READ_LATENCY, element_write, residual_read, residual_word
from hw.row.row_maximum import RowMaximum
from hw.row.row_statistics import statistics_update
from hw.row.table import Table
from hw.row.word_assembly import WordAssembly
from hw.tokens import collector_word, index_width, lane_token, table_write


def byte_write(config: AcceleratorConfig) -> data.StructLayout:
    """Write of one byte of an activation word."""
    return data.StructLayout(
        {
            "valid": 1,
            "address": index_width(config.activation_words),
            "element": index_width(config.depth),
            "data": 8,
        }
    )


def logit(config: AcceleratorConfig) -> data.StructLayout:
    """A logit on its way to the gate; ``last`` comes with the tile's last column whether that one is ``valid`` or not."""
    return data.StructLayout({"valid": 1, "last": 1, "value": signed(numerics.LOGIT_WIDTH)})


class Lane(wiring.Component):
    """Requantizes one column a cycle and takes it where ``token.post`` says. All outputs but the lookups are registered.

    Every memory write is asserted `LANE_LATENCY` - 1 cycles after the token, so a read `LANE_LATENCY` cycles after it sees the
    data; the row maximum can be looked up from then on, too. An element of the residual must not come again within 5 cycles.
    KEY: address and element of a token without ``enabled`` go on counting.

    Members:
        column: In, signed `accumulator_width`, with its ``token``.
        token: In, `lane_token`.
        reciprocal_row_tile: Out, row tile to look up, one cycle after the token; ``quotient`` and ``exponent``: In, same cycle.
        table_write: In, `table_write`; entries for exp are not the lane's.
        activation_write: Out, `byte_write`.
        residual_read: Out, `residual_read`; residual_word: In, `RESIDUAL_READ_LATENCY` cycles later.
        residual_write: Out, `element_write`.
        statistics: Out, `statistics_update`.
        collector: Out, `collector_word`.
        logits: Out, `logit`.
        max_row_tile: In, row tile whose maximum score is ``row_max``: Out, signed 8, same cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "column": In(signed(config.accumulator_width)),
                "token": In(lane_token(config)),
                "reciprocal_row_tile": Out(index_width(config.row_tiles)),
                "quotient": In(numerics.QUOTIENT_WIDTH),
                "exponent": In(EXPONENT_WIDTH),
                "table_write": In(table_write(config)),
                "activation_write": Out(byte_write(config)),
                "residual_read": Out(residual_read(config)),
                "residual_word": In(residual_word(config)),
                "residual_write": Out(element_write(config)),
                "statistics": Out(statistics_update(config)),
                "collector": Out(collector_word(config)),
                "logits": Out(logit(config)),
                "max_row_tile": In(index_width(config.row_tiles)),
                "row_max": Out(signed(8)),
            }
        )

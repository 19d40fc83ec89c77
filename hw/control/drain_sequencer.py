"""Turns tile tokens into the lane tokens of their columns."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import tokens
from hw.config import AcceleratorConfig


class DrainSequencer(wiring.Component):
    """The lane token of column 0 leaves ``Timing.drain_latency`` cycles after its tile token, column c follows c cycles later.

    Members:
        tile: at least ``cols`` cycles apart.
        parameter_address: slot x cols + column of the parameters to read, with `parameter_enable`.
        parameter: the answer, ``PARAMETER_LATENCY`` cycles later.
        parameter_release: one cycle high when a tile with ``release`` has read its last parameters.
        lane: the token for row 0's lane.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "tile": In(tokens.tile_token(config)),
                "parameter_enable": Out(1),
                "parameter_address": Out(tokens.index_width(config.parameter_tiles * config.cols)),
                "parameter": In(tokens.parameter_layout(config)),
                "parameter_release": Out(1),
                "lane": Out(tokens.lane_token(config)),
            }
        )

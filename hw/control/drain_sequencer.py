"""Turns tile commands into the lane commands of their columns."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from hw import commands, signatures
from hw.config import AcceleratorConfig, ceil_div
from hw.isa import Post
from hw.timing import Timing
from hw.weights.parameter_ring import READ_LATENCY

_PREPARE = READ_LATENCY + 2
"""Cycles from a tile's turn to its first lane command: tile register, parameters, output register."""


class DrainSequencer(wiring.Component):
    """The lane command of column 0 leaves ``Timing.drain_latency`` cycles after its tile command, column c follows c cycles later;
    of scores c // ``score_columns``, a command for each `score_columns` of them.

    Members:
        tile: `commands.tile_command`; the next valid one at least ``cols`` cycles later, after scores ``cols // score_columns``.
        parameters: `signatures.parameter_read`.
        parameter_release: one cycle high when a tile with ``release`` has read its last parameters.
        lane: `commands.lane_command` for row 0's lane, a register.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "tile": In(commands.tile_command(config)),
                "parameters": Out(signatures.parameter_read(config)),
                "parameter_release": Out(1),
                "lane": Out(commands.lane_command(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        m = Module()
        delay, pace = Timing(config).drain_latency - _PREPARE, config.score_columns
        layout = commands.tile_command(config)
        m.submodules.waiting = waiting = fifo.SyncFIFO(width=layout.size, depth=ceil_div(delay, config.cols // pace) + 1)
        arrivals = Signal(delay)
        m.d.sync += arrivals.eq((arrivals << 1) | self.tile.valid)
        head = data.View(layout, waiting.r_data)
        turn = arrivals[-1]
        m.d.comb += [waiting.w_en.eq(self.tile.valid), waiting.w_data.eq(self.tile.as_value()), waiting.r_en.eq(turn)]

        tile = Signal(layout)
        running = Signal()
        column = Signal(range(config.cols))
        address, element = Signal.like(tile.address), Signal.like(tile.element)
        wide, final = Signal(), Signal()
        m.d.comb += [
            wide.eq((tile.post == Post.SCORE) & (pace == 2)),
            final.eq(column == Mux(wide, config.cols - pace, config.cols - 1)),
            self.parameters.slot.eq(tile.parameter_tile),
            self.parameters.column.eq(column),
        ]
        m.d.sync += self.parameter_release.eq(running & final & tile.release)
        with m.If(running):
            step = Mux(wide, 2, 1)
            m.d.sync += [column.eq(column + step), running.eq(~final)]
            with m.If(tile.post != Post.VALUE):
                wrap = element == config.pe_depth - step
                m.d.sync += [element.eq(Mux(wrap, 0, element + step)), address.eq(address + wrap)]
        with m.If(turn):
            m.d.sync += [
                tile.eq(head),
                running.eq(1),
                column.eq(0),
                address.eq(head.address),
                element.eq(head.element),
            ]

        command = Signal(commands.lane_command(config))
        shared = ("start", "exponential", "post", "table_slot", "row_tile", "tokens_left", "kv_index", "kv_stride", "blank")
        m.d.comb += [command[name].eq(tile[name]) for name in (*shared, "multiplier", "shift")]
        m.d.comb += [
            command.valid.eq(running),
            command.first.eq(column == 0),
            command.last.eq(final),
            command.enabled.eq(column < tile.columns),
            command.second_enabled.eq(wide & (column + 1 < tile.columns)),
            command.address.eq(address),
            command.addend.eq(address + tile.addend_offset),
            command.element.eq(element),
        ]
        if config.gathers:
            with m.If(tile.post == Post.KEY):
                m.d.comb += [command.first.eq(tile.group_first), command.last.eq(tile.group_last)]
        per_column = tile.per_column
        for stage in range(READ_LATENCY):
            late, late_choice = Signal.like(command, name=f"command{stage}"), Signal(name=f"per_column{stage}")
            m.d.sync += [late.eq(command), late_choice.eq(per_column)]
            command, per_column = late, late_choice
        m.d.sync += self.lane.eq(command)
        with m.If(per_column):
            m.d.sync += [self.lane[name].eq(self.parameters.parameters[name]) for name in ("bias", "multiplier", "shift")]
        return m

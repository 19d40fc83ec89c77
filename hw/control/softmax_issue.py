"""Issues the commands of a SOFTMAX, which has the rows for itself."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import commands, isa
from hw.config import AcceleratorConfig
from hw.control.table_credits import TableCredits
from hw.isa import Opcode
from hw.timing import SOFTMAX_LATENCY


class SoftmaxIssue(wiring.Component):
    """One SOFTMAX: for each row tile, for each group of ``exp_units`` of its tokens, for each key a command. Groups of fewer
    tokens, the last of a row tile, take as long. What is decided in a cycle is on `softmax` in the next one.

    Members:
        start: one cycle high, with the encoded descriptor, while nothing is under way; the first command may be decided in the next
            cycle.
        stop: decide no command any more.
        table_loaded, table_release: one cycle high per exp table that is loaded, or may be overwritten.
        waits: the table is not there.
        done: one cycle high, when a feed command that is decided in the next cycle may read what the last command writes.
        softmax: `commands.softmax_command`, a register.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "stop": In(1),
                "descriptor": In(8 * isa.DESCRIPTOR_BYTES),
                "table_loaded": In(1),
                "table_release": Out(1),
                "waits": Out(1),
                "done": Out(1),
                "softmax": Out(commands.softmax_command(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        # The last row looks its last exp up rows - 1 cycles after row 0.
        m.submodules.tables = tables = TableCredits(SOFTMAX_LATENCY + self._config.rows)
        layout = isa.descriptor_layout(Opcode.SOFTMAX)
        work, head = Signal(layout), data.View(layout, self.descriptor)
        waiting, active = Signal(), Signal()  # for the table; in the middle of the pass
        decides, last = Signal(), Signal()
        m.d.comb += [
            self.waits.eq(waiting & ~tables.available),
            decides.eq(~self.stop & (active | (waiting & tables.available))),
            tables.loaded.eq(self.table_loaded),
            tables.begin.eq(decides & waiting),
            tables.end.eq(last),
            self.table_release.eq(tables.release),
        ]
        m.d.sync += [waiting.eq((waiting & ~decides) | self.start), active.eq((active | decides) & ~last)]
        with m.If(self.start):
            m.d.sync += work.eq(head)
        self._loops(m, work, head, decides, last)
        settling = Signal(SOFTMAX_LATENCY - 1)
        m.d.sync += [settling.eq((settling << 1) | last), self.softmax.valid.eq(decides), self.softmax.table_slot.eq(tables.slot)]
        m.d.comb += self.done.eq(settling[-1])
        return m

    def _loops(self, m: Module, work: data.View, head: data.View, decides: Signal, last: Signal) -> None:
        """Row tiles, groups of rows, keys."""
        config = self._config
        units, command = config.exp_units, self.softmax
        keys_left, tokens_left = Signal(16), Signal(16)  # of the group's tokens; of all, from the group's first row on
        skip = Signal(range(config.rows))
        element = Signal.like(command.element)
        address, start = Signal.like(command.address), Signal.like(command.address)  # of the score; of the row tile
        row_tile = Signal.like(command.row_tile)
        rows_left = Signal(range(config.rows + 1))  # of the row tile, from the group's first row on
        group_end, tile_end, wrap = Signal(), Signal(), Signal()
        m.d.comb += [
            rows_left.eq(config.rows - skip),
            group_end.eq(decides & (keys_left == 1)),
            tile_end.eq(group_end & ((rows_left <= units) | (tokens_left <= units))),
            last.eq(tile_end & (tokens_left <= rows_left)),
            wrap.eq(element == config.pe_depth - 1),
        ]
        with m.If(decides):
            m.d.sync += [keys_left.eq(keys_left - 1), element.eq(Mux(wrap, 0, element + 1)), address.eq(address + wrap)]
        with m.If(group_end):
            m.d.sync += [
                keys_left.eq(work.keys), element.eq(0), address.eq(start), skip.eq(skip + units),
                tokens_left.eq(tokens_left - units),
            ]  # fmt: skip
        with m.If(tile_end):
            following = start + work.stride
            m.d.sync += [
                address.eq(following), start.eq(following), skip.eq(0), tokens_left.eq(tokens_left - rows_left),
                row_tile.eq(row_tile + 1),
            ]  # fmt: skip
        with m.If(self.start):
            m.d.sync += [
                keys_left.eq(head.keys), element.eq(0), address.eq(head.base), start.eq(head.base), skip.eq(0),
                tokens_left.eq(head.tokens), row_tile.eq(0),
            ]  # fmt: skip
        most = Mux(rows_left < units, rows_left, units)
        m.d.sync += [
            command.skip.eq(skip),
            command.units.eq(Mux(tokens_left < most, tokens_left, most)),
            command.row_tile.eq(row_tile),
            command.address.eq(address),
            command.element.eq(element),
        ]

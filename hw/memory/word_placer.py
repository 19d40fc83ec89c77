"""Sends the side loader's words to the parameter ring, the tables and the row banks."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw import commands, signatures
from hw.config import TABLE_ENTRIES, TABLE_SLOTS, AcceleratorConfig
from hw.memory.jobs import JobKind, placement_layout, word_bytes
from hw.memory.segment_reader import word_layout

ROWS_MARGIN = 4
"""Cycles after a word has reached the last row until it is surely in its bank."""


class ParameterPlacer(wiring.Component):
    """Entries of 8 bytes to the slots of the parameter ring, column by column.

    Members:
        fire: `word` is taken; only while `room`.
        room: the slot that the next entry goes to is free.
        write, tile_done: registers; `tile_done` pulses with a slot's last entry.
        release: pulse, one slot given back.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "fire": In(1),
                "word": In(commands.parameter_layout(config)),
                "room": Out(1),
                "write": Out(commands.parameter_write(config)),
                "tile_done": Out(1),
                "release": In(1),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        m = Module()
        free = Signal(range(config.parameter_tiles + 1), init=config.parameter_tiles)
        column = Signal(commands.index_width(config.cols))
        slot = Signal(commands.index_width(config.parameter_tiles))
        take, end = Signal(), Signal()
        m.d.comb += [
            take.eq(self.fire & (column == 0)),
            end.eq(self.fire & (column == config.cols - 1)),
            self.room.eq((column != 0) | (free != 0)),
        ]
        m.d.sync += [
            free.eq(free - take + self.release),
            self.tile_done.eq(end),
            self.write.valid.eq(self.fire),
            self.write.slot.eq(slot),
            self.write.column.eq(column),
            self.write.parameters.eq(self.word),
        ]
        with m.If(self.fire):
            m.d.sync += column.eq(Mux(end, 0, column + 1))
        with m.If(end):
            m.d.sync += slot.eq(Mux(slot == config.parameter_tiles - 1, 0, slot + 1))
        return m


class TablePlacer(wiring.Component):
    """Bytes to the tables of all rows; each kind of table (0 activation, 1 exp) has TABLE_SLOTS slots, used in turn.

    Members:
        exponential: kind of the table in work.
        fire, room: as `ParameterPlacer`.
        write, done: registers; bit `exponential` of `done` pulses with a table's last entry.
        release: pulse, one slot of the kind given back.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "fire": In(1),
                "word": In(8),
                "exponential": In(1),
                "room": Out(1),
                "write": Out(commands.table_write(config)),
                "done": Out(2),
                "release": In(2),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        index = Signal(range(TABLE_ENTRIES))
        free = [Signal(range(TABLE_SLOTS + 1), init=TABLE_SLOTS, name=f"free_{kind}") for kind in range(2)]
        slots = [Signal(name=f"slot_{kind}") for kind in range(2)]
        m.d.comb += self.room.eq((index != 0) | (Array(free)[self.exponential] != 0))
        m.d.sync += [
            self.write.valid.eq(self.fire),
            self.write.exponential.eq(self.exponential),
            self.write.slot.eq(Array(slots)[self.exponential]),
            self.write.index.eq(index),
            self.write.data.eq(self.word),
            index.eq(index + self.fire),
        ]
        for kind in range(2):
            chosen, take, end = (Signal(name=f"{name}_{kind}") for name in ("chosen", "take", "end"))
            m.d.comb += [
                chosen.eq(self.fire & (self.exponential == kind)),
                take.eq(chosen & (index == 0)),
                end.eq(chosen & (index == TABLE_ENTRIES - 1)),
            ]
            m.d.sync += [
                free[kind].eq(free[kind] - take + self.release[kind]),
                slots[kind].eq(slots[kind] ^ end),
                self.done[kind].eq(end),
            ]
        return m


class RowPlacer(wiring.Component):
    """Words of tokens to the banks of their rows; where contiguous, first words of a run's tokens come before their next ones.

    Members:
        start: pulse before a job's first word: takes over `placement`.
        placement: `placement_layout`.
        fire: `word` is taken, always possible; `last` word of a token, unless contiguous; `final`, with `last`: of a job.
        load: register.
        done: pulse ``rows + ROWS_MARGIN`` cycles after the final word stood in `load`.
        busy: from the final word until `done`.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "placement": In(placement_layout(config)),
                "fire": In(1),
                "last": In(1),
                "final": In(1),
                "word": In(commands.load_word(config)["data"].shape),
                "load": Out(commands.load_word(config)),
                "done": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        m = Module()
        place = self.placement
        address_shape = commands.bank_address_width(config)
        row, run_row = (Signal(commands.index_width(config.rows), name=name) for name in ("row", "run_row"))
        address = Signal(address_shape)
        # where this row tile's tokens begin, and where their segments in work do; both of the token at work and of the run's first
        base, run_base = (Signal(address_shape, name=name) for name in ("base", "run_base"))
        start, run_start = (Signal(address_shape, name=name) for name in ("start_address", "run_start"))
        words_left, tokens_left, segments_left = (
            Signal(place[name].shape(), name=f"{name}_left") for name in ("segment_words", "tokens", "segments")
        )
        wait = Signal(range(config.rows + ROWS_MARGIN + 2))
        m.d.comb += [self.done.eq(wait == 1), self.busy.eq(wait != 0)]
        m.d.sync += [
            self.load.valid.eq(self.fire),
            self.load.target.eq(self.placement.target),
            self.load.rows_left.eq(row),
            self.load.address.eq(address),
            self.load.data.eq(self.word),
            wait.eq(wait - (wait != 0)),
        ]
        with m.If(self.start):
            m.d.sync += [signal.eq(place.row) for signal in (row, run_row)]
            m.d.sync += [signal.eq(place.base) for signal in (address, base, run_base, start, run_start)]
            m.d.sync += [
                words_left.eq(place.segment_words), tokens_left.eq(place.tokens), segments_left.eq(place.segments),
            ]  # fmt: skip
        wrap, following = Signal(), Signal(row.shape())
        m.d.comb += [wrap.eq(row == config.rows - 1), following.eq(Mux(wrap, 0, row + 1))]
        step = Mux(wrap, place.stride, 0)
        with m.If(self.fire):
            m.d.sync += [address.eq(address + 1), words_left.eq(words_left - 1)]
            with m.If(Mux(place.contiguous, words_left == 1, self.last)):
                m.d.sync += [words_left.eq(place.segment_words), tokens_left.eq(tokens_left - 1)]
                with m.If(tokens_left != 1):
                    m.d.sync += [row.eq(following), base.eq(base + step)]
                    m.d.sync += [signal.eq(start + step) for signal in (address, start)]
                with m.Elif(segments_left != 1):
                    m.d.sync += [row.eq(run_row), base.eq(run_base)]
                    m.d.sync += [signal.eq(run_start + place.segment_words) for signal in (address, start, run_start)]
                    m.d.sync += [tokens_left.eq(place.tokens), segments_left.eq(segments_left - 1)]
                with m.Else():
                    m.d.sync += [signal.eq(following) for signal in (row, run_row)]
                    m.d.sync += [signal.eq(base + step) for signal in (address, base, run_base, start, run_start)]
                    m.d.sync += [tokens_left.eq(place.tokens), segments_left.eq(place.segments)]
            with m.If(self.final):
                m.d.sync += wait.eq(config.rows + ROWS_MARGIN + 1)
        return m


class WordPlacer(wiring.Component):
    """One word per cycle, one idle cycle per job; words wait where a slot is not free. Outputs are registers, one cycle after
    the word.

    Members:
        words: stream of `SegmentReader` words; ``final`` ends a job.
        placement: stream of `placement_layout`, one per job; taken with the job's last word.
        rows_started: a ROWS job is at work or waits for its words.
        busy: rows are still on their way to their banks.
        others: as `SideLoader`.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "words": In(stream.Signature(word_layout(word_bytes(config)))),
                "placement": In(stream.Signature(placement_layout(config))),
                "parameter_write": Out(commands.parameter_write(config)),
                "parameter_credits": In(signatures.parameter_credits()),
                "table_credits": In(signatures.table_credits()),
                "row_writes": Out(signatures.row_writes(config)),
                "load_rows": In(signatures.load_rows()),
                "rows_started": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.parameters = parameters = ParameterPlacer(self._config)
        m.submodules.table = table = TablePlacer(self._config)
        m.submodules.rows = rows = RowPlacer(self._config)
        job, word = self.placement.payload, self.words.payload
        started = Signal()
        fire, room = Signal(), Signal()
        m.d.comb += [
            self.words.ready.eq(started & room),
            fire.eq(self.words.valid & self.words.ready),
            self.placement.ready.eq(fire & word.final),
            rows.start.eq(~started),
            rows.placement.eq(job),
            rows.last.eq(word.last),
            rows.final.eq(word.final),
            table.exponential.eq(job.exponential),
            parameters.release.eq(self.parameter_credits.release),
            table.release.eq(self.table_credits.release),
            self.parameter_write.eq(parameters.write),
            self.parameter_credits.loaded.eq(parameters.tile_done),
            self.row_writes.table_write.eq(table.write),
            self.table_credits.loaded.eq(table.done),
            self.row_writes.load.eq(rows.load),
            self.load_rows.done.eq(rows.done),
            self.busy.eq(rows.busy),
            parameters.word.as_value().eq(word.data),
            table.word.eq(word.data),
            rows.word.eq(word.data),
        ]
        go, is_rows, begin = Signal(), Signal(), Signal()
        m.d.comb += [
            is_rows.eq(job.kind == JobKind.ROWS),
            begin.eq(~started & self.placement.valid & (go | ~is_rows)),
            self.rows_started.eq(started & is_rows),
        ]
        m.d.sync += [
            go.eq(Mux(begin & is_rows, 0, go | self.load_rows.go)),
            started.eq(Mux(started, ~self.placement.ready, begin)),
        ]
        with m.Switch(job.kind):
            with m.Case(JobKind.PARAMETERS):
                m.d.comb += [room.eq(parameters.room), parameters.fire.eq(fire)]
            with m.Case(JobKind.TABLE):
                m.d.comb += [room.eq(table.room), table.fire.eq(fire)]
            with m.Default():
                m.d.comb += [room.eq(1), rows.fire.eq(fire)]
        return m

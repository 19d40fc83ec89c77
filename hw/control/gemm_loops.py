"""Loop counters and addresses of a GEMM: groups of column tiles, row tiles, column tiles, words."""

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import commands, isa
from hw.config import AcceleratorConfig
from hw.isa import Opcode, Post


@dataclass(frozen=True)
class _Ends:
    """High with the last word of a tile, of a row tile's last tile in its group, of the group's last row tile."""

    tile: Signal
    row: Signal
    group: Signal


class GemmLoops(wiring.Component):
    """Position of the next word of the GEMM at hand; all values are registers or follow from them.

    What depends on the column tile is kept twice, for the tile at hand and for the first one of its group, to which the next
    row tile goes back; so nothing needs a multiplier.

    Members:
        accept: take `head`, an encoded GEMM; may come with the last `advance` of the one before.
        advance: the word at the position was issued.
        gemm: the descriptor at hand.
        first_tile: first tile of the GEMM; first_column_tile: n == 0.
        first_use, last_use: the tile's weights and parameters were not read before, will not be read again.
        last_word, last_row_tile, last_column_tile: of the tile, the group, the GEMM.
        row_tile: counts the GEMM's own row tiles, from 0; row_state: number of its state in the rows.
        feed_address, elements: of the feed command.
        weight_address: in the ring or, with FLAG_KV, in the K and V buffer.
        parameter_tile … columns: of the tile command.
        group_first, group_last: where rows gather, first and last column tile of the row tile's group.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        feed, tile = commands.feed_command(config), commands.tile_command(config)
        flags = (
            "first_tile", "first_column_tile", "first_use", "last_use", "last_word", "last_row_tile", "last_column_tile",
        )  # fmt: skip
        super().__init__(
            {
                "accept": In(1),
                "head": In(8 * isa.DESCRIPTOR_BYTES),
                "advance": In(1),
                "gemm": Out(isa.descriptor_layout(Opcode.GEMM)),
                **{name: Out(1) for name in flags},
                "feed_address": Out(feed["address"].shape),
                "elements": Out(feed["elements"].shape),
                "row_tile": Out(feed["row_tile"].shape),
                "row_state": Out(feed["row_tile"].shape),
                "weight_address": Out(commands.weight_command(config)["address"].shape),
                **{
                    name: Out(tile[name].shape)
                    for name in (
                        "parameter_tile", "address", "addend_offset", "element", "kv_index", "kv_stride", "tokens_left", "columns",
                    )
                },
                **({"group_first": Out(1), "group_last": Out(1)} if config.gathers else {}),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        head = data.View(self.gemm.shape(), self.head)
        ends = _Ends(Signal(name="tile_end"), Signal(name="row_end"), Signal(name="group_end"))
        left = Signal(16)  # tiles of the group's row tile; token_major never counts down to 1
        m.d.comb += [
            ends.tile.eq(self.advance & self.last_word),
            ends.row.eq(ends.tile & (self.last_column_tile | (left == 1))),
            ends.group.eq(ends.row & self.last_row_tile),
        ]
        with m.If(ends.tile):
            m.d.sync += [self.first_tile.eq(0), left.eq(left - 1)]
        with m.If(ends.row):
            m.d.sync += left.eq(self.gemm.resident)
        with m.If(self.accept):
            m.d.sync += [self.gemm.eq(head), self.first_tile.eq(1), left.eq(head.resident)]
        if self._config.gathers:
            m.d.comb += self.group_last.eq(self.last_column_tile | (left == 1))
            m.d.sync += self.group_first.eq(self.accept | Mux(ends.tile, ends.row, self.group_first))
        self._words(m, head, ends)
        self._row_tiles(m, head, ends)
        self._column_tiles(m, head, ends)
        self._weights(m, head, ends)
        self._destination(m, head, ends)
        return m

    def _follow(self, m: Module, ends: _Ends, value: Value, following: ValueLike, start: ValueLike, back: ValueLike = 1) -> None:
        """``value`` of the column tile at hand: `following` of the next one, and for the next row tile, where ``back``, what it was
        of the group's first column tile; ``start`` at the GEMM's begin."""
        first = Signal.like(value, name="group_first")
        with m.If(ends.tile):
            m.d.sync += value.eq(following)
        with m.If(ends.row & ~ends.group & back):
            m.d.sync += value.eq(first)
        with m.If(ends.group):
            m.d.sync += first.eq(following)
        with m.If(self.accept):
            m.d.sync += [value.eq(start), first.eq(start)]

    def _words(self, m: Module, head: data.View, ends: _Ends) -> None:
        """Words and elements of the dot product."""
        words, elements = Signal(16), Signal(16)
        depth = self._config.pe_depth
        m.d.comb += [self.last_word.eq(words == 1), self.elements.eq(Mux(elements < depth, elements, depth))]
        with m.If(self.advance):
            m.d.sync += [words.eq(words - 1), elements.eq(elements - depth)]
        for end, view in ((ends.tile, self.gemm), (self.accept, head)):
            with m.If(end):
                m.d.sync += [words.eq(view.k_words), elements.eq(view.k_elements)]

    def _row_tiles(self, m: Module, head: data.View, ends: _Ends) -> None:
        """Row tiles, tokens left, feed addresses."""
        gemm, config = self.gemm, self._config
        source, segment = (Signal.like(self.feed_address, name=name) for name in ("source", "segment"))  # their first words
        left = Signal(16)  # words of the segment; from 0, of a single segment, it does not come down to 1
        m.d.comb += self.last_row_tile.eq(self.row_tile == (gemm.row_tiles - 1)[:16])
        with m.If(self.advance):
            m.d.sync += [self.feed_address.eq(self.feed_address + 1), left.eq(left - 1)]
        following = source + gemm.source_stride
        for begins, address, view in (
            (self.advance & (left == 1), segment + gemm.segment_stride, gemm),
            (ends.tile, source, gemm),
            (ends.row, following, gemm),
            (ends.group, gemm.source_base, gemm),
            (self.accept, head.source_base, head),
        ):
            with m.If(begins):
                m.d.sync += [self.feed_address.eq(address), segment.eq(address), left.eq(view.segment_words)]
        with m.If(ends.row):
            m.d.sync += [
                self.row_tile.eq(self.row_tile + 1),
                self.row_state.eq(self.row_state + 1),
                self.tokens_left.eq(self.tokens_left - config.rows),
                source.eq(following),
            ]
        for end, view in ((ends.group, gemm), (self.accept, head)):
            with m.If(end):
                m.d.sync += [
                    self.row_tile.eq(0),
                    self.row_state.eq(view.first_row_tile),
                    self.tokens_left.eq(view.tokens),
                    source.eq(view.source_base),
                ]

    def _column_tiles(self, m: Module, head: data.View, ends: _Ends) -> None:
        """Channels left, parameter slots, and which tile is the first or the last to use its weights and parameters."""
        gemm, config = self.gemm, self._config
        token_major = gemm.resident == 0
        channels = Signal(16)
        m.d.comb += [
            self.last_column_tile.eq(channels <= config.cols),
            self.columns.eq(Mux(self.last_column_tile, channels, config.cols)),
            self.first_use.eq(token_major | (self.row_tile == 0)),
            self.last_use.eq(token_major | self.last_row_tile),
        ]
        self._follow(m, ends, channels, channels - config.cols, head.columns)
        self._follow(m, ends, self.first_column_tile, 0, 1)

        slot, following = self.parameter_tile, Signal.like(self.parameter_tile)
        m.d.comb += following.eq(slot)
        with m.If((gemm.flags & isa.FLAG_PER_COLUMN) != 0):
            m.d.comb += following.eq(Mux(slot == config.parameter_tiles - 1, 0, slot + 1))
        self._follow(m, ends, slot, following, Mux(ends.tile, following, slot), back=~token_major)

    def _weights(self, m: Module, head: data.View, ends: _Ends) -> None:
        """Read pointer of the ring, in step with the ports' write pointers, or the word of the K and V buffer."""
        ring_words = self._config.weight_words
        buffered = (self.gemm.flags & isa.FLAG_KV) != 0
        ring_base, ring_after, following = (
            Signal.like(self.weight_address, name=name) for name in ("ring_base", "ring_after", "following")
        )
        wrap = ~buffered & (self.weight_address == ring_words - 1)
        m.d.comb += [
            following.eq(Mux(wrap, 0, self.weight_address + 1)),
            ring_after.eq(Mux(ends.group & ~buffered, following, ring_base)),
        ]
        m.d.sync += ring_base.eq(ring_after)
        with m.If(self.advance):
            m.d.sync += self.weight_address.eq(following)
        start = Mux((head.flags & isa.FLAG_KV) != 0, head.kv_base, ring_after)
        self._follow(m, ends, self.weight_address, following, start, back=buffered | (self.gemm.resident != 0))

    def _destination(self, m: Module, head: data.View, ends: _Ends) -> None:
        """Where the tile's first row and column go; divisions by constants become carries of running remainders."""
        config, gemm = self._config, self.gemm
        rows, cols, depth = config.rows, config.cols, config.pe_depth
        key, value = gemm.post == Post.KEY, gemm.post == Post.VALUE
        row_offset, column_base = Signal.like(self.address), Signal.like(self.address)
        m.d.comb += [self.kv_stride.eq(Mux(value, 1, gemm.stride)), self.address.eq(column_base + row_offset)]
        with m.If(self.accept):
            m.d.sync += self.addend_offset.eq(head.addend_base - head.base)

        # Row tile to row tile: t0 = i * rows, divided by cols (KEY) or depth (VALUE).
        modulus = Mux(value, depth, cols)
        index_sum = Signal(range(2 * max(cols, depth)))
        index_carry = Signal()
        row_step = Signal(range(max(1 << 16, rows)))
        m.d.comb += [
            index_sum.eq(self.kv_index + Mux(value, rows % depth, rows % cols)),
            index_carry.eq(index_sum >= modulus),
            row_step.eq(gemm.stride),
        ]
        with m.If(key):
            m.d.comb += row_step.eq(gemm.stride * (rows // cols) + Mux(index_carry, gemm.stride, 0))
        with m.Elif(value):
            m.d.comb += row_step.eq(rows // depth + index_carry)
        with m.If(ends.row):
            m.d.sync += [
                row_offset.eq(row_offset + row_step),
                self.kv_index.eq(Mux(index_carry, index_sum - modulus, index_sum)),
            ]
        with m.If(ends.group | self.accept):
            m.d.sync += [row_offset.eq(0), self.kv_index.eq(0)]

        # Column tile to column tile: channel n * cols, divided by depth.
        element_sum = Signal(range(2 * depth))
        element_carry = Signal()
        column_step = Signal(16)
        m.d.comb += [
            element_sum.eq(self.element + cols % depth),
            element_carry.eq(element_sum >= depth),
            column_step.eq(Mux(value, gemm.stride, cols // depth + element_carry)),
        ]
        self._follow(m, ends, column_base, column_base + column_step, head.base)
        self._follow(m, ends, self.element, Mux(element_carry, element_sum - depth, element_sum), head.element)

"""Loop counters and addresses of a GEMM: column tiles, row tiles, words."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import isa, tokens
from hw.config import AcceleratorConfig
from hw.isa import Opcode, Post
from hw.tokens import index_width


class GemmLoops(wiring.Component):
    """Position of the next word of the GEMM at hand; all values are registers or follow from them.

    Members:
        accept: take `head`, an encoded GEMM; may come with the last `advance` of the one before.
        advance: the word at the position was issued.
        gemm: the descriptor at hand.
        first_tile: first tile of the GEMM; first_column_tile, first_row_tile: n == 0, i == 0.
        last_word, last_row_tile, last_column_tile: of the tile, the column tile, the GEMM.
        feed_address, elements, row_tile: of the feed token.
        weight_address: in the ring or, with FLAG_KV, in the K and V buffer.
        address … columns: of the tile token.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        feed, tile = tokens.feed_token(config), tokens.tile_token(config)
        flags = ("first_tile", "first_column_tile", "first_row_tile", "last_word", "last_row_tile", "last_column_tile")
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
                "weight_address": Out(tokens.weight_token(config)["address"].shape),
                **{
                    name: Out(tile[name].shape)
                    for name in ("address", "element", "kv_index", "kv_stride", "tokens_left", "columns")
                },
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        head = data.View(self.gemm.shape(), self.head)
        tile_end, column_end = Signal(), Signal()
        m.d.comb += [tile_end.eq(self.advance & self.last_word), column_end.eq(tile_end & self.last_row_tile)]
        with m.If(self.accept):
            m.d.sync += self.gemm.eq(head)
        self._words(m, head, tile_end)
        self._tiles(m, head, tile_end, column_end)
        self._weights(m, head, tile_end, column_end)
        self._destination(m, head, tile_end, column_end)
        return m

    def _words(self, m: Module, head: data.View, tile_end: Value) -> None:
        """Words and elements of the dot product."""
        words, elements = Signal(16), Signal(16)
        depth = self._config.depth
        m.d.comb += [self.last_word.eq(words == 1), self.elements.eq(Mux(elements < depth, elements, depth))]
        with m.If(self.advance):
            m.d.sync += [words.eq(words - 1), elements.eq(elements - depth)]
        with m.If(tile_end):
            m.d.sync += [words.eq(self.gemm.k_words), elements.eq(self.gemm.k_elements)]
        with m.If(self.accept):
            m.d.sync += [words.eq(head.k_words), elements.eq(head.k_elements)]

    def _tiles(self, m: Module, head: data.View, tile_end: Value, column_end: Value) -> None:
        """Row and column tiles, tokens and channels left, feed addresses."""
        gemm, config = self.gemm, self._config
        source = Signal(index_width(config.activation_words))
        channels = Signal(16)
        m.d.comb += [
            self.first_row_tile.eq(self.row_tile == 0),
            self.last_row_tile.eq(self.row_tile == (gemm.row_tiles - 1)[:16]),
            self.last_column_tile.eq(channels <= config.cols),
            self.columns.eq(Mux(self.last_column_tile, channels, config.cols)),
        ]
        with m.If(self.advance):
            m.d.sync += self.feed_address.eq(self.feed_address + 1)
        with m.If(tile_end):
            following = source + gemm.source_stride
            m.d.sync += [
                self.first_tile.eq(0),
                self.row_tile.eq(self.row_tile + 1),
                self.tokens_left.eq(self.tokens_left - config.rows),
                source.eq(following),
                self.feed_address.eq(following),
            ]
        for end, view in ((column_end, gemm), (self.accept, head)):
            with m.If(end):
                m.d.sync += [
                    self.row_tile.eq(0),
                    self.tokens_left.eq(view.tokens),
                    source.eq(view.source_base),
                    self.feed_address.eq(view.source_base),
                ]
        with m.If(column_end):
            m.d.sync += [self.first_column_tile.eq(0), channels.eq(channels - config.cols)]
        with m.If(self.accept):
            m.d.sync += [self.first_tile.eq(1), self.first_column_tile.eq(1), channels.eq(head.columns)]

    def _weights(self, m: Module, head: data.View, tile_end: Value, column_end: Value) -> None:
        """Read pointer of the ring, in step with the ports' write pointers, or the word of the K and V buffer."""
        ring_words = self._config.weight_words
        buffered = (self.gemm.flags & isa.FLAG_KV) != 0
        names = ("tile_base", "ring_base", "ring_after")
        tile_base, ring_base, ring_after = (Signal.like(self.weight_address, name=name) for name in names)
        following = Signal.like(self.weight_address)
        wrap = ~buffered & (self.weight_address == ring_words - 1)
        m.d.comb += [
            following.eq(Mux(wrap, 0, self.weight_address + 1)),
            ring_after.eq(Mux(column_end & ~buffered, following, ring_base)),
        ]
        m.d.sync += ring_base.eq(ring_after)
        with m.If(self.advance):
            m.d.sync += self.weight_address.eq(following)
        with m.If(tile_end & ~self.last_row_tile):
            m.d.sync += self.weight_address.eq(tile_base)
        with m.If(column_end):
            m.d.sync += tile_base.eq(following)
        with m.If(self.accept):
            base = Mux((head.flags & isa.FLAG_KV) != 0, head.kv_base, ring_after)
            m.d.sync += [self.weight_address.eq(base), tile_base.eq(base)]

    def _destination(self, m: Module, head: data.View, tile_end: Value, column_end: Value) -> None:
        """Where the tile's first row and column go; divisions by constants become carries of running remainders."""
        config, gemm = self._config, self.gemm
        rows, cols, depth = config.rows, config.cols, config.depth
        key, value = gemm.post == Post.KEY, gemm.post == Post.VALUE
        m.d.comb += self.kv_stride.eq(Mux(value, 1, gemm.stride))

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

        # Column tile to column tile: channel n * cols, divided by depth.
        origin = Signal.like(self.address)
        element_sum = Signal(range(2 * depth))
        element_carry = Signal()
        column_step = Signal(16)
        m.d.comb += [
            element_sum.eq(self.element + cols % depth),
            element_carry.eq(element_sum >= depth),
            column_step.eq(Mux(value, gemm.stride, cols // depth + element_carry)),
        ]
        with m.If(tile_end):
            m.d.sync += [
                self.address.eq(self.address + row_step),
                self.kv_index.eq(Mux(index_carry, index_sum - modulus, index_sum)),
            ]
        with m.If(column_end):
            m.d.sync += [
                origin.eq(origin + column_step),
                self.address.eq(origin + column_step),
                self.element.eq(Mux(element_carry, element_sum - depth, element_sum)),
            ]
        with m.If(self.accept):
            m.d.sync += [Cat(origin).eq(head.base), self.address.eq(head.base), self.element.eq(head.element)]
        with m.If(column_end | self.accept):
            m.d.sync += self.kv_index.eq(0)

"""The loops of a GEMM at their interface: every word is read where the descriptor says, and nowhere else."""

from amaranth.hdl import Mux, Signal
from amaranth.lib import data

from hw import isa
from hw.config import AcceleratorConfig
from hw.control.gemm_loops import GemmLoops
from hw.formal.harness import Harness, drive_freely
from hw.formal.proof import Mutant, Proof
from hw.formal.read_master import machine
from hw.isa import Opcode, Post

_MODULE = "hw.control.gemm_loops"
_SMALL = (
    ("element", 0), ("source_stride", 7), ("segment_stride", 7), ("segment_words", 3), ("source_base", 15), ("base", 15),
    ("stride", 3),
)  # fmt: skip
"""Fields and the greatest values that few cycles need to tell them apart."""


def _loops(config: AcceleratorConfig):
    def describe(h: Harness) -> None:
        m, loops = h.m, GemmLoops(config)
        h.add(loops)
        drive_freely(m, loops, but=("accept",))
        head, gemm = data.View(isa.descriptor_layout(Opcode.GEMM), loops.head), loops.gemm
        busy, last = Signal(), Signal()
        m.d.comb += [
            last.eq(loops.advance & loops.last_word & loops.last_row_tile & loops.last_column_tile),
            loops.accept.eq(h.any_value(1, "accepts") & (~busy | last)),
        ]
        m.d.sync += busy.eq(loops.accept | (busy & ~last))
        h.assume(busy | ~loops.advance)
        for field, most in (("k_words", 4), ("row_tiles", 2), ("columns", config.cols + 1)):
            h.assume((head[field] != 0) & (head[field] <= most))
        for field, most in _SMALL:
            h.assume(head[field] <= most)
        h.assume((head.post == Post.REQUANT) | (head.post == Post.RESIDUAL))

        # The position of the next word, counted by the words that were issued.
        word, segment, place = (Signal(4, name=name) for name in ("word", "segment", "place"))
        row_tile = loops.row_tile
        with m.If(loops.advance):
            ends = gemm.segment_words == place + 1
            m.d.sync += [word.eq(word + 1), place.eq(Mux(ends, 0, place + 1)), segment.eq(segment + ends)]
            with m.If(loops.last_word):
                m.d.sync += [word.eq(0), place.eq(0), segment.eq(0)]
        with m.If(loops.accept):
            m.d.sync += [word.eq(0), place.eq(0), segment.eq(0)]
        expected = gemm.source_base + row_tile * gemm.source_stride + segment * gemm.segment_stride + place
        h.prove(
            "a word is fed from its segment of its row tile", ~busy | (loops.feed_address == expected[: len(loops.feed_address)])
        )
        h.prove("a dot product has all its words", ~busy | (loops.last_word == (word + 1 == gemm.k_words)))
        state = gemm.first_row_tile + row_tile
        h.prove("a row tile goes by its own row state", ~busy | (loops.row_state == state[: len(loops.row_state)]))
        channel = Mux(loops.first_column_tile, 0, config.cols)  # depth 1: a word each
        target = gemm.base + row_tile * gemm.stride + channel
        width = len(loops.addend_offset)
        addend = (gemm.addend_base + row_tile * gemm.stride + channel)[:width]
        h.prove("a column tile goes to its place", ~busy | (loops.address == target[: len(loops.address)]))
        h.prove("an addend lies as far behind its base", ~busy | ((loops.address + loops.addend_offset)[:width] == addend))

    return describe


PROOFS = (
    Proof(
        "gemm-loops",
        "hw.control.gemm_loops.GemmLoops",
        "rows 2, cols 2, depth 1; GEMMs of at most 4 words in segments of at most 3, 2 row tiles and 2 column tiles, any number of "
        "them resident",
        _loops(machine(rows=2, cols=2, pe_depth=1, activation_words=64, residual_words=64, normalized_words=64, kv_words=64)),
        14,
        bounded=True,
        search=14,
        slow=True,
        mutants=(
            Mutant(
                "a stride from the last word", _MODULE, "segment + gemm.segment_stride", "self.feed_address + gemm.segment_stride"
            ),
            Mutant("segments go on in the next tile", _MODULE, "(ends.tile, source, gemm)", "(ends.tile, segment, gemm)"),
            Mutant("one state for all row tiles", _MODULE, "self.row_state.eq(self.row_state + 1)", "self.row_state.eq(1)"),
            Mutant("an addend in place", _MODULE, "head.addend_base - head.base", "0"),
        ),
    ),
)

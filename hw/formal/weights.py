"""Weight credits: rings are never overfilled, and no word in use is overwritten."""

from collections.abc import Sequence
from unittest.mock import patch

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.formal.harness import Harness, drive_freely
from hw.formal.proof import Mutant, Proof
from hw.formal.read_master import machine
from hw.memory.axi import AXI4ReadSignature
from hw.memory.segment_reader import segment_layout, word_layout
from hw.weights import weight_port
from hw.weights.weight_port import WeightPort

_MODULE = "hw.weights.weight_port"


class AnyWords(wiring.Component):
    """Stands for a `SegmentReader` that delivers any words at any time, and takes segments at any time."""

    def __init__(self, config: AcceleratorConfig, *, word_bytes: Sequence[int], unit_bytes: int):
        super().__init__(
            {
                "segment": In(stream.Signature(segment_layout(config, len(word_bytes)))),
                "words": Out(stream.Signature(word_layout(word_bytes))),
                "axi": Out(AXI4ReadSignature(config.address_width, config.axi_bytes)),
                "abort": In(1),
                "idle": Out(1),
                "error": Out(1),
                "beat_accepted": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        drive_freely(m, wiring.flipped(self))
        return m


def _port(config: AcceleratorConfig):
    def describe(h: Harness) -> None:
        m, ring = h.m, config.weight_words
        with patch.object(weight_port, "SegmentReader", AnyWords):
            port = WeightPort(config)
            opened = h.add(port)
        drive_freely(m, port)
        job = port.job.payload
        h.assume((job.k_words != 0) & (job.k_words <= ring) & (job.column_tiles != 0))
        # Words that are in the ring as whole column tiles; the oldest of them, any number at a time, are given back.
        whole, oldest = Signal(range(2 * ring)), Signal(range(ring))
        h.assume(port.release <= whole)
        finished = Signal(range(ring + 1))  # words of the tile whose last write stands at the output
        m.d.sync += whole.eq(whole + Mux(port.tile_done, finished, 0) - port.release)
        after = oldest + port.release
        m.d.sync += oldest.eq(Mux(after >= ring, after - ring, after))
        distance, write = Signal(range(2 * ring)), port.write
        m.d.comb += distance.eq(Mux(write.address >= oldest, write.address - oldest, write.address + ring - oldest))
        h.prove("no write touches a word of a whole tile that was not given back", ~write.valid | (distance >= whole))
        h.prove("the ring holds no more words than it has", whole + Mux(port.tile_done, finished, 0) <= ring)
        shape = data.StructLayout({"k_words": job.k_words.shape(), "column_tiles": 16})
        k_words = data.View(shape, opened.signal("jobs.r_data")).k_words
        fire, word, group = (opened.signal(name) for name in ("fire", "word", "group"))
        last = fire & (word == k_words - 1) & (group == config.groups_per_port - 1)
        m.d.sync += finished.eq(Mux(last, k_words, 0))
        h.prove("a tile is done with the write of its last word", port.tile_done == h.past(last))
        h.assume(~fire | opened.signal("jobs.r_rdy"))  # words belong to jobs

        begun = (word != 0) | (group != 0)
        free = opened.signal("free")
        h.invariant(
            "words are free, in use or promised to the tile at work", free + whole + finished + Mux(begun, k_words, 0) == ring
        )
        h.invariant(
            "pointers are in range", (oldest < ring) & (group < config.groups_per_port) & ((finished != 0) == port.tile_done)
        )
        place = oldest + whole + finished + word
        around = Mux(place >= 2 * ring, place - 2 * ring, Mux(place >= ring, place - ring, place))
        h.invariant("words are written one after the other", opened.signal("address") == around)
        h.invariant("a begun tile has words to come", ~begun | ((word < k_words) & opened.signal("jobs.r_rdy")))
        level, read = opened.signal("jobs.level"), opened.signal("jobs.consume")
        depth = config.queue_depth
        write_place = read + level
        h.invariant(
            "the queue is in order",
            (level <= depth)
            & (read < depth)
            & (opened.signal("jobs.produce") == Mux(write_place >= depth, write_place - depth, write_place)),
        )
        for place, row in enumerate(opened.rows("jobs.storage")):
            queued = Mux(read <= place, place - read, place + depth - read) < level
            size = data.View(shape, row).k_words
            h.invariant("queued jobs have words that fit", ~queued | ((size != 0) & (size <= ring)))
        before = h.past(opened.signal("address"))
        h.invariant("a write goes where the pointer stood", ~write.valid | (write.address == before))
        h.invariant("which was beyond the whole tiles", ~write.valid | (distance >= whole))

    return describe


PROOFS = tuple(
    Proof(
        f"weight-port-{words}x{cols}",
        "hw.weights.weight_port.WeightPort",
        f"weight_words {words}, cols {cols}, depth 4, axi_bytes 8, queue_depth 2; any words at any time in place of SegmentReader",
        _port(machine(weight_words=words, cols=cols, queue_depth=2)),
        4,
        family="weight-port",
        search=20,
        mutants=(
            Mutant(
                "a tile takes a word too few",
                _MODULE,
                "Mux(fire & first, tile.k_words, 0)",
                "Mux(fire & first, tile.k_words - 1, 0)",
            ),
            Mutant(
                "starts without room", _MODULE, "reader.words.ready.eq(~first | (free >= tile.k_words))", "reader.words.ready.eq(1)"
            ),
            Mutant("done with every word", _MODULE, "self.tile_done.eq(fire & last_word)", "self.tile_done.eq(fire & last_group)"),
            Mutant(
                "the ring wraps late",
                _MODULE,
                "Mux(address == config.weight_words - 1, 0, address + 1)",
                "Mux(address == config.weight_words, 0, address + 1)",
            ),
        )
        if cols == 4
        else (),
    )
    for words, cols in ((5, 4), (8, 2), (16, 3))
)

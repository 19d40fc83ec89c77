"""Descriptors in order, each with the waiting that its operands need."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import FLAG_ATTENTION, FLAG_HIGH, FLAG_WAIT, Descriptor, Opcode, Post
from hw.timing import LANE_LATENCY, Timing


class Span(NamedTuple):
    """Words ``start`` ... ``end - 1`` of a memory: ``activation`` or ``kv``."""

    memory: str
    start: int
    end: int

    def overlaps(self, other: "Span") -> bool:
        """Whether the two have a word in common."""
        return self.memory == other.memory and self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class _Write:
    """A write under way: latest cycle, by row tile, from which row 0 may be fed with it; rows below follow in step.

    What lies in the K and V buffer, or is pixels of a map, counts for every row tile.
    """

    span: Span
    readable: tuple[int, ...]


class DescriptorStream:
    """Collects descriptors and sets FLAG_WAIT where a GEMM would read a word before it is written.

    A GEMM may go without waiting although an earlier one wrote its operand, if everything between takes longer at its
    fastest than the write needs. Cycles count feed tokens at their fastest: tiles of a GEMM follow each other by at least
    `Timing.tile_interval`, the first tile of the next GEMM ends at least `Timing.drain_interval` after the last one.
    Row tile by row tile: what the last column tiles wrote for row tile i is as old as the tiles behind it are long, and the
    reader begins with row tile 0.
    Only reads after writes need care: words are fed at issue and written later, both in issue order, so a GEMM cannot
    overwrite what an earlier one still reads; two writes of one word land in issue order. LOAD, GATE and END wait by
    themselves; a NORM and what it reads and writes are waited for by the machine.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        """Start empty, for a machine of ``config``."""
        self._timing = Timing(config)
        self._lane = self._timing.drain_latency + config.cols + LANE_LATENCY
        self._writes: list[_Write] = []
        self._last_feed = 0  # earliest cycle of the last GEMM's last feed token
        self._drain_interval = 0  # after that token
        self._attention: tuple[int, list[_Write]] | None = None  # last feed and writes under way before the one at hand
        self.descriptors: list[Descriptor] = []
        self.high = False

    def emit(self, opcode: Opcode, fields: dict[str, int]) -> None:
        """Append a descriptor that waits by itself for all that was issued."""
        self._writes.clear()
        self._append(opcode, fields)

    def norm(self, fields: dict[str, int]) -> None:
        """Append a NORM, of an attention or of what follows one.

        A path mask may drop the attention: then what was under way before it has had no time to settle behind it.
        """
        if fields.get("flags", 0) & FLAG_ATTENTION:
            self._attention = (self._last_feed, self._writes.copy())
        elif self._attention is not None:
            before, writes = self._attention
            late = self._last_feed - before
            self._writes = [w for w in self._writes if w not in writes]
            self._writes += [replace(w, readable=tuple(at + late for at in w.readable)) for w in writes]
            self._attention = None
        self._append(Opcode.NORM, fields)

    def gemm(self, fields: dict[str, int], *, reads: tuple[Span, ...], writes: Span | None, in_step: bool = True) -> None:
        """Append a GEMM.

        Args:
            fields: of the descriptor.
            reads: what it feeds from.
            writes: what its lanes or the collector write.
            in_step: whether those who read what it writes for row tile i read it for their row tile i, or later.
        """
        k_words, post, row_tiles = fields["k_words"], Post(fields["post"]), fields["row_tiles"]
        column_tiles = fields["column_tiles"]
        group = min(fields["resident"], column_tiles) or column_tiles
        groups = ceil_div(column_tiles, group)
        of_group, of_last = (
            self._timing.group_interval(tiles, k_words, post) for tiles in (group, column_tiles - (groups - 1) * group)
        )
        first_tile = self._last_feed + max(self._drain_interval, k_words)
        first_feed = [first_tile - (k_words - 1) + row_tile * of_group for row_tile in range(row_tiles)]
        self._writes = [write for write in self._writes if max(write.readable) > first_feed[0]]
        if any(self._early(write, span, first_feed) for write in self._writes for span in reads):
            self._writes.clear()
            fields = {**fields, "flags": fields["flags"] | FLAG_WAIT}
        last_step = self._timing.tile_interval(k_words, post, reciprocal=False)
        self._last_feed = first_tile + row_tiles * ((groups - 1) * of_group + of_last) - last_step
        self._drain_interval = self._timing.drain_interval(post, reciprocal=False)
        if writes is not None:
            ends = [self._last_feed - (row_tiles - 1 - row_tile) * of_last for row_tile in range(row_tiles)]
            readable = tuple(end + self._lane for end in (ends if in_step else ends[-1:]))
            if writes.memory == "kv":
                readable = (self._last_feed + self._timing.settle(post),)
            self._writes.append(_Write(writes, readable))
        self._append(Opcode.GEMM, fields)

    @staticmethod
    def _early(write: _Write, read: Span, first_feed: list[int]) -> bool:
        """Whether a read may come before the write."""
        if not write.span.overlaps(read):
            return False
        if len(write.readable) == 1:  # of the K and V buffer, of pixels, or of a single row tile
            return write.readable[0] > first_feed[0]
        return any(at > feed for at, feed in zip(write.readable, first_feed, strict=False))

    def _append(self, opcode: Opcode, fields: dict[str, int]) -> None:
        flags = fields.get("flags", 0) | (FLAG_HIGH if self.high else 0)
        self.descriptors.append(Descriptor(opcode, {**fields, "flags": flags}))

"""Descriptors in order, each with the waiting that its operands need."""

from dataclasses import dataclass
from typing import NamedTuple

from hw.config import AcceleratorConfig
from hw.isa import FLAG_HIGH, FLAG_WAIT, Descriptor, Opcode, Post
from hw.timing import Timing


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
    """A write under way: latest cycle at which it is in its memory."""

    span: Span
    settled: int


class DescriptorStream:
    """Collects descriptors and sets FLAG_WAIT where a GEMM would read a word before it is written.

    A GEMM may go without waiting although an earlier one wrote its operand, if the GEMMs between take longer at their
    fastest than the write needs to settle. Cycles count last feed tokens: tiles of a GEMM follow each other by at least
    `Timing.tile_interval`, the first tile of the next GEMM ends at least `Timing.drain_interval` after the last one.
    Only reads after writes need care: words are fed at issue and written later, both in issue order, so a GEMM cannot
    overwrite what an earlier one still reads; two writes of one word land in issue order. LOAD, NORM, GATE and END wait
    by themselves.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        """Start empty, for a machine of ``config``."""
        self._timing = Timing(config)
        self._writes: list[_Write] = []
        self._last_feed = 0  # earliest cycle of the last GEMM's last feed token
        self._drain_interval = 0  # after that token
        self.descriptors: list[Descriptor] = []
        self.high = False

    def emit(self, opcode: Opcode, fields: dict[str, int]) -> None:
        """Append a descriptor that waits by itself."""
        self._writes.clear()
        self._append(opcode, fields)

    def gemm(self, fields: dict[str, int], *, reads: tuple[Span, ...], writes: Span | None) -> None:
        """Append a GEMM with what it feeds from and what its lanes or the collector write."""
        k_words, post = fields["k_words"], Post(fields["post"])
        first_tile = self._last_feed + max(self._drain_interval, k_words)
        first_feed = first_tile - (k_words - 1)
        self._writes = [write for write in self._writes if write.settled >= first_feed]
        if any(write.span.overlaps(span) for write in self._writes for span in reads):
            self._writes.clear()
            fields = {**fields, "flags": fields["flags"] | FLAG_WAIT}
        tiles = fields["row_tiles"] * fields["column_tiles"]
        interval = self._timing.tile_interval(k_words, post, reciprocal=False)
        self._last_feed = first_tile + (tiles - 1) * interval
        self._drain_interval = self._timing.drain_interval(post, reciprocal=False)
        if writes is not None:
            self._writes.append(_Write(writes, self._last_feed + self._timing.settle(post)))
        self._append(Opcode.GEMM, fields)

    def _append(self, opcode: Opcode, fields: dict[str, int]) -> None:
        flags = fields.get("flags", 0) | (FLAG_HIGH if self.high else 0)
        self.descriptors.append(Descriptor(opcode, {**fields, "flags": flags}))

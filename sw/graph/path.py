"""Paths: what every encoder of a network does."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hw.errors import InputError
from sw.graph.branch import BranchKind

MAX_ENCODERS = 32
"""Encoders that a path mask, a register of as many bits, tells apart."""


class Kind(StrEnum):
    """What an encoder adds to the residual stream: attention and MLP, or the MLP alone."""

    FULL = "full"
    MLP = "mlp"


_BRANCHES = {Kind.FULL: frozenset(BranchKind), Kind.MLP: frozenset({BranchKind.MLP})}
"""Branches that run in an encoder of each kind."""


@dataclass(frozen=True)
class Path:
    """The kinds of all encoders of a network, first to last.

    Attributes:
        kinds: one per encoder.
    """

    kinds: tuple[Kind, ...]

    @staticmethod
    def full(depth: int) -> "Path":
        """Return the path of ``depth`` encoders that skips no attention."""
        return Path((Kind.FULL,) * depth)

    @staticmethod
    def keeping(indices: Iterable[int], depth: int) -> "Path":
        """Return the path that keeps the attentions of these encoders, counted from 0, and no others.

        Raises:
            InputError: an index is not an integer of 0 ... depth - 1.
        """
        kept = frozenset(indices)
        for index in kept:
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < depth:
                raise InputError(f"Encoder index must be 0 to {depth - 1}, not {index}")
        return Path(tuple(Kind.FULL if index in kept else Kind.MLP for index in range(depth)))

    @staticmethod
    def skipping(indices: Iterable[int], depth: int) -> "Path":
        """Return the path that skips the attentions of these encoders, counted from 0, and no others.

        Raises:
            InputError: an index is not an integer of 0 ... depth - 1.
        """
        return Path.keeping(Path.keeping(indices, depth).skipped, depth)

    @staticmethod
    def from_mask(mask: int, depth: int) -> "Path":
        """Return the path of `mask`.

        Raises:
            InputError: a bit from ``depth`` on is set.
        """
        if not 0 <= mask < 1 << depth:
            raise InputError(f"Path mask must be 0 to {(1 << depth) - 1:#x} for {depth} encoders, not {mask:#x}")
        return Path.keeping((index for index in range(depth) if mask >> index & 1), depth)

    @property
    def depth(self) -> int:
        """Encoders."""
        return len(self.kinds)

    @property
    def kept(self) -> tuple[int, ...]:
        """Encoders whose attention is kept, ascending."""
        return tuple(index for index, kind in enumerate(self.kinds) if kind is Kind.FULL)

    @property
    def skipped(self) -> tuple[int, ...]:
        """Encoders whose attention is skipped, ascending."""
        return tuple(index for index, kind in enumerate(self.kinds) if kind is Kind.MLP)

    @property
    def effort(self) -> int:
        """Attentions kept."""
        return len(self.kept)

    @property
    def mask(self) -> int:
        """The machine's path mask: bit i is set where encoder i keeps its attention.

        Raises:
            InputError: there are more encoders than `MAX_ENCODERS`.
        """
        if self.depth > MAX_ENCODERS:
            raise InputError(f"A path mask must be of at most {MAX_ENCODERS} encoders, not {self.depth}")
        return sum(1 << index for index in self.kept)

    def runs(self, index: int, branch: BranchKind) -> bool:
        """Return whether a branch of that kind runs in encoder ``index``."""
        return branch in _BRANCHES[self.kinds[index]]

    def keeps(self, index: int) -> bool:
        """Return whether encoder ``index`` keeps its attention."""
        return self.kinds[index] is Kind.FULL

    def __str__(self) -> str:
        """Encoders whose attention is kept, as ``0,1,5``; ``none`` without any."""
        return ",".join(map(str, self.kept)) or "none"


def path_or_full(path: Path | None, depth: int) -> Path:
    """Return a path of ``depth`` encoders as it is, and the full one for None.

    Raises:
        InputError: the path is of another depth.
    """
    if path is None:
        return Path.full(depth)
    if path.depth != depth:
        raise InputError(f"Path must be of {depth} encoders, not {path.depth}")
    return path


def parse_encoders(text: str | None, depth: int, option: str) -> tuple[int, ...]:
    """Return the encoder indices of ``2,5,8``; none for None or an empty text.

    Args:
        text: what the user wrote.
        depth: encoders of the network.
        option: where, for the message.

    Raises:
        InputError: an entry is not an index from 0 to ``depth - 1``.
    """
    entries = [entry for part in (text or "").split(",") if (entry := part.strip())]
    for entry in entries:
        if not entry.isdecimal() or int(entry) >= depth:
            raise InputError(f"{option} takes encoder indices from 0 to {depth - 1}, not {entry!r}")
    return tuple(map(int, entries))

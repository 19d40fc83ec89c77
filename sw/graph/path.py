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


_ATTENTION = frozenset({BranchKind.ATTENTION})
_BRANCHES = {Kind.FULL: _ATTENTION | {BranchKind.MLP}, Kind.MLP: frozenset({BranchKind.MLP})}
"""Branches that run in an encoder of each kind."""
_KINDS = {branches: kind for kind, branches in _BRANCHES.items()}


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

    @staticmethod
    def of_branches(encoders: Iterable[Iterable[BranchKind]]) -> "Path":
        """Return the path whose encoders run these branches.

        Raises:
            InputError: no kind of encoder runs just these.
        """
        branches = [frozenset(encoder) for encoder in encoders]
        for index, encoder in enumerate(branches):
            if encoder not in _KINDS:
                raise InputError(f"Encoder {index} must run the branches of a kind, not {', '.join(sorted(encoder)) or 'none'}")
        return Path(tuple(_KINDS[encoder] for encoder in branches))

    @staticmethod
    def parse(text: str, depth: int, option: str) -> "Path":
        """Return the path of ``full,mlp,full``.

        Args:
            text: what the user wrote.
            depth: encoders of the network.
            option: where, for the message.

        Raises:
            InputError: an entry is no kind, or there are more or fewer than ``depth``.
        """
        entries = [entry.strip() for entry in text.split(",")]
        if len(entries) != depth or not set(entries) <= set(Kind):
            raise InputError(f"{option} takes {depth} kinds of {', '.join(Kind)}, not {text!r}")
        return Path(tuple(map(Kind, entries)))

    @property
    def depth(self) -> int:
        """Encoders."""
        return len(self.kinds)

    @property
    def kept(self) -> tuple[int, ...]:
        """Encoders whose attention is kept, ascending."""
        return tuple(index for index in range(self.depth) if self.keeps(index))

    @property
    def skipped(self) -> tuple[int, ...]:
        """Encoders whose attention does not run, ascending."""
        return tuple(index for index in range(self.depth) if not self.keeps(index))

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
        return self.runs(index, BranchKind.ATTENTION)

    def within(self, other: "Path") -> bool:
        """Return whether each encoder runs no branch but those of another path of the same depth."""
        return all(_BRANCHES[kind] <= _BRANCHES[most] for kind, most in zip(self.kinds, other.kinds, strict=True))

    def lowered(self, kept: Iterable[int]) -> "Path":
        """Return this path without the attentions of all encoders but these, where a kind without it exists."""
        kept = frozenset(kept)
        lower = (kind if index in kept else _KINDS.get(_BRANCHES[kind] - _ATTENTION, kind) for index, kind in enumerate(self.kinds))
        return Path(tuple(lower))

    def at_most(self) -> "Path":
        """Return the path of all that a path mask can make of this one: every attention runs where a kind with it exists."""
        return Path(tuple(_KINDS.get(_BRANCHES[kind] | _ATTENTION, kind) for kind in self.kinds))

    def __str__(self) -> str:
        """Encoders whose attention is kept, as ``0,1,5``, or ``none``; all kinds where that says too little."""
        if Path.keeping(self.kept, self.depth) != self:
            return ",".join(self.kinds)
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

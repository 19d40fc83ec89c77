"""Path-Score (PIVOT, DAC 2024): the sum over skipped encoders of the CKA between the streams around their attention."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ScoredPath:
    """A path with its Path-Score.

    Attributes:
        kept: encoders whose attention is kept, ascending.
        score: sum of the skipped encoders' CKA; high means that little is lost.
    """

    kept: tuple[int, ...]
    score: float

    @property
    def effort(self) -> int:
        """Number of attentions kept."""
        return len(self.kept)


def mask_of(kept: Iterable[int]) -> int:
    """Path mask: bit i is set where encoder i's attention is kept."""
    return sum(1 << index for index in kept)


def path_scores(redundancy: np.ndarray) -> np.ndarray:
    """Path-Score of every path, float64 [2^depth], indexed by path mask.

    Args:
        redundancy: float64 [depth], the CKA around each encoder's attention.
    """
    masks = np.arange(1 << len(redundancy))
    skipped = 1 - ((masks[:, None] >> np.arange(len(redundancy))) & 1)
    return skipped @ np.asarray(redundancy, dtype=np.float64)


def best_paths(redundancy: np.ndarray) -> list[ScoredPath]:
    """The path with the best score of every effort from 1 to depth, out of all of them; ties go to the lowest mask.

    Scores add up, so the best paths nest: this is a sort, not a search.
    """
    depth = len(redundancy)
    scores = path_scores(redundancy)
    masks = np.arange(1 << depth)
    kept_bits = (masks[:, None] >> np.arange(depth)) & 1
    efforts = kept_bits.sum(1)
    best = []
    for effort in range(1, depth + 1):
        candidates = masks[efforts == effort]
        mask = int(candidates[np.argmax(scores[candidates])])
        best.append(ScoredPath(tuple(np.flatnonzero(kept_bits[mask]).tolist()), float(scores[mask])))
    return best


def random_paths(depth: int, effort: int, count: int, seed: int, exclude: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Up to ``count`` distinct random paths of one effort, without ``exclude``; fewer where there are not so many."""
    generator = np.random.default_rng([seed, effort])
    masks = np.arange(1 << depth)
    masks = masks[((masks[:, None] >> np.arange(depth)) & 1).sum(1) == effort]
    masks = generator.permutation(masks[masks != mask_of(exclude)])[:count]
    return [tuple(index for index in range(depth) if mask >> index & 1) for mask in masks.tolist()]

"""Path-Score (PIVOT, DAC 2024): the sum over skipped encoders of the CKA between the streams around their attention."""

from dataclasses import dataclass

import numpy as np

from sw.graph.path import Path


@dataclass(frozen=True)
class ScoredPath:
    """A path with its Path-Score.

    Attributes:
        path: the path.
        score: sum of the skipped encoders' CKA; high means that little is lost.
    """

    path: Path
    score: float


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
    efforts = np.bitwise_count(masks)
    best = []
    for effort in range(1, depth + 1):
        candidates = masks[efforts == effort]
        mask = int(candidates[np.argmax(scores[candidates])])
        best.append(ScoredPath(Path.from_mask(mask, depth), float(scores[mask])))
    return best


def random_paths(depth: int, effort: int, count: int, seed: int, exclude: Path | None = None) -> list[Path]:
    """Up to ``count`` distinct random paths of one effort, without ``exclude``; fewer where there are not so many."""
    generator = np.random.default_rng([seed, effort])
    masks = np.arange(1 << depth)
    masks = masks[np.bitwise_count(masks) == effort]
    if exclude is not None:
        masks = masks[masks != exclude.mask]
    masks = generator.permutation(masks)[:count]
    return [Path.from_mask(mask, depth) for mask in masks.tolist()]

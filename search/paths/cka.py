"""Centred kernel alignment (CKA) between residual streams, by unbiased HSIC over minibatches.

Sources: unbiased HSIC, Song et al., JMLR 13 (2012), equation 5; minibatch CKA, Nguyen et al., ICLR 2021: numerator and
denominators are accumulated separately and divided once at the end.
"""

from collections.abc import Iterable

import numpy as np

MINIMUM_BATCH = 4
"""Images below which the unbiased estimate is not defined."""


def unbiased_hsic(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Unbiased HSIC between every Gram matrix of one set and every one of another.

    Args:
        first: float64 [a, n, n] symmetric Gram matrices with a zero diagonal, n >= 4.
        second: float64 [b, n, n], likewise.

    Returns:
        float64 [a, b].
    """
    n = first.shape[1]
    if n < MINIMUM_BATCH:
        raise ValueError(f"Unbiased HSIC needs at least {MINIMUM_BATCH} images, not {n}")
    trace = first.reshape(len(first), -1) @ second.reshape(len(second), -1).T
    first_rows, second_rows = first.sum(2), second.sum(2)  # [a, n], [b, n]
    totals = np.outer(first_rows.sum(1), second_rows.sum(1)) / ((n - 1) * (n - 2))
    return (trace + totals - 2 / (n - 2) * first_rows @ second_rows.T) / (n * (n - 3))


def gram_matrices(streams: np.ndarray) -> np.ndarray:
    """Linear-kernel Gram matrices with a zero diagonal, float64 [encoders, n, n], of streams [n, encoders, dim]."""
    rows = np.asarray(streams, dtype=np.float64).transpose(1, 0, 2)
    grams = rows @ rows.transpose(0, 2, 1)
    diagonal = np.arange(grams.shape[1])
    grams[:, diagonal, diagonal] = 0.0
    return grams


class MinibatchCka:
    """CKA matrix between the streams that enter encoder i and those after encoder j's attention add.

    Feed it batches of one size with `update`; a short last batch must be dropped by the caller (`batches` does).
    """

    def __init__(self, depth: int):
        """Start empty for ``depth`` encoders."""
        self._cross = np.zeros((depth, depth))
        self._entering = np.zeros(depth)
        self._attended = np.zeros(depth)

    def update(self, entering: np.ndarray, attended: np.ndarray) -> None:
        """Add a batch of streams, each float [n, depth, dim]."""
        first, second = gram_matrices(entering), gram_matrices(attended)
        self._cross += unbiased_hsic(first, second)
        self._entering += np.diag(unbiased_hsic(first, first))
        self._attended += np.diag(unbiased_hsic(second, second))

    def matrix(self) -> np.ndarray:
        """CKA, float64 [depth, depth]; 0 where a stream does not vary (encoder 0's class token is constant)."""
        scale = np.sqrt(np.maximum(np.outer(self._entering, self._attended), 0.0))
        varies = (self._entering > 1e-9 * self._entering.max())[:, None] & (scale > 0)
        return np.divide(self._cross, scale, out=np.zeros_like(scale), where=varies)


def cka_matrix(batches: Iterable[tuple[np.ndarray, np.ndarray]], depth: int) -> np.ndarray:
    """CKA matrix [depth, depth] of batches of (entering, attended) streams, each [n, depth, dim]."""
    cka = MinibatchCka(depth)
    for entering, attended in batches:
        cka.update(entering, attended)
    return cka.matrix()

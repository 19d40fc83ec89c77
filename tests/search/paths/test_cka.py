import numpy as np
import pytest

from search.paths.cka import cka_matrix, gram_matrices, unbiased_hsic


def _centred_hsic(first: np.ndarray, second: np.ndarray) -> float:
    """The same estimate written as the U-statistic's definition over index tuples of a tiny set."""
    n = len(first)
    total, count = 0.0, 0
    import itertools

    for i, j, q, r in itertools.permutations(range(n), 4):
        total += first[i, j] * (second[i, j] + second[q, r] - 2 * second[i, q])
        count += 1
    return total / count


def test_unbiased_hsic_is_the_u_statistic():
    generator = np.random.default_rng(3)
    streams = generator.normal(size=(6, 2, 5))
    grams = gram_matrices(streams)
    expected = [[_centred_hsic(grams[a], grams[b]) for b in range(2)] for a in range(2)]
    np.testing.assert_allclose(unbiased_hsic(grams, grams), expected, rtol=1e-9)


def test_cka_is_one_for_equal_streams_and_near_zero_for_independent_ones():
    generator = np.random.default_rng(0)
    equal = generator.normal(size=(8, 64, 3, 16))
    other = generator.normal(size=(8, 64, 3, 16))
    same = cka_matrix(((batch, 3.0 * batch) for batch in equal), 3)
    np.testing.assert_allclose(np.diag(same), 1.0, rtol=1e-9)
    independent = cka_matrix(zip(equal, other, strict=True), 3)
    assert np.abs(np.diag(independent)).max() < 0.05


def test_a_constant_stream_scores_zero():
    generator = np.random.default_rng(1)
    entering = generator.normal(size=(4, 32, 2, 8))
    entering[:, :, 0] = 0.37
    matrix = cka_matrix(((batch, batch + 0.1) for batch in entering), 2)
    assert matrix[0, 0] == 0.0 and matrix[1, 1] > 0.9


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="at least 4 images, not 3"):
        unbiased_hsic(np.zeros((1, 3, 3)), np.zeros((1, 3, 3)))

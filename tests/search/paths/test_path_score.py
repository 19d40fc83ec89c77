import itertools

import numpy as np

from search.paths.path_score import best_paths, mask_of, path_scores, random_paths


def test_scores_of_all_paths_are_sums_over_skipped_encoders():
    redundancy = np.array([0.0, 0.9, 0.5, 0.7])
    scores = path_scores(redundancy)
    for size in range(5):
        for kept in itertools.combinations(range(4), size):
            skipped = [redundancy[index] for index in range(4) if index not in kept]
            assert np.isclose(scores[mask_of(kept)], sum(skipped))


def test_best_paths_keep_the_least_redundant_and_nest():
    paths = best_paths(np.array([0.0, 0.9, 0.5, 0.7]))
    assert [path.kept for path in paths] == [(0,), (0, 2), (0, 2, 3), (0, 1, 2, 3)]
    assert all(set(low.kept) < set(high.kept) for low, high in itertools.pairwise(paths))


def test_random_paths_are_distinct_of_the_effort_and_repeat():
    paths = random_paths(12, 6, 16, seed=5, exclude=(0, 1, 2, 3, 4, 5))
    assert len(set(paths)) == 16 and all(len(path) == 6 for path in paths)
    assert (0, 1, 2, 3, 4, 5) not in paths
    assert paths == random_paths(12, 6, 16, seed=5, exclude=(0, 1, 2, 3, 4, 5))
    assert len(random_paths(3, 3, 16, seed=0, exclude=(0, 1, 2))) == 0

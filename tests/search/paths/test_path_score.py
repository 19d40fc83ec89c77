import itertools

import numpy as np

from search.paths.path_score import best_paths, path_scores, random_paths
from sw.graph.path import Path


def test_scores_of_all_paths_are_sums_over_skipped_encoders():
    redundancy = np.array([0.0, 0.9, 0.5, 0.7])
    scores = path_scores(redundancy)
    for size in range(5):
        for kept in itertools.combinations(range(4), size):
            skipped = [redundancy[index] for index in range(4) if index not in kept]
            assert np.isclose(scores[Path.keeping(kept, 4).mask], sum(skipped))


def test_best_paths_keep_the_least_redundant_and_nest():
    paths = best_paths(np.array([0.0, 0.9, 0.5, 0.7]))
    assert [best.path.kept for best in paths] == [(0,), (0, 2), (0, 2, 3), (0, 1, 2, 3)]
    assert all(set(low.path.kept) < set(high.path.kept) for low, high in itertools.pairwise(paths))


def test_random_paths_are_distinct_of_the_effort_and_repeat():
    path = Path.keeping(range(6), 12)
    paths = random_paths(12, 6, 16, seed=5, exclude=path)
    assert len(set(paths)) == 16 and all(other.effort == 6 for other in paths)
    assert path not in paths
    assert paths == random_paths(12, 6, 16, seed=5, exclude=path)
    assert len(random_paths(3, 3, 16, seed=0)) == 1 and not random_paths(3, 3, 16, seed=0, exclude=Path.full(3))

import numpy as np
import pytest

from search.pairs import Effort, cascades, choose, expected_product, least_threshold, pareto_front
from sw.graph.path import Path


def _effort(size: int, correct: np.ndarray, entropy: np.ndarray, cost: float) -> Effort:
    return Effort(Path.keeping(range(size), 6), correct, entropy, cost, cost)


def _random_efforts(seed: int) -> list[Effort]:
    print("seed", seed)
    generator = np.random.default_rng(seed)
    return [
        _effort(size, generator.random(200) < 0.6 + 0.05 * size, generator.integers(0, 60, 200), 1.0 + size)
        for size in range(1, 6)
    ]


def test_every_threshold_is_what_gating_image_by_image_gives():
    low, high = _random_efforts(11)[:2]
    for cascade in cascades(low, high):
        exits = low.entropy <= cascade.threshold
        assert np.isclose(cascade.f_low, exits.mean())
        assert np.isclose(cascade.accuracy, np.where(exits, low.correct, high.correct).mean())
        per_image = np.where(exits, low.delay_ms, low.delay_ms + high.delay_ms)
        assert np.isclose(cascade.delay_ms, per_image.mean())
        assert np.isclose(expected_product(low, high, cascade.f_low), (per_image**2).mean())


def test_choice_is_the_cheapest_that_keeps_both_constraints():
    efforts = _random_efforts(12)
    choice = choose(efforts, baseline_accuracy=0.8, lec=0.6, max_loss=0.05)
    assert choice.qualifies
    for index, low in enumerate(efforts):
        for high in efforts[index + 1 :]:
            for cascade in cascades(low, high):
                if cascade.f_low >= 0.6 and cascade.accuracy >= 0.75:
                    assert cascade.edp_mj_ms >= choice.cascade.edp_mj_ms
    assert choice.cascade.f_low >= 0.6 and choice.cascade.accuracy >= 0.75


def test_no_pair_qualifies_is_said_with_the_nearest():
    choice = choose(_random_efforts(13), baseline_accuracy=1.0, lec=0.9, max_loss=0.0)
    assert not choice.qualifies and choice.best_single is None


def test_a_single_path_within_the_loss_is_offered():
    generator = np.random.default_rng(2)
    entropy = generator.integers(0, 60, 100)
    efforts = [_effort(1, np.ones(100, bool), entropy, 1.0), _effort(2, np.ones(100, bool), entropy, 2.0)]
    assert choose(efforts, 1.0, 0.5, 0.0).best_single is efforts[0]


@pytest.mark.parametrize(("f_low", "answer"), [(0.01, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.75, 7), (1.0, 9)])
def test_the_least_threshold_lets_a_fraction_leave(f_low, answer):
    entropy = np.array([7, 1, 9, 2])
    assert least_threshold(entropy, f_low) == answer
    assert (entropy <= answer).mean() >= f_low


def test_a_pareto_front_has_what_nothing_beats():
    points = [(3, 5), (1, 1), (2, 5), (2, 4), (4, 6), (5, 6)]
    assert pareto_front(points, cost=lambda point: point[0], value=lambda point: point[1]) == [(1, 1), (2, 5), (4, 6)]

"""Phase 2: pairs of efforts and a gate threshold, chosen on the calibration split.

The rule: the lowest E[delay] * E[energy] among pairs and thresholds with F_low >= lec and a loss against the int8
baseline of at most max_loss, both on calibration images and on the golden device's integer entropy.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

import numpy as np

from sw.graph.path import Path

Item = TypeVar("Item")


@dataclass(frozen=True)
class Effort:
    """What phase 2 knows of one fine-tuned, quantized path.

    Attributes:
        path: the path.
        correct: bool [n], calibration images answered right in int8.
        entropy: int64 [n], entropy of each answer in 2^-12 nat.
        delay_ms: per image.
        energy_mj: per image.
    """

    path: Path
    correct: np.ndarray
    entropy: np.ndarray
    delay_ms: float
    energy_mj: float

    @property
    def effort(self) -> int:
        """Number of attentions kept."""
        return self.path.effort

    @property
    def accuracy(self) -> float:
        """Fraction answered right."""
        return float(self.correct.mean())

    @property
    def edp_mj_ms(self) -> float:
        """Energy-delay product of the path alone, mJ * ms."""
        return self.delay_ms * self.energy_mj


@dataclass(frozen=True)
class Cascade:
    """A pair with its threshold, measured on the calibration split.

    Attributes:
        low, high: the two efforts.
        threshold: greatest entropy, in 2^-12 nat, at which the low effort's answer stands.
        f_low: fraction of images that the low effort answers.
        accuracy: of the cascade.
        delay_ms, energy_mj: expected per image, D_low + (1 - f_low) * D_high.
    """

    low: Effort
    high: Effort
    threshold: int
    f_low: float
    accuracy: float
    delay_ms: float
    energy_mj: float

    @property
    def edp_mj_ms(self) -> float:
        """E[delay] * E[energy], mJ * ms."""
        return self.delay_ms * self.energy_mj


def expected(low: float, high: float, f_low: float) -> float:
    """Expected cost of a cascade: the low effort always, the high effort where the gate goes on."""
    return low + (1.0 - f_low) * high


def expected_product(low: Effort, high: Effort, f_low: float) -> float:
    """E[delay * energy] per image: the product taken image by image, mJ * ms."""
    both = (low.delay_ms + high.delay_ms) * (low.energy_mj + high.energy_mj)
    return f_low * low.edp_mj_ms + (1.0 - f_low) * both


def least_threshold(entropy: np.ndarray, f_low: float) -> np.generic:
    """Least entropy up to which at least a fraction of the images leaves.

    Args:
        entropy: [n] of the low effort's answers, in any unit and order.
        f_low: the fraction, above 0 and at most 1.
    """
    return np.sort(entropy)[min(len(entropy), ceil(f_low * len(entropy))) - 1]


def pareto_front(items: Iterable[Item], cost: Callable[[Item], float], value: Callable[[Item], float]) -> list[Item]:
    """Items that no other one beats in cost and value, by rising cost; of equals the first."""
    front: list[Item] = []
    for item in sorted(items, key=lambda item: (cost(item), -value(item))):
        if not front or value(item) > value(front[-1]):
            front.append(item)
    return front


def thresholds(low: Effort, high: Effort) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every threshold that tells images apart, with what it gives on the calibration split.

    Returns:
        thresholds int64 [t] ascending, f_low float64 [t], accuracy float64 [t].
    """
    order = np.argsort(low.entropy, kind="stable")
    entropy = low.entropy[order]
    last = np.append(np.flatnonzero(np.diff(entropy)), len(entropy) - 1)  # the last image of each distinct entropy
    right_low = np.cumsum(low.correct[order])[last]
    right_high = high.correct.sum() - np.cumsum(high.correct[order])[last]
    return entropy[last], (last + 1) / len(entropy), (right_low + right_high) / len(entropy)


def cascades(low: Effort, high: Effort) -> list[Cascade]:
    """A pair at each of its thresholds."""
    return [
        Cascade(
            low,
            high,
            int(threshold),
            float(f_low),
            float(accuracy),
            expected(low.delay_ms, high.delay_ms, float(f_low)),
            expected(low.energy_mj, high.energy_mj, float(f_low)),
        )
        for threshold, f_low, accuracy in zip(*thresholds(low, high), strict=True)
    ]


@dataclass(frozen=True)
class Choice:
    """Outcome of phase 2.

    Attributes:
        cascade: the chosen pair, or the nearest miss where none qualifies.
        qualifies: whether it keeps both constraints.
        best_single: the cheapest single path within the loss; None where no path is.
        front: cascades and single paths, as (accuracy, delay_ms, energy_mj, label), that no other one beats.
    """

    cascade: Cascade
    qualifies: bool
    best_single: Effort | None
    front: list[tuple[float, float, float, str]]


def choose(efforts: list[Effort], baseline_accuracy: float, lec: float, max_loss: float) -> Choice:
    """Apply the rule to every pair of different efforts and every threshold.

    Args:
        efforts: ascending effort.
        baseline_accuracy: of the int8 baseline on the calibration split.
        lec: least fraction of images that the low effort must answer.
        max_loss: greatest loss of accuracy, as a fraction of 1.

    Returns:
        The choice; among equal products the lower effort pair, then the lower threshold.
    """
    floor = baseline_accuracy - max_loss - 1e-12
    every = [
        cascade
        for index, low in enumerate(efforts)
        for high in efforts[index + 1 :]
        for cascade in cascades(low, high)
    ]
    fit = [cascade for cascade in every if cascade.f_low >= lec - 1e-12 and cascade.accuracy >= floor]
    if fit:
        cascade = min(fit, key=lambda item: item.edp_mj_ms)
    else:  # the least violation, accuracy in units of the loss allowed and F_low in units of the constraint
        cascade = min(
            every,
            key=lambda item: (
                max(0.0, floor - item.accuracy) / max(max_loss, 1e-3) + max(0.0, lec - item.f_low) / max(lec, 1e-3),
                item.edp_mj_ms,
            ),
        )
    singles = [effort for effort in efforts if effort.accuracy >= floor]
    best_single = min(singles, key=lambda item: item.edp_mj_ms) if singles else None
    return Choice(cascade, bool(fit), best_single, _front(every, efforts))


def _front(every: list[Cascade], efforts: list[Effort]) -> list[tuple[float, float, float, str]]:
    """Points that no other point beats in accuracy and E[delay] * E[energy], by rising accuracy."""
    points = [(c.accuracy, c.delay_ms, c.energy_mj, f"{c.low.effort}/{c.high.effort} at {c.threshold}") for c in every]
    points += [(e.accuracy, e.delay_ms, e.energy_mj, f"{e.effort} alone") for e in efforts]
    return pareto_front(points, cost=lambda point: point[1] * point[2], value=lambda point: point[0])

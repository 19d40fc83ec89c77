"""The decision: a pair of efforts and the threshold between them, before any test image is looked at."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from search.costs import PathCost, model_cost
from search.efforts import Candidate, finetuned, scored_paths
from search.experiment import Run
from search.pairs import Choice, Effort, choose
from search.paths.path_score import ScoredPath


class NoPairQualifies(Exception):
    """No pair and threshold keep both constraints; the message names the nearest."""


@dataclass(frozen=True)
class Decision:
    """What a search chose, and among what; the test split took no part in it.

    Attributes:
        choice: the pair, its threshold and the best single path.
        candidates: every effort's network, the baseline last.
        efforts: what is known of each on the calibration split.
        costs: of each, in the same order.
        shipped: the network that the search began with.
        baseline: what the baseline is, in words.
        cka: float64 [depth, depth].
    """

    choice: Choice
    candidates: list[Candidate]
    efforts: list[Effort]
    costs: list[PathCost]
    shipped: Candidate
    baseline: str
    cka: np.ndarray

    @property
    def pair(self) -> tuple[Candidate, Candidate]:
        """The networks of low and high effort."""
        sides = (self.choice.cascade.low, self.choice.cascade.high)
        low, high = (next(c for c in self.candidates if c.path == side.path) for side in sides)
        return low, high


def decide(run: Run) -> Decision:
    """Choose a pair and a threshold from the training and the calibration split; no other split is looked at.

    Raises:
        NoPairQualifies: no pair keeps both constraints on the calibration split.
    """
    matrix, paths = scored_paths(run)
    candidates, shipped, baseline = _candidates(run, paths)
    with run.steps.step("cycle model: every effort"):
        costs = [model_cost(run, candidate.name, partial(getattr, candidate, "program")) for candidate in candidates]
    answers = [candidate.answers(run.data.calibration) for candidate in candidates]
    efforts = [
        Effort(c.path, answer.correct, answer.entropy, cost.delay_ms, cost.energy_mj)
        for c, answer, cost in zip(candidates, answers, costs, strict=True)
    ]
    choice = choose(efforts, efforts[-1].accuracy, run.arguments.lec, run.arguments.max_loss)
    if not choice.qualifies:
        near = choice.cascade
        raise NoPairQualifies(
            f"No pair keeps F_low >= {run.arguments.lec} and a loss <= {run.arguments.max_loss} on the calibration split; the "
            f"nearest is effort {near.low.effort} then {near.high.effort}: F_low {near.f_low:.4f}, accuracy "
            f"{near.accuracy:.4f} against {efforts[-1].accuracy:.4f}"
        )
    return Decision(choice, candidates, efforts, costs, shipped, baseline, matrix)


def _candidates(run: Run, paths: list[ScoredPath]) -> tuple[list[Candidate], Candidate, str]:
    """Candidates by effort, the network as shipped, and which one the baseline is.

    The baseline is the whole ViT, as shipped or after the same fine-tuning as the efforts: the one that answers more
    calibration images right in int8.
    """
    tuned = [Candidate(run, f"effort{each.path.effort:02d}", each, finetuned(run, each.path)) for each in paths]
    shipped = Candidate(run, "shipped", paths[-1], run.network)
    split = run.data.calibration
    better = shipped.answers(split).correct.sum() >= tuned[-1].answers(split).correct.sum()
    label = "whole ViT in int8, as shipped" if better else "whole ViT in int8, with the same fine-tuning"
    candidates = tuned[:-1] + [shipped if better else tuned[-1]]
    return candidates, shipped, label

"""The content of `result.json`: what a decision is worth on images that took no part in it, and in RTL."""

from pathlib import Path
from typing import Any

import numpy as np

from hw.numerics import UNITS_PER_NAT
from search.confirm import gated_run, rtl_costs
from search.costs import PathCost, model_cost
from search.decision import decide
from search.efforts import Candidate, path_rank
from search.experiment import Run
from search.intervals import paired_difference, wilson
from search.pairs import Cascade, Choice, Effort, expected, expected_product
from search.stored_pair import store_pair

_HISTOGRAM_BINS = 40


def conclude(run: Run, directory: Path) -> dict[str, Any]:
    """Run or finish every step of a search; write the chosen pair.

    Args:
        run: the search.
        directory: where the folder of the pair is written (`search.stored_pair`).

    Returns:
        The content of `result.json` less time and provenance.

    Raises:
        NoPairQualifies: no pair keeps both constraints on the calibration split.
    """
    from sw.compiler.programs import compile_network

    decision = decide(run)
    choice, candidates = decision.choice, decision.candidates
    low, high = decision.pair
    store_pair(run, decision, directory)
    whole = candidates[-1]
    unmasked = model_cost(run, "no attention", lambda: compile_network(whole.integer, run.config), mask=0)
    return {
        **_head(run, choice.cascade, low, high, decision.baseline),
        **_test_figures(run, choice, candidates, decision.efforts, low, high, decision.shipped),
        **_cycles(run, decision.costs, candidates, choice, unmasked),
        "cka": decision.cka.tolist(),
        "path_ranks": {
            f"{name} (effort {candidate.path.effort})": path_rank(run, candidate.path)
            for name, candidate in (("low", low), ("high", high))
        },
        "front": choice.front,
        "data_digest": run.data.digest,
    }


def _head(run: Run, cascade: Cascade, low: Candidate, high: Candidate, baseline: str) -> dict[str, Any]:
    arguments = run.arguments
    return {
        "model": arguments.network.model,
        "preset": arguments.preset,
        "seed": arguments.seed,
        "clock_mhz": run.config.clock_mhz,
        "low": {"kept": list(low.path.kept)},
        "high": {"kept": list(high.path.kept)},
        "threshold_nats": cascade.threshold / UNITS_PER_NAT,
        "lec": arguments.lec,
        "max_loss": arguments.max_loss,
        "f_low": cascade.f_low,
        "baseline": baseline,
        "rule": (
            f"lowest E[delay] x E[energy] with F_low >= {arguments.lec} and a loss of at most {arguments.max_loss} against the "
            "int8 baseline, both on the calibration split, with the golden device's integer entropy"
        ),
        "images": {"train": len(run.data.train), "calibration": len(run.data.calibration), "test": len(run.data.test)},
        "sources": (
            "Accuracy, exits and entropy: golden device, which equals the RTL bit for bit. Cycles of every effort: cycle model; of "
            "the chosen paths, the baseline and the gated pair also RTL, in the same run and side by side below. Energy: modelled "
            "from the machine's counters. Clock: assumed, no timing closure is implied; nothing was run on a board."
        ),
    }


def _test_figures(
    run: Run,
    choice: Choice,
    candidates: list[Candidate],
    efforts: list[Effort],
    low: Candidate,
    high: Candidate,
    shipped: Candidate,
) -> dict[str, Any]:
    """Accuracies on the test split and the costs that follow from its F_low."""
    from sw.quantization.quantize import logits_sqnr_db

    test, cascade, base = run.data.test, choice.cascade, candidates[-1]
    answers = low.answers(test)
    exits = answers.entropy <= cascade.threshold
    low_right, high_right = answers.correct, high.answers(test).correct
    right, base_right = np.where(exits, low_right, high_right), base.answers(test).correct
    f_low = float(exits.mean())
    delay = expected(cascade.low.delay_ms, cascade.high.delay_ms, f_low)
    energy = expected(cascade.low.energy_mj, cascade.high.energy_mj, f_low)
    product = expected_product(cascade.low, cascade.high, f_low)
    whole = efforts[-1]
    per_image = np.where(exits, cascade.low.delay_ms, cascade.low.delay_ms + cascade.high.delay_ms)
    entropy = answers.entropy / UNITS_PER_NAT
    edges = np.linspace(0.0, max(float(np.log(answers.int8.shape[1])), float(entropy.max())), _HISTOGRAM_BINS + 1)
    single = None
    if choice.best_single is not None:
        best = next(c for c in candidates if c.path == choice.best_single.path)
        single = {
            "effort": best.path.effort,
            "kept": list(best.path.kept),
            "accuracy_test": float(best.answers(test).correct.mean()),
            "minus_baseline": paired_difference(best.answers(test).correct, base_right),
            "delay_ms": choice.best_single.delay_ms,
            "energy_mj": choice.best_single.energy_mj,
            "edp_mj_ms": choice.best_single.edp_mj_ms,
            "edp_gain": whole.edp_mj_ms / choice.best_single.edp_mj_ms,
        }
    winner = "the pair"
    if choice.best_single is not None and choice.best_single.edp_mj_ms <= cascade.edp_mj_ms:  # both on calibration
        winner = f"the single path of effort {choice.best_single.effort}"
    return {
        "f_low_test": f_low,
        "accuracy": {
            "baseline_fp32": float(base.answers(test).correct_fp32.mean()),
            "baseline_int8": float(base_right.mean()),
            "low": float(low_right.mean()),
            "high": float(high_right.mean()),
            "cascade": float(right.mean()),
            "shipped_int8": float(shipped.answers(test).correct.mean()),
        },
        "delay_ms": {"baseline": whole.delay_ms, "cascade": delay},
        "energy_mj": {"baseline": whole.energy_mj, "cascade": energy},
        "edp_mj_ms": {"baseline": whole.edp_mj_ms, "cascade": delay * energy},
        "edp_per_image_mj_ms": {"baseline": whole.edp_mj_ms, "cascade": product},
        "edp_gain": whole.edp_mj_ms / (delay * energy),
        "delay_percentiles_ms": {f"p{q}": float(np.percentile(per_image, q)) for q in (50, 99)},
        "intervals": {
            "cascade_minus_baseline": paired_difference(right, base_right),
            "cascade_minus_shipped": paired_difference(right, shipped.answers(test).correct),
            "f_low_test_95": wilson(int(exits.sum()), len(exits)),
        },
        "best_single": single,
        "winner": winner,
        "chosen_calibration": {
            "accuracy": cascade.accuracy, "delay_ms": cascade.delay_ms, "energy_mj": cascade.energy_mj,
            "accuracy_floor": whole.accuracy - run.arguments.max_loss,
        },
        "entropy_histogram": {
            "edges_nats": edges.tolist(),
            "right": np.histogram(entropy[low_right], edges)[0].tolist(),
            "wrong": np.histogram(entropy[~low_right], edges)[0].tolist(),
        },
        "efforts": [
            {
                "effort": c.path.effort,
                "kept": list(c.path.kept),
                "path_score": c.score,
                "accuracy_calibration": e.accuracy,
                "accuracy_test": float(c.answers(test).correct.mean()),
                "accuracy_fp32_test": float(c.answers(test).correct_fp32.mean()),
                "disagreement_test": float((c.answers(test).int8.argmax(1) != c.answers(test).fp32.argmax(1)).mean()),
                "sqnr_db": float(logits_sqnr_db(c.answers(test).fp32, c.answers(test).int8)),
                "delay_ms": e.delay_ms,
                "energy_mj": e.energy_mj,
            }
            for c, e in zip(candidates, efforts, strict=True)
        ],
    }  # fmt: skip


def _cycles(
    run: Run, costs: list[PathCost], candidates: list[Candidate], choice: Choice, unmasked: PathCost
) -> dict[str, Any]:
    """Model and RTL cycles of the chosen paths and the baseline, the gated run, the delay split and attention's share."""
    from sim.program_counts import operation_cycles
    from sw.compiler.programs import compile_pair

    by_path = {candidate.path: place for place, candidate in enumerate(candidates)}
    places = {"low": by_path[choice.cascade.low.path], "high": by_path[choice.cascade.high.path], "baseline": len(costs) - 1}
    low, high = candidates[places["low"]], candidates[places["high"]]
    pair = compile_pair(low.integer, high.integer, run.config, choice.cascade.threshold)
    exits_low = low.answers(run.data.test).entropy <= choice.cascade.threshold
    rtl = rtl_costs(run, {name: candidates[place].program for name, place in places.items()})
    return {
        "low": {"kept": list(low.path.kept), "cycles": costs[places["low"]].cycles},
        "high": {"kept": list(high.path.kept), "cycles": costs[places["high"]].cycles},
        "cycle_model": {
            "baseline_cycles": costs[-1].cycles,
            "counters_equal_rtl": all(rtl[name].counters == costs[place].counters for name, place in places.items()),
        },
        "rtl": {f"{name}_cycles": rtl[name].cycles for name in places} | {"gated": gated_run(run, pair, exits_low)},
        "breakdown": {name: operation_cycles(rtl[name].counters) for name in ("baseline", "low", "high")},
        "attention_share": 1.0 - unmasked.cycles / costs[-1].cycles,
        "path_masks": {"low": low.path.mask, "high": high.path.mask},
    }

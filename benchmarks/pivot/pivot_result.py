"""PIVOT's claim, recomputed: a gated pair of LV-ViTs against the whole one, on PIVOT's machine and on the flagship.

    python -m benchmarks.pivot.pivot_result [--data DIR]

Accuracy: the shipped LV-ViTs of `benchmarks/lv_vit/` (three seeds, `lv_vit_training.py` makes them) in int8 on the golden machine,
all 10,000 test images of Fashion-MNIST. Baseline: the whole ViT in int8 with the same extra fine-tuning as its efforts. Delay and
energy: LV-ViT-S at 224x224, stem included, on the same paths, by the cycle model (which equals the RTL) and the energy table, with
the test F_low. Pair and threshold are chosen on the 2,000 calibration images alone; nothing here trains. It is a search beside
`search.cosearch`, which knows neither several seeds nor another network's costs.

Rules, on calibration images, means over the seeds, F_low from 0.5 to 0.95, prefix-resume in both pairs: of all pairs of two efforts
whose EDP gain on `pivot` is at least 2.9, the one that loses least; of all pairs that lose at most 0.2 points, the one with the
lowest EDP on `zcu102`; of the single paths that lose no more than the first pair, the one with the lowest EDP, or where none does,
the one that loses least. Each seed's threshold is its own.
"""

import dataclasses
import sys
import time
from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.pivot.lv_vit_answers import Answerer, Network, answerer
from benchmarks.pivot.lv_vit_costs import COSTED, Costs, costed_pair
from benchmarks.pivot.lv_vit_weights import BASELINE, MODEL
from benchmarks.result import Benchmark
from benchmarks.sources import ENERGY, GOLDEN, LV_VIT
from hw.errors import command
from hw.tables import text_table
from search.intervals import paired_difference
from search.pairs import least_threshold, pareto_front

SOURCES = (
    *LV_VIT, *GOLDEN, *ENERGY, "benchmarks/pivot/lv_vit_answers.py", "benchmarks/pivot/lv_vit_costs.py",
    "benchmarks/processes.py", "search/costs.py", "search/experiment.py", "search/intervals.py", "search/pairs.py",
    "search/store.py",
)  # fmt: skip
BENCHMARK = Benchmark("pivot.pivot_result", SOURCES)
MACHINES = ("pivot", "zcu102")
CALIBRATION, TEST = "calibration", "test_all"
LEAST_GAIN, FLAGSHIP_LOSS = 2.9, 0.002
F_LOW = np.round(np.arange(0.50, 0.9501, 0.01), 2)
Efforts = dict[int, Network]
"""One seed's networks, by rising effort; the last one is the baseline."""


def threshold(low: Network, f_low: float) -> int:
    """Least entropy, in 2^-12 nat, up to which at least this fraction of the calibration images leaves."""
    return int(least_threshold(low.answers[CALIBRATION].entropy, f_low))


def gated(low: Network, high: Network, limit: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(leaves at the gate, right), bool [n] each."""
    first, second = low.answers[split], high.answers[split]
    leaves = first.entropy <= limit
    return leaves, np.where(leaves, first.right, second.right)


@dataclasses.dataclass(frozen=True)
class Choice:
    """A pair of two efforts at an F_low; means over the seeds of its loss on calibration images and of its costs."""

    low: int
    high: int
    f_low: float
    loss: float
    delay_ms: float
    energy_mj: float
    edp_gain: float


def every_pair(seeds: Iterable[Efforts], costs: Costs, *, resume: bool) -> list[Choice]:
    """Every pair of two efforts at every F_low; costs as `Costs.estimate` has them."""
    seeds, found = list(seeds), []
    for low, high in combinations(seeds[0], 2):
        for f_low in F_LOW:
            losses, spent = [], []
            for efforts in seeds:
                pair = efforts[low], efforts[high]
                right = gated(*pair, threshold(pair[0], f_low), CALIBRATION)[1]
                losses.append(efforts[BASELINE].answers[CALIBRATION].right.mean() - right.mean())
                spent.append(costs.estimate(pair[0].kept, pair[1].kept, f_low, resume=resume))
            gain = np.mean([costs.gain(*each) for each in spent])
            found.append(Choice(low, high, *map(float, (f_low, np.mean(losses), *np.mean(spent, axis=0), gain))))
    return found


def choose_pair(choices: list[Choice]) -> Choice:
    """By the first rule."""
    fit = [choice for choice in choices if choice.edp_gain >= LEAST_GAIN]
    if not fit:
        raise SystemExit(f"error: no pair has an EDP gain of {LEAST_GAIN} at F_low <= {F_LOW[-1]}")
    return min(fit, key=lambda choice: (choice.loss, -choice.edp_gain))


def choose_flagship(choices: list[Choice]) -> Choice:
    """By the second rule; where no pair keeps the loss, the one that loses least."""
    fit = [choice for choice in choices if choice.loss <= FLAGSHIP_LOSS]
    return max(fit, key=lambda choice: choice.edp_gain) if fit else min(choices, key=lambda choice: choice.loss)


def choose_single(seeds: Iterable[Efforts], pair: Choice) -> tuple[int, bool]:
    """(effort by the third rule, whether it loses no more than the pair)."""
    each = [
        {effort: efforts[BASELINE].answers[CALIBRATION].right.mean() - network.answers[CALIBRATION].right.mean()
         for effort, network in efforts.items() if effort != BASELINE}
        for efforts in seeds
    ]  # fmt: skip
    losses = {effort: float(np.mean([losses[effort] for losses in each])) for effort in each[0]}
    least = min(losses, key=lambda effort: losses[effort])
    effort = next((effort for effort, lost in losses.items() if lost <= pair.loss), least)
    return effort, losses[effort] <= pair.loss


def front(choices: list[Choice]) -> list[Choice]:
    """Pairs that no other one beats in loss and EDP gain, by falling gain."""
    return pareto_front(choices, cost=lambda choice: -choice.edp_gain, value=lambda choice: -choice.loss)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One seed's answers to the test images: which are right, of a setting and of the baseline, and what goes into the record."""

    right: np.ndarray
    baseline: np.ndarray
    record: dict[str, Any]


def cascade_outcome(efforts: Efforts, fp32: float, choice: Choice, costs: Costs, *, resume: bool) -> Outcome:
    """A pair on test images: fields of design.md §8."""
    from hw.numerics import UNITS_PER_NAT

    low, high, base = efforts[choice.low], efforts[choice.high], efforts[BASELINE].answers[TEST].right
    limit = threshold(low, choice.f_low)
    leaves, right = gated(low, high, limit, TEST)
    tested = float(leaves.mean())
    delay, energy = costs.cascade(low.kept, high.kept, tested, resume=resume)
    first, both = costs.pair(low.kept, high.kept, resume)
    whole = costs.whole
    record = {
        "seed": low.seed,
        "low": {"kept": list(low.kept), "cycles": first.cycles},
        "high": {"kept": list(high.kept), "cycles": both.cycles - first.cycles},
        "threshold_nats": limit / UNITS_PER_NAT,
        "f_low": float(gated(low, high, limit, CALIBRATION)[0].mean()),
        "f_low_test": tested,
        "accuracy": {
            "baseline_fp32": fp32,
            "baseline_int8": float(base.mean()),
            "low": float(low.answers[TEST].right.mean()),
            "high": float(high.answers[TEST].right.mean()),
            "cascade": float(right.mean()),
        },
        "loss": float(base.mean() - right.mean()),
        "cascade_minus_baseline": paired_difference(right, base),
        "delay_ms": {"baseline": whole.delay_ms, "cascade": delay},
        "energy_mj": {"baseline": whole.energy_mj, "cascade": energy},
        "edp_mj_ms": {"baseline": whole.delay_ms * whole.energy_mj, "cascade": delay * energy},
        "edp_gain": costs.gain(delay, energy),
    }
    return Outcome(right, base, record)


def single_outcome(efforts: Efforts, effort: int, costs: Costs) -> Outcome:
    """A single path on test images."""
    network, base = efforts[effort], efforts[BASELINE].answers[TEST].right
    right, cost = network.answers[TEST].right, costs.alone(network.kept)
    record = {
        "seed": network.seed,
        "kept": list(network.kept),
        "accuracy_test": float(right.mean()),
        "loss": float(base.mean() - right.mean()),
        "minus_baseline": paired_difference(right, base),
        "delay_ms": cost.delay_ms,
        "energy_mj": cost.energy_mj,
        "edp_mj_ms": cost.delay_ms * cost.energy_mj,
        "edp_gain": costs.gain(cost.delay_ms, cost.energy_mj),
    }
    return Outcome(right, base, record)


def over_seeds(rights: Iterable[np.ndarray]) -> np.ndarray:
    """Each image's fraction of seeds that answer it right, so that an image is one outcome."""
    return np.mean(np.array(list(rights), np.float64), axis=0)


def setting(outcomes: list[Outcome], costs: Costs) -> dict[str, Any]:
    """Records of all seeds with their means; the interval is over the images."""
    lost = paired_difference(over_seeds(each.baseline for each in outcomes), over_seeds(each.right for each in outcomes))
    records = [each.record for each in outcomes]
    names = [name for name in ("loss", "f_low_test", "edp_gain") if name in records[0]]
    return {
        "preset": costs.preset,
        "clock_mhz": costs.config.clock_mhz,
        "attention_share": costs.attention_share,
        "baseline": {name: getattr(costs.whole, name) for name in ("cycles", "delay_ms", "energy_mj")},
        "mean": {name: float(np.mean([record[name] for record in records])) for name in names},
        "loss_95": [lost["low95"], lost["high95"]],
        "seeds": records,
    }


def computed(given: Answerer) -> dict[str, Any]:
    """All of the result but its provenance; what is chosen is chosen before a test image is looked at."""
    given.begin_networks()
    networks = costed_pair()  # costs take their time, too: meanwhile, here and below
    pivot, flagship = (Costs(preset, *networks) for preset in MACHINES)
    seeds = given.networks()
    given.begin((network for efforts in seeds.values() for network in efforts.values()), CALIBRATION)
    for efforts in seeds.values():
        for network in efforts.values():
            pivot.alone(network.kept), flagship.alone(network.kept)
    given.finish()
    choices = every_pair(seeds.values(), pivot, resume=True)
    pair = choose_pair(choices)
    on_flagship = choose_flagship(every_pair(seeds.values(), flagship, resume=True))
    single_effort, equal = choose_single(seeds.values(), pair)
    exact = given.begin_fp32((efforts[BASELINE] for efforts in seeds.values()), TEST)
    chosen = {BASELINE, pair.low, pair.high, on_flagship.low, on_flagship.high, single_effort}
    given.begin((efforts[effort] for efforts in seeds.values() for effort in sorted(chosen)), TEST)
    wanted = [(costs, pair, resume) for costs in (pivot, flagship) for resume in (True, False)] + [(flagship, on_flagship, True)]
    for efforts in seeds.values():
        for costs, choice, resume in wanted:
            costs.pair(efforts[choice.low].kept, efforts[choice.high].kept, resume)
    given.finish()

    def cascade(choice: Choice, costs: Costs, *, resume: bool) -> list[Outcome]:
        each = zip(seeds.values(), exact, strict=True)
        return [cascade_outcome(efforts, fp32.result(), choice, costs, resume=resume) for efforts, fp32 in each]

    def single(costs: Costs) -> list[Outcome]:
        return [single_outcome(efforts, single_effort, costs) for efforts in seeds.values()]

    settings = {}
    for label, costs in (("pair", pivot), ("the same pair", flagship)):
        settings[f"{label} on {costs.preset}"] = setting(cascade(pair, costs, resume=True), costs)
        settings[f"the same pair without prefix-resume on {costs.preset}"] = setting(cascade(pair, costs, resume=False), costs)
        if costs is flagship:
            settings[f"best pair on {costs.preset}"] = setting(cascade(on_flagship, costs, resume=True), costs)
        rule = "at equal loss" if equal else "nearest in loss"
        settings[f"single path {rule} (effort {single_effort}) on {costs.preset}"] = setting(single(costs), costs)

    first, alone = settings[f"pair on {pivot.preset}"], single(pivot)
    rights = [over_seeds(each.right for each in outcomes) for outcomes in (alone, cascade(pair, pivot, resume=True))]
    records = first["seeds"]

    def mean(field: str) -> dict[str, float]:
        return {part: float(np.mean([record[field][part] for record in records])) for part in records[0][field]}

    best_single = setting(alone, pivot)
    return {
        "preset": pivot.preset,
        "seed": list(seeds),
        "efforts": {"low": pair.low, "high": pair.high, "flagship_low": on_flagship.low, "flagship_high": on_flagship.high},
        **{part: {name: [record[part][name] for record in records] for name in records[0][part]} for part in ("low", "high")},
        "threshold_nats": [record["threshold_nats"] for record in records],
        "lec": float(F_LOW[0]),
        "f_low": float(np.mean([record["f_low"] for record in records])),
        "f_low_test": first["mean"]["f_low_test"],
        "accuracy": mean("accuracy"),
        "loss": first["mean"]["loss"],
        "loss_95": first["loss_95"],
        "attention_share": first["attention_share"],
        **{field: mean(field) for field in ("delay_ms", "energy_mj", "edp_mj_ms")},
        "edp_gain": first["mean"]["edp_gain"],
        "best_single": {
            "effort": single_effort, "loss_95": best_single["loss_95"], **best_single["mean"],
            "minus_pair": paired_difference(*rights),
        },
        "front": [dataclasses.asdict(choice) for choice in front(choices)],
        "settings": settings,
    }  # fmt: skip


def print_table(result: dict[str, Any]) -> None:
    """The settings side by side."""
    table = text_table(
        "", "F_low", "loss (points)", "delay (ms)", "energy (mJ)", "EDP gain", "attention share",
        title=f"{MODEL}, int8, means of {len(result['seed'])} seeds; costs of {COSTED} at 224x224",
    )  # fmt: skip
    for name, part in result["settings"].items():
        records = part["seeds"]

        def mean(field: str, records: list[dict[str, Any]] = records) -> float:
            values = (entry[field]["cascade"] if isinstance(entry[field], dict) else entry[field] for entry in records)
            return float(np.mean(list(values)))

        low, high = (100 * bound for bound in part["loss_95"])
        base = part["baseline"]
        table.add_row(
            name, f"{part['mean']['f_low_test']:.3f}" if "f_low_test" in part["mean"] else "1",
            f"{100 * part['mean']['loss']:.2f} ({low:.2f} to {high:.2f})", f"{mean('delay_ms'):.2f} of {base['delay_ms']:.2f}",
            f"{mean('energy_mj'):.1f} of {base['energy_mj']:.1f}", f"{part['mean']['edp_gain']:.2f}",
            f"{100 * part['attention_share']:.1f} %",
        )  # fmt: skip
    Console(width=150).print(table)


@command()
def main(arguments: list[str] | None = None) -> int:
    """Recompute the table."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--data", metavar="DIR", help="directory of the full Fashion-MNIST")
    options = BENCHMARK.begin(parser, arguments)
    started = time.monotonic()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("networks", total=None)
        with answerer(options.data, lambda name: progress.update(task, advance=1, description=name)) as given:
            result = computed(given)
            digest = given.digest
    head = {"model": MODEL, "costed_as": f"{COSTED} at 224x224, convolution stem included"}
    tail = {
        "rules": " ".join((__doc__ or "").split("Rules, ")[1].split()),
        "sources": "Accuracy, exits, entropy: golden machine, which equals the RTL bit for bit. Cycles: cycle model, which equals "
        "the RTL in every counter. Energy: modelled from the counters. Clocks: assumed; nothing was run on a board.",
        "data_digest": digest,
    }  # fmt: skip
    BENCHMARK.save(head | result | tail, seed=result["seed"])
    print_table(result)
    print(f"{BENCHMARK.path}, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

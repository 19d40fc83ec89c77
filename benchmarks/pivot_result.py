"""PIVOT's claim, recomputed: a gated pair of LV-ViTs against the whole one, on PIVOT's machine and on the flagship.

    python benchmarks/pivot_result.py [--data DIR]

Accuracy: the shipped LV-ViTs of `benchmarks/lv_vit/` (three seeds, `lv_vit_training.py` makes them) in int8 on the golden machine,
all 10,000 test images of Fashion-MNIST. Baseline: the whole ViT in int8 with the same extra fine-tuning as its pair. Delay and
energy: LV-ViT-S at 224x224, stem included, on the same masks, by the cycle model (which equals the RTL) and the energy table, with
the test F_low. Pair and threshold are chosen on the 2,000 calibration images alone; nothing here trains.

Rules, on calibration images, means over the seeds: of all pairs of a path and the whole network and F_low from 0.5 to 0.95 whose
EDP gain on `pivot` is at least 2.9, the one that loses least; the single path at equal loss has the lowest EDP of those that lose
no more than that pair, or where none does loses least; the single path within 0.2 points has the lowest EDP of those that
lose at most 0.2 points; the pair of two paths has the lowest EDP on `pivot` of all pairs that lose no more than the first one; the
pair that shares a prefix has the lowest EDP on `zcu102` at a loss of at most 0.1 points. Each seed's threshold is its own.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from lv_vit_answers import CHECKPOINTS, MODEL, Answers, Network, answers
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from search.intervals import Z95, paired_difference
from search.pairs import expected
from sw.checkpoint import save_json

RESULT = Path(__file__).parents[1] / "docs" / "results" / "pivot_result.json"
COSTED = "lvvit_s"
MACHINES = ("pivot", "zcu102")
CALIBRATION, TEST = "calibration", "test_all"
WHOLE = "high"
"""Checkpoint of the whole network with the same extra fine-tuning as the paths, the baseline."""
LEAST_GAIN, SINGLE_LOSS, RESUME_LOSS = 2.9, 0.002, 0.001
F_LOW = np.round(np.arange(0.50, 0.9501, 0.01), 2)


class Costs:
    """Delay (ms) and energy (mJ) of an image of the costed network on one machine."""

    def __init__(self, preset: str, integer: Any):
        """Of the integer network `integer` with all its attentions, on a preset."""
        from hw.presets import find_preset

        self.preset = preset
        self.config = find_preset(preset)
        self._integer = integer
        self.alone = cache(self._alone)
        self.pair = cache(self._pair)

    def _path(self, kept: tuple[int, ...]) -> Any:
        encoders = (
            encoder if index in kept else dataclasses.replace(encoder, attention=None)
            for index, encoder in enumerate(self._integer.encoders)
        )
        return dataclasses.replace(self._integer, encoders=tuple(encoders))

    def _cost(self, program: Any, **exit_: Any) -> dict[str, float]:
        from sim.cycle_model import predict
        from sim.energy import energy_mj

        run = predict(program, **exit_)
        delay_ms = run.cycles / (self.config.clock_mhz * 1e3)
        return {"cycles": run.cycles, "delay_ms": delay_ms, "energy_mj": energy_mj(run.counters, self.config, run.cycles).total_mj}

    def _alone(self, kept: tuple[int, ...]) -> dict[str, float]:
        """One path without a gate."""
        from sw.compiler import compile_network

        return self._cost(compile_network(self._path(kept), self.config, mask_register=False))

    def _pair(self, low: tuple[int, ...], high: tuple[int, ...], resume: bool) -> tuple[dict[str, float], dict[str, float]]:
        """(leaves at the gate, goes on) of the gated pair of two paths, both in one Program."""
        from sw.compiler import compile_pair

        program = compile_pair(self._path(low), self._path(high), self.config, 0, resume=resume)
        return self._cost(program, exits_low=True), self._cost(program)

    @property
    def whole(self) -> dict[str, float]:
        """The whole network, the baseline."""
        return self.alone(tuple(range(self._integer.depth)))

    @property
    def attention_share(self) -> float:
        """1 - cycles(all attentions skipped) / cycles(none skipped)."""
        return 1.0 - self.alone(())["cycles"] / self.whole["cycles"]

    def cascade(self, low: Network, high: Network, f_low: float, *, resume: bool = False) -> tuple[float, float]:
        """Expected (delay ms, energy mJ)."""
        first, both = self.pair(low.kept, high.kept, resume)
        delay, energy = (expected(first[name], both[name] - first[name], f_low) for name in ("delay_ms", "energy_mj"))
        return delay, energy

    def estimate(self, low: Network, high: Network, f_low: float) -> tuple[float, float]:
        """The same from the two paths alone: without the gate, and without what their Programs' seam hides."""
        first, second = self.alone(low.kept), self.alone(high.kept)
        return expected(first["delay_ms"], second["delay_ms"], f_low), expected(first["energy_mj"], second["energy_mj"], f_low)

    def gain(self, delay_ms: float, energy_mj: float) -> float:
        """Baseline's EDP over this one."""
        return self.whole["delay_ms"] * self.whole["energy_mj"] / (delay_ms * energy_mj)


@dataclasses.dataclass(frozen=True)
class Seed:
    """One seed's networks: all by name, and a pair that shares its prefix (low, high)."""

    number: int
    networks: dict[str, Network]
    resumed: tuple[Network, Network]

    @property
    def whole(self) -> Network:
        """The whole network, the baseline."""
        return self.networks[WHOLE]


def load_seeds(given: Answers) -> list[Seed]:
    """Load and quantize what `lv_vit_training.py` shipped."""
    trained = json.loads((CHECKPOINTS / "training.json").read_text())
    shipped = {int(name.removeprefix("seed")): entry["networks"] for name, entry in trained.items()}

    def named(number: int, name: str) -> tuple[int, str, tuple[int, ...]]:
        return number, name, tuple(shipped[number][name]["kept"])

    names = [name for name in next(iter(shipped.values())) if name.startswith("effort")] + [WHOLE]
    networks = given.load([named(number, name) for number in shipped for name in names])
    resumed = given.load_pairs([(named(number, "resumed"), named(number, WHOLE)) for number in shipped])
    by_seed = [dict(zip(names, networks[start : start + len(names)], strict=True)) for start in range(0, len(networks), len(names))]
    return [Seed(*each) for each in zip(shipped, by_seed, resumed, strict=True)]


def threshold(given: Answers, low: Network, f_low: float) -> int:
    """Least entropy, in 2^-12 nat, up to which at least this fraction of the calibration images leaves."""
    entropy = np.sort(given(low, CALIBRATION).entropy)
    return int(entropy[min(len(entropy) - 1, int(np.ceil(f_low * len(entropy))) - 1)])


def gated(given: Answers, low: Network, high: Network, limit: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(leaves at the gate, right), bool [n] each."""
    first, second = given(low, split), given(high, split)
    leaves = first.entropy <= limit
    return leaves, np.where(leaves, first.right, second.right)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A pair at an F_low: names of its networks; means over the seeds of its loss on calibration images and of its costs."""

    low: str
    high: str
    f_low: float
    loss: float
    delay_ms: float
    energy_mj: float
    edp_gain: float


def candidate(
    given: Answers, seeds: list[Seed], pairs: list[tuple[Network, Network]], f_low: float, spent: np.ndarray, costs: Costs
) -> Candidate:
    """A pair of each seed at an F_low; ``spent`` [seeds, 2] is its (delay ms, energy mJ)."""
    losses = [
        given(seed.whole, CALIBRATION).right.mean()
        - gated(given, low, high, threshold(given, low, f_low), CALIBRATION)[1].mean()
        for seed, (low, high) in zip(seeds, pairs, strict=True)
    ]
    gain = float(np.mean([costs.gain(*each) for each in spent]))
    low, high = pairs[0]
    return Candidate(low.name, high.name, float(f_low), float(np.mean(losses)), *map(float, spent.mean(0)), gain)


def every_pair(given: Answers, seeds: list[Seed], costs: Costs) -> list[Candidate]:
    """Every pair of two of the efforts, the whole network among them, at every F_low; costs as `Costs.estimate` has them."""
    found = []
    for names in combinations(seeds[0].networks, 2):  # by rising effort
        pairs = [(seed.networks[names[0]], seed.networks[names[1]]) for seed in seeds]
        for f_low in F_LOW:
            spent = np.array([costs.estimate(*pair, f_low) for pair in pairs])
            found.append(candidate(given, seeds, pairs, f_low, spent, costs))
    return found


def choose_pair(candidates: list[Candidate]) -> Candidate:
    """By the first rule."""
    fit = [entry for entry in candidates if entry.high == WHOLE and entry.edp_gain >= LEAST_GAIN]
    if not fit:
        raise SystemExit(f"error: no pair has an EDP gain of {LEAST_GAIN} at F_low <= {F_LOW[-1]}")
    return min(fit, key=lambda entry: (entry.loss, -entry.edp_gain))


def choose_singles(given: Answers, seeds: list[Seed], pair: Candidate) -> tuple[str, str]:
    """Names by the second rule and by the third."""
    losses = {
        name: float(np.mean([given(seed.whole, CALIBRATION).right.mean() - given(seed.networks[name], CALIBRATION).right.mean()
                             for seed in seeds]))
        for name in seeds[0].networks if name != WHOLE
    }  # fmt: skip
    least = min(losses, key=lambda name: losses[name])
    return tuple(next((name for name, lost in losses.items() if lost <= most), least) for most in (pair.loss, SINGLE_LOSS))


def choose_two_paths(candidates: list[Candidate], pair: Candidate) -> Candidate:
    """By the fourth rule."""
    return max((entry for entry in candidates if entry.loss <= pair.loss), key=lambda entry: entry.edp_gain)


def choose_resumed(given: Answers, seeds: list[Seed], costs: Costs) -> float:
    """F_low by the last rule; where no F_low keeps the loss, the one that loses least."""
    pairs = [seed.resumed for seed in seeds]
    options = []
    for f_low in F_LOW:
        spent = np.array([costs.cascade(*pair, f_low, resume=True) for pair in pairs])
        options.append(candidate(given, seeds, pairs, f_low, spent, costs))
    fit = [option for option in options if option.loss <= RESUME_LOSS]
    best = max(fit, key=lambda option: option.edp_gain) if fit else min(options, key=lambda option: option.loss)
    return best.f_low


def front(candidates: list[Candidate]) -> list[Candidate]:
    """Pairs that no other one beats in loss and EDP gain, by falling gain."""
    kept: list[Candidate] = []
    for entry in sorted(candidates, key=lambda entry: (-entry.edp_gain, entry.loss)):
        if not kept or entry.loss < kept[-1].loss:
            kept.append(entry)
    return kept


def record(
    given: Answers, fp32: float, seed: Seed, pair: tuple[Network, Network], f_low: float, costs: Costs, *, resume: bool = False
) -> dict[str, Any]:
    """One seed's cascade on test images: fields of design.md §8."""
    from hw.numerics import ENTROPY_FRACTION

    low, high = pair
    limit = threshold(given, low, f_low)
    base, (leaves, right) = given(seed.whole, TEST), gated(given, low, high, limit, TEST)
    calibrated = float(gated(given, low, high, limit, CALIBRATION)[0].mean())
    tested = float(leaves.mean())
    delay, energy = costs.cascade(low, high, tested, resume=resume)
    first, both = costs.pair(low.kept, high.kept, resume)
    whole = costs.whole
    return {
        "seed": seed.number,
        "low": {"kept": list(low.kept), "cycles": first["cycles"]},
        "high": {"kept": list(high.kept), "cycles": both["cycles"] - first["cycles"]},
        "threshold_nats": limit / (1 << ENTROPY_FRACTION),
        "f_low": calibrated,
        "f_low_test": tested,
        "accuracy": {
            "baseline_fp32": fp32,
            "baseline_int8": float(base.right.mean()),
            "low": float(given(low, TEST).right.mean()),
            "high": float(given(high, TEST).right.mean()),
            "cascade": float(right.mean()),
        },
        "loss": float(base.right.mean() - right.mean()),
        "cascade_minus_baseline": paired_difference(right, base.right),
        "delay_ms": {"baseline": whole["delay_ms"], "cascade": delay},
        "energy_mj": {"baseline": whole["energy_mj"], "cascade": energy},
        "edp_mj_ms": {"baseline": whole["delay_ms"] * whole["energy_mj"], "cascade": delay * energy},
        "edp_gain": costs.gain(delay, energy),
        "_difference": right.astype(np.float64) - base.right,
    }


def single_record(given: Answers, seed: Seed, name: str, costs: Costs) -> dict[str, Any]:
    """One seed's single path on test images."""
    network, base = seed.networks[name], given(seed.whole, TEST)
    right, cost = given(network, TEST).right, costs.alone(network.kept)
    return {
        "seed": seed.number,
        "kept": list(network.kept),
        "accuracy_test": float(right.mean()),
        "loss": float(base.right.mean() - right.mean()),
        "minus_baseline": paired_difference(right, base.right),
        "delay_ms": cost["delay_ms"],
        "energy_mj": cost["energy_mj"],
        "edp_mj_ms": cost["delay_ms"] * cost["energy_mj"],
        "edp_gain": costs.gain(cost["delay_ms"], cost["energy_mj"]),
        "_difference": right.astype(np.float64) - base.right,
    }


def setting(records: list[dict[str, Any]], costs: Costs) -> dict[str, Any]:
    """Records of all seeds with their means; the interval is over the images, an image's mean over the seeds being one outcome."""
    difference = np.mean([entry.pop("_difference") for entry in records], axis=0)
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    names = [name for name in ("loss", "f_low_test", "edp_gain") if name in records[0]]
    return {
        "preset": costs.preset,
        "clock_mhz": costs.config.clock_mhz,
        "attention_share": costs.attention_share,
        "baseline": {name: costs.whole[name] for name in ("cycles", "delay_ms", "energy_mj")},
        "mean": {name: float(np.mean([entry[name] for entry in records])) for name in names},
        "loss_95": [float(-difference.mean() - Z95 * error), float(-difference.mean() + Z95 * error)],
        "seeds": records,
    }


def costed_network() -> Any:
    """LV-ViT-S with random weights, quantized: delay does not depend on weights."""
    import torch

    from sw.network import RANDOM, build_network, parse_network
    from sw.quantization import quantize

    spec = parse_network(COSTED)
    pixels = torch.randint(0, 256, (1, spec.channels, *spec.image_size), generator=torch.Generator().manual_seed(0))
    return quantize(build_network(COSTED, RANDOM), (pixels - 128) / 128)


def print_table(result: dict[str, Any]) -> None:
    """The settings side by side."""
    table = Table(title=f"{MODEL}, int8, means of {len(result['seed'])} seeds; costs of {COSTED} at 224x224")
    for column in ("", "machine", "F_low", "loss (points)", "delay (ms)", "energy (mJ)", "EDP gain", "attention share"):
        table.add_column(column, justify="right" if column not in ("", "machine") else "left")
    for name, part in result["settings"].items():
        records = part["seeds"]

        def mean(field: str, records: list[dict[str, Any]] = records) -> float:
            values = (entry[field]["cascade"] if isinstance(entry[field], dict) else entry[field] for entry in records)
            return float(np.mean(list(values)))

        low, high = (100 * bound for bound in part["loss_95"])
        table.add_row(
            name, part["preset"], f"{part['mean']['f_low_test']:.3f}" if "f_low_test" in part["mean"] else "1",
            f"{100 * part['mean']['loss']:.2f} ({low:.2f} to {high:.2f})", f"{mean('delay_ms'):.2f}", f"{mean('energy_mj'):.1f}",
            f"{part['mean']['edp_gain']:.2f}", f"{100 * part['attention_share']:.1f} %",
        )  # fmt: skip
        base = part["baseline"]
        table.add_row("  its baseline", "", "", "", f"{base['delay_ms']:.2f}", f"{base['energy_mj']:.1f}", "1.00", "")
    Console(width=132).print(table)


def settings_of(given: Answers, seeds: list[Seed], pivot: Costs, flagship: Costs) -> tuple[dict[str, Any], list[Candidate]]:
    """Every setting by its name, and all pairs; what is chosen is chosen before a test image is looked at."""
    given.fill((network for seed in seeds for network in (*seed.networks.values(), *seed.resumed)), CALIBRATION)
    candidates = every_pair(given, seeds, pivot)
    pair = choose_pair(candidates)
    singles, two_paths = choose_singles(given, seeds, pair), choose_two_paths(candidates, pair)
    resumed_f_low = choose_resumed(given, seeds, flagship)
    names = {WHOLE, pair.low, two_paths.low, two_paths.high, *singles}
    given.fill((network for seed in seeds for network in (*map(seed.networks.get, names), *seed.resumed)), TEST)
    fp32 = given.accuracies_fp32([seed.whole for seed in seeds], TEST)

    def cascade(costs: Costs, pairs: list[tuple[Network, Network]], f_low: float, **how: bool) -> dict[str, Any]:
        each = zip(fp32, seeds, pairs, strict=True)
        return setting([record(given, exact, seed, pair, f_low, costs, **how) for exact, seed, pair in each], costs)

    def named(chosen: Candidate) -> list[tuple[Network, Network]]:
        return [(seed.networks[chosen.low], seed.networks[chosen.high]) for seed in seeds]

    settings = {}
    for label, costs in (("pair", pivot), ("the same pair", flagship)):
        settings[f"{label} on {costs.preset}"] = cascade(costs, named(pair), pair.f_low)
        for kind, name in zip(("at equal loss", "within 0.2 points"), singles, strict=True):
            records = [single_record(given, seed, name, costs) for seed in seeds]
            settings[f"best single path {kind} on {costs.preset}"] = setting(records, costs)
        settings[f"{label} of two paths on {costs.preset}"] = cascade(costs, named(two_paths), two_paths.f_low)
    resumed = cascade(flagship, [seed.resumed for seed in seeds], resumed_f_low, resume=True)
    settings[f"pair with prefix-resume on {flagship.preset}"] = resumed
    return settings, candidates


def main() -> int:
    """Recompute the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="directory of the full Fashion-MNIST")
    options = parser.parse_args()
    started = time.monotonic()

    from search.run import versions

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("networks", total=None)

        def step(name: str) -> None:
            progress.update(task, advance=1, description=name)

        with answers(options.data, step) as given:
            integer = costed_network()
            pivot, flagship = (Costs(preset, integer) for preset in MACHINES)
            seeds = load_seeds(given)
            settings, candidates = settings_of(given, seeds, pivot, flagship)
            digest = given.digest
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    main_setting = next(iter(settings.values()))
    first = main_setting["seeds"]

    def mean(field: str, part: str) -> float:
        return float(np.mean([entry[field][part] for entry in first]))

    best = settings[f"best single path at equal loss on {pivot.preset}"]
    result = {
        "model": MODEL,
        "costed_as": f"{COSTED} at 224x224, convolution stem included",
        "preset": pivot.preset,
        "seed": [seed.number for seed in seeds],
        "low": {name: [entry["low"][name] for entry in first] for name in ("kept", "cycles")},
        "high": {name: [entry["high"][name] for entry in first] for name in ("kept", "cycles")},
        "threshold_nats": [entry["threshold_nats"] for entry in first],
        "lec": float(F_LOW[0]),
        "f_low": float(np.mean([entry["f_low"] for entry in first])),
        "f_low_test": main_setting["mean"]["f_low_test"],
        "accuracy": {part: mean("accuracy", part) for part in first[0]["accuracy"]},
        "loss": main_setting["mean"]["loss"],
        "loss_95": main_setting["loss_95"],
        "attention_share": main_setting["attention_share"],
        **{field: {part: mean(field, part) for part in first[0][field]} for field in ("delay_ms", "energy_mj", "edp_mj_ms")},
        "edp_gain": main_setting["mean"]["edp_gain"],
        "best_single": {"effort": len(best["seeds"][0]["kept"]), "loss_95": best["loss_95"]} | best["mean"],
        "front": [dataclasses.asdict(entry) for entry in front(candidates)],
        "settings": settings,
        "rules": " ".join((__doc__ or "").split("Rules, ")[1].split()),
        "sources": "Accuracy, exits, entropy: golden machine, which equals the RTL bit for bit. Cycles: cycle model, which equals "
        "the RTL in every counter. Energy: modelled from the counters. Clocks: assumed; nothing was run on a board.",
        "provenance": {
            "command": "python benchmarks/pivot_result.py", "commit": commit.stdout.strip(), "versions": versions(),
            "data_digest": digest, "wall_s": round(time.monotonic() - started, 1),
        },
    }  # fmt: skip
    save_json(RESULT, result)
    print_table(result)
    print(f"{RESULT.relative_to(Path.cwd()) if RESULT.is_relative_to(Path.cwd()) else RESULT}, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""PIVOT's claim, recomputed: a gated pair of LV-ViTs against the whole one, on PIVOT's machine and on the flagship.

    python benchmarks/pivot_result.py [--data DIR]

Accuracy: the shipped LV-ViTs of `benchmarks/lv_vit/` (three seeds, `lv_vit_training.py` makes them) in int8 on the golden machine,
all 10,000 test images of Fashion-MNIST. Baseline: the whole ViT in int8 with the same extra fine-tuning as its pair. Delay and
energy: LV-ViT-S at 224x224, stem included, on the same masks, by the cycle model (which equals the RTL) and the energy table, with
the test F_low. Pair and threshold are chosen on the 2,000 calibration images alone; nothing here trains.

Rules, on calibration images, means over the seeds: of all pairs and F_low from 0.5 to 0.95 whose EDP gain on `pivot` is at least
2.9, the one that loses least; the best single path is the one with the lowest EDP that loses at most 0.2 points; the pair
that shares a prefix has the lowest EDP on `zcu102` at a loss of at most 0.1 points. Each seed's threshold is its own.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from search.intervals import Z95, paired_difference
from search.pairs import expected
from sw.checkpoint import load_tensors, save_json

CHECKPOINTS = Path(__file__).parent / "lv_vit"
RESULT = Path(__file__).parents[1] / "docs" / "results" / "pivot_result.json"
MODEL, COSTED = "fmnist_lvvit", "lvvit_s"
MACHINES = ("pivot", "zcu102")
ACCURACY_MACHINE = "nano"
"""The golden machine that answers; every machine gives the same bits."""
CALIBRATING = 512
"""Calibration images that quantization scales are chosen on, as in `sim.measure`."""
LEAST_GAIN, SINGLE_LOSS, RESUME_LOSS = 2.9, 0.002, 0.001
F_LOW = np.round(np.arange(0.50, 0.9501, 0.01), 2)


@dataclasses.dataclass(frozen=True)
class Answered:
    """A network's int8 answers to a split: which are right, and the entropy of each in 2^-12 nat."""

    right: np.ndarray
    entropy: np.ndarray


def shipped_network(seed: int, name: str, kept: Iterable[int]) -> Any:
    """A network that `lv_vit_training.py` shipped: `sw.skipping.PathVit`, fp32, in eval mode."""
    from sw.network import parse_network, untrained_network
    from sw.skipping import PathVit

    vit = untrained_network(parse_network(MODEL))
    tensors = load_tensors(CHECKPOINTS / f"seed{seed}" / f"{name}.safetensors")
    vit.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in tensors.items()})
    return PathVit(vit, kept).eval()


class Network:
    """One shipped network of one seed.

    Attributes:
        kept: encoders whose attention it has.
        torch: `sw.skipping.PathVit`, fp32.
        integer: quantized.
    """

    def __init__(self, seed: int, name: str, kept: Iterable[int], data: Any, integer: Any = None):
        """Load and, unless ``integer`` is given, quantize."""
        from sw.data import padded, to_input
        from sw.quantization import quantize

        self.kept = tuple(sorted(kept))
        self.torch = shipped_network(seed, name, self.kept)
        self._data = data
        self.images = to_input(padded(data.calibration.take(CALIBRATING).images, self.torch.image_size))
        self.integer = quantize(self.torch, self.images) if integer is None else integer
        self.answered = cache(self._answered)
        self.accuracy_fp32 = cache(self._accuracy_fp32)

    def _answered(self, split: str) -> Answered:
        from hw.golden import GoldenMachine
        from hw.presets import find_preset
        from sw.compiler import compile_network
        from sw.data import padded

        part = getattr(self._data, split)
        program = compile_network(self.integer, find_preset(ACCURACY_MACHINE), mask_register=False)
        images = (padded(part.images, self.torch.image_size).astype(np.int16) - 128).astype(np.int8)
        outcome = GoldenMachine(program).run(images)
        return Answered(outcome.logits.argmax(1) == part.labels, outcome.entropy)

    def _accuracy_fp32(self, split: str) -> float:
        """Of the unquantized network."""
        from sw.training import accuracy, evaluate_fp32

        part = getattr(self._data, split)
        return accuracy(evaluate_fp32(self.torch, part), part)


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

    def _pair(self, kept: tuple[int, ...], resume: bool) -> tuple[dict[str, float], dict[str, float]]:
        """(leaves at the gate, goes on) of the gated pair of a path and the whole network, both in one Program."""
        from sw.compiler import compile_pair

        program = compile_pair(self._path(kept), self._integer, self.config, 0, resume=resume)
        return self._cost(program, exits_low=True), self._cost(program)

    @property
    def whole(self) -> dict[str, float]:
        """The whole network, the baseline."""
        return self.alone(tuple(range(self._integer.depth)))

    @property
    def attention_share(self) -> float:
        """1 - cycles(all attentions skipped) / cycles(none skipped)."""
        return 1.0 - self.alone(())["cycles"] / self.whole["cycles"]

    def cascade(self, kept: tuple[int, ...], f_low: float, *, resume: bool = False) -> tuple[float, float]:
        """Expected (delay ms, energy mJ)."""
        low, both = self.pair(kept, resume)
        delay, energy = (expected(low[name], both[name] - low[name], f_low) for name in ("delay_ms", "energy_mj"))
        return delay, energy

    def gain(self, delay_ms: float, energy_mj: float) -> float:
        """Baseline's EDP over this one."""
        return self.whole["delay_ms"] * self.whole["energy_mj"] / (delay_ms * energy_mj)


@dataclasses.dataclass(frozen=True)
class Seed:
    """One seed's networks: the whole one, paths by name, and a pair that shares its prefix (low, high)."""

    number: int
    high: Network
    lows: dict[str, Network]
    resumed: tuple[Network, Network]


def load_seed(number: int, data: Any) -> Seed:
    """Load and quantize what `lv_vit_training.py` shipped for a seed."""
    from sw.quantization import quantize_pair

    shipped = json.loads((CHECKPOINTS / "training.json").read_text())[f"seed{number}"]["networks"]
    depth = range(len(shipped["high"]["kept"]))
    high = Network(number, "high", depth, data)
    lows = {name: Network(number, name, entry["kept"], data) for name, entry in shipped.items() if name.startswith("effort")}
    prefix = Network(number, "resumed", shipped["resumed"]["kept"], data)
    low, whole = quantize_pair(prefix.torch, high.torch, prefix.images)
    resumed = Network(number, "resumed", prefix.kept, data, low), Network(number, "high", depth, data, whole)
    return Seed(number, high, lows, resumed)


def threshold(low: Network, f_low: float) -> int:
    """Least entropy, in 2^-12 nat, up to which at least this fraction of the calibration images leaves."""
    entropy = np.sort(low.answered("calibration").entropy)
    return int(entropy[min(len(entropy) - 1, int(np.ceil(f_low * len(entropy))) - 1)])


def gated(low: Network, high: Network, limit: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(leaves at the gate, right), bool [n] each."""
    first, second = low.answered(split), high.answered(split)
    leaves = first.entropy <= limit
    return leaves, np.where(leaves, first.right, second.right)


def loss(pairs: list[tuple[Network, Network, int]], baselines: list[Network]) -> float:
    """Mean loss of cascades against their baselines on calibration images."""
    split = "calibration"
    return float(np.mean([
        base.answered(split).right.mean() - gated(low, high, limit, split)[1].mean()
        for (low, high, limit), base in zip(pairs, baselines, strict=True)
    ]))  # fmt: skip


def every_pair(seeds: list[Seed], costs: Costs) -> list[dict[str, Any]]:
    """Every low effort at every F_low: means over the seeds on calibration images."""
    found = []
    for name in seeds[0].lows:
        for f_low in F_LOW:
            pairs = [(seed.lows[name], seed.high, threshold(seed.lows[name], f_low)) for seed in seeds]
            spent = np.array([costs.cascade(seed.lows[name].kept, f_low) for seed in seeds])
            found.append({
                "low": name,
                "f_low": float(f_low),
                "loss": loss(pairs, [seed.high for seed in seeds]),
                "delay_ms": float(spent[:, 0].mean()),
                "energy_mj": float(spent[:, 1].mean()),
                "edp_gain": float(np.mean([costs.gain(*pair) for pair in spent])),
            })  # fmt: skip
    return found


def choose_pair(candidates: list[dict[str, Any]]) -> tuple[str, float]:
    """(name of the low effort, F_low) by the first rule."""
    fit = [entry for entry in candidates if entry["edp_gain"] >= LEAST_GAIN]
    if not fit:
        raise SystemExit(f"error: no pair has an EDP gain of {LEAST_GAIN} at F_low <= {F_LOW[-1]}")
    best = min(fit, key=lambda entry: (entry["loss"], -entry["edp_gain"]))
    return best["low"], best["f_low"]


def front(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pairs that no other one beats in loss and EDP gain, by falling gain."""
    kept: list[dict[str, Any]] = []
    for entry in sorted(candidates, key=lambda entry: (-entry["edp_gain"], entry["loss"])):
        if not kept or entry["loss"] < kept[-1]["loss"]:
            kept.append(entry)
    return kept


def choose_single(seeds: list[Seed]) -> str | None:
    """Name of the effort by the second rule, the lowest that keeps the loss; None where none does."""
    split = "calibration"
    losses = {
        name: np.mean([seed.high.answered(split).right.mean() - seed.lows[name].answered(split).right.mean() for seed in seeds])
        for name in sorted(seeds[0].lows)
    }
    return next((name for name, lost in losses.items() if lost <= SINGLE_LOSS), None)


def choose_resumed(seeds: list[Seed], costs: Costs) -> float:
    """F_low by the third rule; where no F_low keeps the loss, the one that loses least."""
    options = []
    for f_low in F_LOW:
        pairs = [(*seed.resumed, threshold(seed.resumed[0], f_low)) for seed in seeds]
        gain = np.mean([costs.gain(*costs.cascade(seed.resumed[0].kept, f_low, resume=True)) for seed in seeds])
        options.append((loss(pairs, [seed.high for seed in seeds]), gain, float(f_low)))
    fit = [option for option in options if option[0] <= RESUME_LOSS]
    return max(fit, key=lambda option: option[1])[2] if fit else min(options)[2]


def record(seed: Seed, low: Network, high: Network, f_low: float, costs: Costs, *, resume: bool = False) -> dict[str, Any]:
    """One seed's cascade on test images: fields of design.md §8."""
    from hw.numerics import ENTROPY_FRACTION

    limit = threshold(low, f_low)
    base, (leaves, right) = seed.high.answered("test_all"), gated(low, high, limit, "test_all")
    calibrated = float(gated(low, high, limit, "calibration")[0].mean())
    tested = float(leaves.mean())
    delay, energy = costs.cascade(low.kept, tested, resume=resume)
    first, both = costs.pair(low.kept, resume)
    whole = costs.whole
    return {
        "seed": seed.number,
        "low": {"kept": list(low.kept), "cycles": first["cycles"]},
        "high": {"kept": list(high.kept), "cycles": both["cycles"] - first["cycles"]},
        "threshold_nats": limit / (1 << ENTROPY_FRACTION),
        "f_low": calibrated,
        "f_low_test": tested,
        "accuracy": {
            "baseline_fp32": seed.high.accuracy_fp32("test_all"),
            "baseline_int8": float(base.right.mean()),
            "low": float(low.answered("test_all").right.mean()),
            "high": float(high.answered("test_all").right.mean()),
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


def single_record(seed: Seed, name: str, costs: Costs) -> dict[str, Any]:
    """One seed's single path on test images."""
    network, base = seed.lows[name], seed.high.answered("test_all")
    right, cost = network.answered("test_all").right, costs.alone(network.kept)
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
    pixels = torch.randint(0, 256, (8, spec.channels, *spec.image_size), generator=torch.Generator().manual_seed(0))
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


def main() -> int:
    """Recompute the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="directory of the full Fashion-MNIST")
    options = parser.parse_args()
    started = time.monotonic()
    import torch

    from search.run import versions
    from sw.data import load_fashion_mnist

    torch.set_num_threads(2)
    data = load_fashion_mnist(options.data)
    numbers = sorted(int(name.removeprefix("seed")) for name in json.loads((CHECKPOINTS / "training.json").read_text()))
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("networks", total=len(numbers) + 4)

        def step(name: str) -> None:
            progress.update(task, advance=1, description=name)

        integer = costed_network()
        pivot, flagship = (Costs(preset, integer) for preset in MACHINES)
        seeds = []
        for number in numbers:
            seeds.append(load_seed(number, data))
            step(f"seed {number} is loaded")
        candidates = every_pair(seeds, pivot)
        name, f_low = choose_pair(candidates)
        single, resumed_f_low = choose_single(seeds), choose_resumed(seeds, flagship)
        step(f"chosen: {name}, F_low {f_low}; single: {single}")
        settings = {}
        for label, costs in (("pair", pivot), ("the same pair", flagship)):
            records = [record(seed, seed.lows[name], seed.high, f_low, costs) for seed in seeds]
            settings[f"{label} on {costs.preset}"] = setting(records, costs)
            if single is not None:
                settings[f"best single path on {costs.preset}"] = setting([single_record(s, single, costs) for s in seeds], costs)
            step(f"{label} on {costs.preset}")
        records = [record(seed, *seed.resumed, resumed_f_low, flagship, resume=True) for seed in seeds]
        settings[f"pair with prefix-resume on {flagship.preset}"] = setting(records, flagship)
        step("prefix-resume")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    main_setting = next(iter(settings.values()))
    first = main_setting["seeds"]

    def mean(field: str, part: str) -> float:
        return float(np.mean([entry[field][part] for entry in first]))

    best = settings.get(f"best single path on {pivot.preset}")
    result = {
        "model": MODEL,
        "costed_as": f"{COSTED} at 224x224, convolution stem included",
        "preset": pivot.preset,
        "seed": numbers,
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
        "best_single": None if best is None else {"effort": len(best["seeds"][0]["kept"])} | best["mean"],
        "front": front(candidates),
        "settings": settings,
        "rules": " ".join((__doc__ or "").split("Rules, ")[1].split()),
        "sources": "Accuracy, exits, entropy: golden machine, which equals the RTL bit for bit. Cycles: cycle model, which equals "
        "the RTL in every counter. Energy: modelled from the counters. Clocks: assumed; nothing was run on a board.",
        "provenance": {
            "command": "python benchmarks/pivot_result.py", "commit": commit.stdout.strip(), "versions": versions(),
            "data_digest": data.digest, "wall_s": round(time.monotonic() - started, 1),
        },
    }  # fmt: skip
    save_json(RESULT, result)
    print_table(result)
    print(f"{RESULT.relative_to(Path.cwd()) if RESULT.is_relative_to(Path.cwd()) else RESULT}, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

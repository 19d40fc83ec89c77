"""Images a second with torch on this computer, batch 1 and 64: the full ViT and the gated pair, with their accuracies.

    python -m benchmarks.pivot.throughput [--images N] [--data DIR]

Two pairs: the shipped 12-encoder ViT with a path of effort 4 that is fine-tuned here for 200 steps, and the shipped LV-ViT pair of
seed 0 that `pivot_result.py` chose. float32; in batches, hard images are gathered for the high effort
(`sw.gated.inference.cascade`).
The threshold is the least entropy up to which F_low of the 2,000 calibration images leave: F_low is `pivot_result.py`'s, and for
the first pair the greatest one up to 0.95 that loses at most 0.2 points on those images. Repetitions take turns (full, pair, full,
…) and medians are shown; accuracy and F_low are of all test images. Twelve minutes on two cores; nothing else should run.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.pivot.lv_vit_weights import BASELINE, MODEL, effort_name, load_network
from benchmarks.pivot.pivot_result import BENCHMARK as CHOSEN
from benchmarks.pivot.pivot_result import F_LOW
from benchmarks.result import Benchmark
from hw.errors import InputError, command
from hw.tables import text_table
from search.intervals import paired_difference
from search.pairs import least_threshold
from sw.data.fashion_mnist import FashionMnist, load_fashion_mnist
from sw.data.pixels import padded, to_input
from sw.data.split import Split
from sw.gated.inference import cascade
from sw.graph.path import Path as NetworkPath
from sw.graph.path_vit import PathVit
from sw.networks.network import build_network
from sw.training.finetune import finetune
from sw.training.recipe import finetuning
from sw.training.trainer import evaluate_fp32

BENCHMARK = Benchmark("pivot.throughput", (*CHOSEN.sources, "benchmarks/results/pivot_result.json", "sw/gated"))
BATCHES = (1, 64)
REPETITIONS = 7
SHIPPED, SHIPPED_LOW = "fmnist_vit_tiny", (0, 2, 4, 6)
SHIPPED_LOSS = 0.002
FINETUNING = {"steps": 200, "batch": 128, "seed": 0}
SEED = 0
EVALUATING = 500
"""Batch that accuracies are found with."""


@dataclass(frozen=True)
class TorchPair:
    """Two torch networks, the threshold between them, and the full ViT.

    Attributes:
        model: their name.
        full: keeps every attention, with the same fine-tuning.
        low: answers first.
        high: answers what is hard.
        threshold_nats: greatest entropy at which the first answer stands.
        f_low: fraction of calibration images that leave.
    """

    model: str
    full: PathVit
    low: PathVit
    high: PathVit
    threshold_nats: float
    f_low: float


@dataclass(frozen=True)
class Calibrated:
    """Both efforts' answers to the calibration images, in the order of the low effort's entropy (nats, ascending)."""

    entropy: np.ndarray
    low_right: np.ndarray
    high_right: np.ndarray

    @staticmethod
    def of(low: PathVit, high: PathVit, split: Split) -> "Calibrated":
        """Answer the images."""
        inputs = to_input(padded(split.images, low.image_size))
        logits, _, entropy = (part.numpy() for part in cascade(low, high, inputs, float("inf"), EVALUATING))
        order = np.argsort(entropy, kind="stable")
        high_right = evaluate_fp32(high, split).argmax(1).numpy() == split.labels
        return Calibrated(entropy[order], (logits.argmax(1) == split.labels)[order], high_right[order])

    def _leaving(self, f_low: float) -> int:
        return min(len(self.entropy), int(np.ceil(f_low * len(self.entropy))))

    def threshold(self, f_low: float) -> float:
        """Least entropy up to which at least this fraction leaves."""
        return float(least_threshold(self.entropy, f_low))

    def loss(self, f_low: float) -> float:
        """Of the pair against the high effort."""
        leaving = self._leaving(f_low)
        return float(self.high_right.mean() - np.concatenate([self.low_right[:leaving], self.high_right[leaving:]]).mean())


def shipped_vit_pair(data: FashionMnist) -> TorchPair:
    """The shipped ViT, and a path of it fine-tuned from its weights and its answers.

    Raises:
        InputError: no F_low keeps the loss.
    """
    high = PathVit(build_network(SHIPPED)).eval()
    low = finetune(high, NetworkPath.keeping(SHIPPED_LOW, high.depth), data.train, finetuning(**FINETUNING), teacher=high)
    calibrated = Calibrated.of(low, high, data.calibration)
    kept = [f_low for f_low in F_LOW if calibrated.loss(f_low) <= SHIPPED_LOSS]
    if not kept:
        raise InputError(f"Low effort must lose at most {SHIPPED_LOSS} on the calibration images at F_low {F_LOW[0]}")
    return TorchPair(SHIPPED, high, low, high, calibrated.threshold(max(kept)), float(max(kept)))


def lv_vit_pair(data: FashionMnist) -> TorchPair:
    """The shipped LV-ViT pair that `pivot_result.py` chose.

    Raises:
        InputError: nothing was chosen.
    """
    chosen = next(entry for entry in CHOSEN.load()["settings"]["pair on pivot"]["seeds"] if entry["seed"] == SEED)
    paths = (chosen["low"]["kept"], chosen["high"]["kept"])
    full, low, high = (load_network(SEED, effort_name(len(kept)), kept) for kept in ((*range(BASELINE),), *paths))
    limit = Calibrated.of(low, high, data.calibration).threshold(chosen["f_low"])
    return TorchPair(MODEL, full, low, high, limit, chosen["f_low"])


def answered(network: PathVit, images: torch.Tensor, batch: int) -> torch.Tensor:
    """Logits of one network, float32 [n, classes]."""
    with torch.inference_mode():
        return torch.cat([network(images[start : start + batch]) for start in range(0, len(images), batch)])


def images_per_second(answer: Callable[[torch.Tensor, int], Any], images: torch.Tensor, batch: int) -> float:
    """Of one pass over the images."""
    started = time.perf_counter()
    answer(images, batch)
    return len(images) / (time.perf_counter() - started)


def measure(pair: TorchPair, split: Split, count: int, step: Callable[[str], None]) -> dict[str, Any]:
    """Accuracy on all images of a split and throughput on its first ``count``."""
    inputs = to_input(padded(split.images, pair.high.image_size))

    def gated(images: torch.Tensor, batch: int) -> Any:
        return cascade(pair.low, pair.high, images, pair.threshold_nats, batch)

    def full(images: torch.Tensor, batch: int) -> Any:
        return answered(pair.full, images, batch)

    ways = {"full": full, "pair": gated}
    logits, exits_low, _ = gated(inputs, EVALUATING)
    right = {"pair": logits.argmax(1).numpy() == split.labels}
    right |= {
        name: answered(network, inputs, EVALUATING).argmax(1).numpy() == split.labels
        for name, network in (("full", pair.full), ("low", pair.low))
    }
    speeds: dict[str, dict[str, Any]] = {}
    for batch in BATCHES:
        part = inputs[:count]
        for answer in ways.values():
            answer(part[: max(EVALUATING, batch)], batch)
        runs: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(REPETITIONS):
            for name, answer in ways.items():
                runs[name].append(images_per_second(answer, part, batch))
            step(f"{pair.model}, batch {batch}")
        speeds[f"batch_{batch}"] = {
            name: {"images_per_s": round(float(np.median(values)), 1), "repetitions": [round(value, 1) for value in values]}
            for name, values in runs.items()
        }
        medians = [speeds[f"batch_{batch}"][name]["images_per_s"] for name in ("pair", "full")]
        speeds[f"batch_{batch}"]["speed_up"] = round(medians[0] / medians[1], 3)
    return {
        "model": pair.model,
        "low_kept": list(pair.low.path.kept),
        "high_kept": list(pair.high.path.kept),
        "threshold_nats": round(pair.threshold_nats, 4),
        "f_low_calibration": pair.f_low,
        "f_low_test": float(exits_low.float().mean()),
        "f_low_timed": float(exits_low[:count].float().mean()),
        "accuracy": {name: float(values.mean()) for name, values in right.items()},
        "pair_minus_full": paired_difference(right["pair"], right["full"]),
        "throughput": speeds,
    }


@command()
def main(arguments: list[str] | None = None) -> int:
    """Measure, write the result and print the table."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--data", metavar="DIR", help="directory of the full Fashion-MNIST")
    parser.add_argument("--images", type=int, default=2000, metavar="N", help="test images that are timed (default: %(default)s)")
    options = BENCHMARK.begin(parser, arguments)
    data = load_fashion_mnist(options.data)
    pairs = shipped_vit_pair(data), lv_vit_pair(data)
    split = data.test_all
    count = len(split.take(options.images))
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("accuracy", total=len(pairs) * len(BATCHES) * REPETITIONS)
        entries = [measure(pair, split, count, lambda name: progress.update(task, advance=1, description=name)) for pair in pairs]
    cpu = next((line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), None)
    result = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.split("+")[0],
        "precision": "float32",
        "test_images": len(split),
        "timed_images": count,
        "repetitions": REPETITIONS,
        "finetuning_of_the_first_low_effort": FINETUNING,
        "data_digest": data.digest,
        "pairs": entries,
    }
    BENCHMARK.save(result, seed=SEED)
    table = text_table(
        "", "F_low", "accuracy (%)", *(f"images/s, batch {batch}" for batch in BATCHES),
        title=f"torch, float32, {torch.get_num_threads()} threads; accuracy of {len(split):,} test images",
    )  # fmt: skip
    for entry in entries:
        for name, title in (("full", f"{entry['model']}, full"), ("pair", "  pair")):
            speeds = (f"{entry['throughput'][f'batch_{batch}'][name]['images_per_s']:,.0f}" for batch in BATCHES)
            f_low = f"{entry['f_low_test']:.3f}" if name == "pair" else ""
            table.add_row(title, f_low, f"{100 * entry['accuracy'][name]:.2f}", *speeds)
    Console(width=110).print(table)
    return 0


def _cpu_lines() -> list[str]:
    information = Path("/proc/cpuinfo")
    return information.read_text().splitlines() if information.is_file() else []


if __name__ == "__main__":
    sys.exit(main())

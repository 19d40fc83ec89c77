"""Does Path-Score tell which path will answer best? The paper's Figure 4a, for every way to read its definition.

    python -m benchmarks.pivot.path_scores [--data DIR]

Random paths of effort 6 of the 12-encoder ViT `fmnist_vit_tiny`: accuracy on all 10,000 test images as they are, after equal
fine-tuning (100 steps of 128 images, same order and seed), and for every fourth or so after five times the steps; beside it
each path's score from calibration images. Spearman's correlation with a bootstrap interval over the paths. A process for each core,
half an hour on two; a killed run goes on where it stopped, by way of a file in `runs/`.
"""

import sys
import time
from concurrent.futures import as_completed
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.picture import save_picture
from benchmarks.processes import data_pool, worker_data
from benchmarks.result import Benchmark
from benchmarks.sources import TRAINING
from hw.errors import command
from hw.files import read_json, write_json
from hw.tables import text_table
from search.paths.cka import cka_matrix
from search.paths.path_score import best_paths, path_scores, random_paths
from sw.data.fashion_mnist import load_fashion_mnist
from sw.data.pixels import to_input
from sw.graph.path import Path as NetworkPath
from sw.graph.path_vit import PathVit
from sw.networks.network import build_network
from sw.training.finetune import finetune, teacher_answers
from sw.training.recipe import finetuning
from sw.training.trainer import accuracy, evaluate_fp32

BENCHMARK = Benchmark("pivot.path_scores", (*TRAINING, "benchmarks/processes.py", "search/paths"))
WORK = Path("runs")
MODEL, EFFORT, PATHS, LONGER_PATHS = "fmnist_vit_tiny", 6, 44, 11
STEPS, LONGER_STEPS, BATCH, LEARNING_RATE, SEED = 100, 500, 128, 5e-4, 0
VARIANTS = {
    "class": "class token, stream after the attention add",
    "mean": "mean over the patches, stream after the attention add",
    "all": "every token, stream after the attention add",
    "branch": "class token, the attention branch before its add",
}
"""The streams that CKA compares with the stream that enters an encoder."""
_CKA_IMAGES = {"class": 250, "mean": 250, "all": 50, "branch": 250}


def similarity(network: PathVit, images: torch.Tensor, variant: str) -> np.ndarray:
    """CKA, float64 [depth, depth], between what enters encoder i and what its variant takes of encoder j."""

    def batches():
        size = _CKA_IMAGES[variant]
        for start in range(0, len(images) - len(images) % size, size):
            rows = "class" if variant == "branch" else variant
            entering, attended = network.streams(images[start : start + size], rows=rows)
            if variant == "branch":
                attended = attended - entering
            # A token is a row like any other: [images, depth, tokens, dim] to [images * tokens, depth, dim].
            pair = (stream if stream.ndim == 3 else stream.transpose(1, 2).flatten(0, 1) for stream in (entering, attended))
            yield tuple(stream.numpy() for stream in pair)

    return cka_matrix(batches(), network.depth)


def spearman(scores: np.ndarray, accuracies: np.ndarray) -> dict[str, float]:
    """Spearman's correlation with a 95 % bootstrap interval over the paths."""
    from scipy.stats import bootstrap, spearmanr

    def statistic(first: np.ndarray, second: np.ndarray) -> float:
        return float(spearmanr(first, second).statistic)

    interval = bootstrap(
        (scores, accuracies), statistic, paired=True, vectorized=False, n_resamples=2000, method="percentile", rng=0
    ).confidence_interval
    return {
        "spearman": round(statistic(scores, accuracies), 3),
        "low95": round(float(interval.low), 3),
        "high95": round(float(interval.high), 3),
    }


def measure(directory: str | None, paths: list[NetworkPath], longer: list[NetworkPath]) -> dict[str, Any]:
    """Accuracy of each path on all test images: ``before``, ``after``, and for some ``longer`` fine-tuning."""
    work = WORK / f"path_scores-{BENCHMARK.digest[:16]}.json"
    found = read_json(work) if work.is_file() else {}
    wanted = [(path, "longer") for path in longer] + [(path, name) for name in ("after", "before") for path in paths]
    started = time.monotonic()
    with data_pool(directory) as pool:
        missing = [(path, name) for path, name in wanted if name not in found.get(str(path.mask), {})]
        tasks = {pool.submit(_accuracy, path, name): (path, name) for path, name in missing}
        for number, task in enumerate(as_completed(tasks), 1):
            path, name = tasks[task]
            found.setdefault(str(path.mask), {})[name] = task.result()
            write_json(work, found)
            print(f"{number}/{len(tasks)} {path} {name} {task.result():.4f} {time.monotonic() - started:.0f} s", flush=True)
    return found


@cache
def _network() -> PathVit:
    return PathVit(build_network(MODEL)).eval()


@cache
def _teacher() -> torch.Tensor:
    return teacher_answers(_network(), worker_data().train)


def _accuracy(path: NetworkPath, name: str) -> float:
    """On all test images, after the steps that the name stands for."""
    network, data = _network(), worker_data()
    steps = {"before": 0, "after": STEPS, "longer": LONGER_STEPS}[name]
    if steps:
        network = finetune(
            network, path, data.train, finetuning(steps, batch=BATCH, lr=LEARNING_RATE, seed=SEED), teacher_logits=_teacher()
        )  # fmt: skip
    return accuracy(evaluate_fp32(network, data.test_all, path), data.test_all)


def draw(entries: list[dict[str, Any]]) -> None:
    """Accuracy against Path-Score, a panel for each variant."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, panes = pyplot.subplots(1, len(VARIANTS), figsize=(11, 3), layout="constrained", sharey=True)
    for pane, variant in zip(panes, VARIANTS, strict=True):
        for name, marker in (("before", "x"), ("after", "o"), ("longer", "^")):
            points = [(entry["scores"][variant], 100 * entry[name]) for entry in entries if name in entry]
            pane.plot(*zip(*points, strict=True), marker, markersize=4, alpha=0.7, label=name)
        pane.set(title=variant, xlabel="Path-Score")
    panes[0].set_ylabel("top-1 on 10,000 test images (%)")
    panes[0].legend(frameon=False, fontsize=8, title="fine-tuning", title_fontsize=8)
    save_picture(figure, "path_scores", "path scores")


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--data", metavar="DIR", help="directory of the full Fashion-MNIST")
    options = BENCHMARK.begin(parser, arguments)
    torch.set_num_threads(1)
    data, network = load_fashion_mnist(options.data), PathVit(build_network(MODEL)).eval()
    paths = random_paths(network.depth, EFFORT, PATHS, SEED)
    images = to_input(data.calibration.images)
    matrices = {variant: similarity(network, images, variant) for variant in VARIANTS}
    around = {variant: np.diag(matrix) for variant, matrix in matrices.items()}
    scores = {variant: path_scores(values) for variant, values in around.items()}
    by_score = sorted(paths, key=lambda path: scores["class"][path.mask])
    found = measure(options.data, paths, by_score[:: len(paths) // LONGER_PATHS])
    entries = [
        {"kept": list(path.kept), "scores": {variant: float(scores[variant][path.mask]) for variant in VARIANTS}}
        | found[str(path.mask)]
        for path in paths
    ]
    variants = {}
    for variant, meaning in VARIANTS.items():
        values = np.array([entry["scores"][variant] for entry in entries])
        variants[variant] = {
            "meaning": meaning,
            "cka": matrices[variant].round(4).tolist(),
            "best_path": list(next(best.path.kept for best in best_paths(around[variant]) if best.path.effort == EFFORT)),
        }
        for name in ("before", "after", "longer"):
            chosen = [index for index, entry in enumerate(entries) if name in entry]
            accuracies = np.array([entries[index][name] for index in chosen])
            variants[variant][name] = {"paths": len(chosen)} | spearman(values[chosen], accuracies)
    result = {
        "model": MODEL,
        "effort": EFFORT,
        "data_digest": data.digest,
        "test_images": len(data.test_all),
        "finetuning": {"steps": STEPS, "longer_steps": LONGER_STEPS, "batch": BATCH, "lr": LEARNING_RATE, "seed": SEED},
        "whole_accuracy": accuracy(evaluate_fp32(network, data.test_all), data.test_all),
        "variants": variants,
        "paths": entries,
    }
    BENCHMARK.save(result, seed=SEED)
    draw(entries)
    title = f"Spearman of Path-Score and accuracy, {len(paths)} paths of effort {EFFORT}"
    table = text_table("variant", "before", "after", "longer", title=title)
    for variant, part in variants.items():
        cells = (part[name] for name in ("before", "after", "longer"))
        table.add_row(variant, *(f"{cell['spearman']:.2f} ({cell['low95']:.2f} to {cell['high95']:.2f})" for cell in cells))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Trains what the PIVOT result is computed from: LV-ViT on full Fashion-MNIST, and its efforts, which share its stem.

    python -m benchmarks.pivot.lv_vit_training

For each of three seeds: the whole ViT, trained with attentions skipped at random and then, with all of them, distilled from itself;
CKA on calibration images and the best path of each effort; every path and, as effort 16, the whole ViT again, fine-tuned with the
same steps, batches, order and teacher. Their stem and embedding stay those of the whole ViT, so that in any pair of them the high
effort can resume behind the embedding. Weights are rounded to float16, with which everything is evaluated and shipped, in
`benchmarks/lv_vit/`: of an effort only what differs from its whole ViT. Figures, seeds and recipes go to `training.json` there.

A process for each core, each with one thread of torch. What is shipped already is left as it is, so that efforts can be trained
anew, in an hour on two cores, without the whole ViTs, which take half of that; a killed run goes on where it stopped. Nothing here
looks at a test image.
"""

import sys
import time
from concurrent.futures import as_completed
from dataclasses import asdict
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pivot.lv_vit_weights import FIGURES, SHIPPED, WHOLE, effort_name, load_network, save_network, untrained
from benchmarks.processes import data_pool, worker_data
from benchmarks.result import Benchmark
from hw.errors import command
from hw.files import read_json, write_json

BENCHMARK = Benchmark("pivot.lv_vit_training")
SEEDS = (0, 1, 2)
EFFORTS = (16, 2, 8, 4, 12)
"""In the order in which they are trained."""
EPOCHS, FINETUNE_EPOCHS, BATCH = 8, 3, 128
LEARNING_RATE, FINETUNE_RATE = 1e-3, 5e-4
CKA_BATCH = 250


@command()
def main(arguments: list[str] | None = None) -> int:
    """Train all networks that are not shipped."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--data", metavar="DIR", help="directory of the full Fashion-MNIST")
    parser.add_argument("--work", type=Path, default=Path("runs/lv_vit"), help="checkpoints of a run under way")
    options = parser.parse_args(arguments)

    found = read_json(FIGURES) if FIGURES.is_file() else {}
    with data_pool(options.data) as pool:
        for seed, entry in zip(SEEDS, pool.map(_whole, SEEDS, repeat(options.work)), strict=True):
            if entry is not None:  # a new whole ViT has efforts of its own
                found[f"seed{seed}"] = entry
        tasks = {
            pool.submit(_effort, seed, effort, found[f"seed{seed}"]["redundancy"], options.work): (seed, effort)
            for effort in EFFORTS
            for seed in SEEDS
            if effort_name(effort) not in found[f"seed{seed}"]["networks"]
        }
        for task in as_completed(tasks):
            seed, effort = tasks[task]
            found[f"seed{seed}"]["networks"][effort_name(effort)] = task.result()
            write_json(FIGURES, dict(sorted(found.items())))
    return 0


@cache
def _teacher(seed: int, work: Path) -> Any:
    """The whole ViT's logits to the training images, kept for a run that goes on."""
    from sw.networks.checkpoint import load_tensors, save_tensors
    from sw.training.finetune import teacher_answers

    path = work / f"seed{seed}" / "teacher.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, {"logits": teacher_answers(load_network(seed, WHOLE, None), worker_data().train)})
    return load_tensors(path)["logits"]


def _whole(seed: int, work: Path) -> dict[str, Any] | None:
    """Train the whole ViT; None where it is shipped."""
    if (SHIPPED / f"seed{seed}" / f"{WHOLE}.safetensors").is_file():
        return None
    from sw.graph.path_vit import PathVit
    from sw.networks.checkpoint import load_run_state, save_run_state
    from sw.training.finetune import finetune, teacher_answers
    from sw.training.recipe import Recipe, finetuning
    from sw.training.trainer import Trainer

    data, state, started = worker_data(), work / f"seed{seed}" / WHOLE, time.monotonic()
    epoch = len(data.train) // BATCH
    recipe = Recipe(
        steps=EPOCHS * epoch, batch=BATCH, lr=LEARNING_RATE, warmup_steps=epoch, attention_drop=0.6, seed=seed, bfloat16=True
    )
    trainer = Trainer(PathVit(untrained(seed)), data.train, recipe)
    found = load_run_state(state)
    if found is not None:
        trainer.load_state(*found)
    progress = _progress(f"seed {seed} {WHOLE}")

    def on_step(done: int, loss: float) -> None:
        if done % 200 == 0 or done == recipe.steps:
            save_run_state(state, *trainer.state())
        progress(done, recipe.steps, loss)

    trainer.run(on_step)
    network = trainer.network
    again = _finetuning(seed)
    tuned = finetune(
        network, None, data.train, finetuning(**again), teacher_logits=teacher_answers(network, data.train), progress=progress,
        state_dir=state.with_name("settled"),
    )  # fmt: skip
    save_network(tuned, seed, WHOLE)
    settled = load_network(seed, WHOLE, None)
    record = _record(settled, started, asdict(recipe) | {"then": again})
    return {"data_digest": data.digest, "redundancy": _redundancy(settled).tolist(), "networks": {WHOLE: record}}


def _effort(seed: int, effort: int, redundancy: list[float], work: Path) -> dict[str, Any]:
    """Fine-tune the best path of an effort."""
    from search.paths.path_score import best_paths
    from sw.training.finetune import finetune
    from sw.training.recipe import finetuning

    data, name, started = worker_data(), effort_name(effort), time.monotonic()
    path = next(best.path for best in best_paths(np.array(redundancy)) if best.path.effort == effort)
    recipe = _finetuning(seed) | {"frozen": 0}
    tuned = finetune(
        load_network(seed, WHOLE, None), path, data.train, finetuning(**recipe), teacher_logits=_teacher(seed, work),
        progress=_progress(f"seed {seed} {name}"), state_dir=work / f"seed{seed}" / name,
    )  # fmt: skip
    save_network(tuned, seed, name)
    return _record(load_network(seed, name, path.kept), started, recipe)


def _finetuning(seed: int) -> dict[str, Any]:
    """Arguments of `sw.training.recipe.finetuning` that all networks share."""
    steps = FINETUNE_EPOCHS * (len(worker_data().train) // BATCH)
    return {"steps": steps, "batch": BATCH, "lr": FINETUNE_RATE, "seed": seed, "bfloat16": True}


def _record(network: Any, started: float, recipe: dict[str, Any]) -> dict[str, Any]:
    from sw.training.trainer import accuracy, evaluate_fp32

    calibration = worker_data().calibration
    return {
        "kept": list(network.path.kept),
        "accuracy_calibration": accuracy(evaluate_fp32(network, calibration), calibration),
        "recipe": recipe,
        "wall_s": round(time.monotonic() - started, 1),
    }


def _redundancy(network: Any) -> np.ndarray:
    """CKA around each encoder's attention, class-token rows, calibration images."""
    from search.paths.cka import cka_matrix
    from sw.data.pixels import padded, to_input

    images = to_input(padded(worker_data().calibration.images, network.image_size))
    batches = (network.streams(images[start : start + CKA_BATCH]) for start in range(0, len(images), CKA_BATCH))
    return np.diag(cka_matrix(((a.numpy(), b.numpy()) for a, b in batches), network.depth))


def _progress(name: str) -> Any:
    """Prints a line every few hundred steps."""
    started = time.monotonic()

    def report(done: int, steps: int, loss: float) -> None:
        if done % 453 == 0:
            print(f"{name}: {done}/{steps} loss {loss:.3f} {time.monotonic() - started:.0f} s", flush=True)

    return report


if __name__ == "__main__":
    sys.exit(main())

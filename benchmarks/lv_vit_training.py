"""Trains what the PIVOT result is computed from: LV-ViT on full Fashion-MNIST, its efforts, and one that shares a prefix.

    python benchmarks/lv_vit_training.py --seed 0          (then 1 and 2; each about 25 minutes on one core)

For each seed: the whole ViT; CKA on calibration images and the best path of each effort; the whole ViT and every path
fine-tuned with the same steps, batches and order, distilled from the whole ViT; the path of effort 2 once more, with stem,
embedding and first encoders as they are in the fine-tuned whole ViT, so that this one can resume. Weights are rounded to float16,
with which everything is evaluated and shipped, in `benchmarks/lv_vit/`; figures, seeds and recipes go to `training.json` there.
A killed run goes on where it stopped. Nothing here looks at a test image.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "fmnist_lvvit"
SHIPPED = Path(__file__).parent / "lv_vit"
EFFORTS = (2, 3, 4, 6)
RESUMED_EFFORT = 2
"""Effort of the path that shares its beginning with the whole ViT, up to the first attention that it skips."""
EPOCHS, FINETUNE_EPOCHS, BATCH = 8, 3, 128
LEARNING_RATE, FINETUNE_RATE = 1e-3, 5e-4
CKA_BATCH = 250


def main() -> None:
    """Train one seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", metavar="DIR", help="directory of the full Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where the weights go (default: the shipped ones)")
    parser.add_argument("--work", type=Path, default=Path("runs/lv_vit"), help="checkpoints of a run under way")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)  # two seeds side by side train 1,600 images/s on two cores, one on both 700
    train_seed(options)


def train_seed(options: argparse.Namespace) -> None:
    """All networks of one seed."""
    from search.path_score import best_paths
    from sw.checkpoint import save_json
    from sw.data import load_fashion_mnist
    from sw.finetune import finetune, teacher_answers
    from sw.training import accuracy, evaluate_fp32

    data = load_fashion_mnist(options.data)
    work = options.work / f"seed{options.seed}"
    started, record = time.monotonic(), {}

    def ship(name: str, network: Any, recipe: Any) -> Any:
        network = _rounded(network)
        _save(options.out / f"seed{options.seed}" / f"{name}.safetensors", network)
        record[name] = {
            "kept": sorted(network.kept),
            "accuracy_calibration": accuracy(evaluate_fp32(network, data.calibration), data.calibration),
            "recipe": recipe,
            "wall_s": round(time.monotonic() - started, 1),
        }
        print(f"seed {options.seed}: {name} {record[name]['accuracy_calibration']:.4f}", record[name]["wall_s"], "s", flush=True)
        return network

    base, base_recipe = _whole(data, options.seed, work / "whole")
    base = ship("whole", base, base_recipe)
    redundancy = _redundancy(base, data)
    paths = {path.effort: path.kept for path in best_paths(redundancy)}
    steps = FINETUNE_EPOCHS * (len(data.train) // BATCH)
    recipe = {"steps": steps, "batch": BATCH, "lr": FINETUNE_RATE, "seed": options.seed, "bfloat16": True}

    def tune(name: str, start: Any, kept: Any, teacher: Any, **extra: Any) -> Any:
        tuned = finetune(
            start, kept, data.train, teacher_logits=teacher, progress=_progress(f"seed {options.seed} {name}"),
            state_dir=work / name, **recipe, **extra,
        )  # fmt: skip
        return ship(name, tuned, recipe | extra)

    high = tune("high", base, None, teacher_answers(base, data.train))
    teacher = teacher_answers(high, data.train)
    for effort in EFFORTS:
        tune(f"effort{effort:02d}", base, paths[effort], teacher)
    path = paths[RESUMED_EFFORT]
    shared = next(index for index in range(base.depth) if index not in path)
    tune("resumed", _joined(high, base, shared), path, teacher, frozen=shared)

    file = options.out / "training.json"
    seeds = json.loads(file.read_text()) if file.is_file() else {}
    seeds[f"seed{options.seed}"] = {"data_digest": data.digest, "redundancy": redundancy.tolist(), "networks": record}
    save_json(file, dict(sorted(seeds.items())))


def _whole(data: Any, seed: int, state: Path) -> tuple[Any, dict[str, Any]]:
    """The whole ViT, trained from scratch, and its recipe."""
    from dataclasses import asdict

    from sw.checkpoint import load_run_state, save_run_state
    from sw.network import parse_network, untrained_network
    from sw.objective import Recipe
    from sw.skipping import PathVit
    from sw.training import Trainer

    epoch = len(data.train) // BATCH
    recipe = Recipe(
        steps=EPOCHS * epoch, batch=BATCH, lr=LEARNING_RATE, warmup_steps=epoch, attention_drop=0.6, seed=seed, bfloat16=True
    )
    trainer = Trainer(PathVit(untrained_network(parse_network(MODEL), seed)), data.train, recipe)
    found = load_run_state(state)
    if found is not None:
        trainer.load_state(*found)
    progress = _progress(f"seed {seed} whole")

    def on_step(done: int, loss: float) -> None:
        if done % 200 == 0 or done == recipe.steps:
            save_run_state(state, *trainer.state())
        progress(done, recipe.steps, loss)

    trainer.run(on_step)
    return trainer.network, asdict(recipe)


def _redundancy(network: Any, data: Any) -> np.ndarray:
    """CKA around each encoder's attention, class-token rows, calibration images."""
    from search.cka import cka_matrix
    from sw.data import padded, to_input

    images = to_input(padded(data.calibration.images, network.image_size))
    batches = (network.streams(images[start : start + CKA_BATCH]) for start in range(0, len(images), CKA_BATCH))
    return np.diag(cka_matrix(((a.numpy(), b.numpy()) for a, b in batches), network.depth))


def _joined(first: Any, rest: Any, encoders: int) -> Any:
    """A network with stem, embedding and so many encoders of ``first``, and the others and the head of ``rest``."""
    import copy

    joined = copy.deepcopy(rest)
    begins = ("patch_embed.", "cls_token", "pos_embed", *(f"blocks.{index}." for index in range(encoders)))
    taken = {name: value for name, value in first.vit.state_dict().items() if name.startswith(begins)}
    joined.vit.load_state_dict(joined.vit.state_dict() | taken)
    return joined


def _rounded(network: Any) -> Any:
    """The network with its weights rounded to float16."""
    tensors = network.vit.state_dict().items()
    network.vit.load_state_dict({name: value.half().float() if value.is_floating_point() else value for name, value in tensors})
    return network.eval()


def _save(path: Path, network: Any) -> None:
    from sw.checkpoint import save_tensors

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = network.vit.state_dict().items()
    save_tensors(path, {name: value.half() if value.is_floating_point() else value for name, value in tensors})


def _progress(name: str) -> Any:
    """Prints a line every few hundred steps."""
    started = time.monotonic()

    def report(done: int, steps: int, loss: float) -> None:
        if done % 453 == 0:
            print(f"{name}: {done}/{steps} loss {loss:.3f} {time.monotonic() - started:.0f} s", flush=True)

    return report


if __name__ == "__main__":
    main()

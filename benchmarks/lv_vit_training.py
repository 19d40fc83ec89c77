"""Trains what the PIVOT result is computed from: LV-ViT on full Fashion-MNIST, its efforts, and one that shares a prefix.

    python benchmarks/lv_vit_training.py --seed 0          (then 1 and 2; each about 25 minutes on one core)

For each seed: the whole ViT; CKA on calibration images and the best path of each effort; the whole ViT and every path
fine-tuned with the same steps, batches and order, distilled from the whole ViT; and every path once more with the stem and the
embedding of the fine-tuned whole ViT, frozen, so that in a pair of these the high effort can resume behind the stem. Weights are
rounded to float16, with which everything is evaluated and shipped, in `benchmarks/lv_vit/`; figures, seeds and recipes go to
`training.json` there. What is shipped already is left as it is, and a killed run goes on where it stopped. Nothing here looks at a
test image.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "fmnist_lvvit"
SHIPPED = Path(__file__).parent / "lv_vit"
EFFORTS = (2, 3, 4, 6)
SHARED_EFFORTS = (2, 3, 4, 6, 8)
"""Efforts that share stem and embedding with the whole ViT."""
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
    name_of_seed, file = f"seed{options.seed}", options.out / "training.json"
    work, weights = options.work / name_of_seed, options.out / name_of_seed
    shipped = json.loads(file.read_text()) if file.is_file() else {}
    record = shipped.get(name_of_seed, {}).get("networks", {})

    def ship(name: str, make: Callable[[], Any], recipe: dict[str, Any]) -> Any:
        place = weights / f"{name}.safetensors"
        if place.is_file() and record.get(name, {}).get("recipe") == recipe:
            return _load(place, record[name]["kept"])
        started = time.monotonic()
        network = _rounded(make())
        _save(place, network)
        record[name] = {
            "kept": sorted(network.kept),
            "accuracy_calibration": accuracy(evaluate_fp32(network, data.calibration), data.calibration),
            "recipe": recipe,
            "wall_s": round(time.monotonic() - started, 1),
        }
        print(f"{name_of_seed}: {name} {record[name]['accuracy_calibration']:.4f}", record[name]["wall_s"], "s", flush=True)
        return network

    whole = _recipe_of_the_whole(options.seed, len(data.train) // BATCH)
    base = ship("whole", lambda: _whole(data, whole, work / "whole"), asdict(whole))
    redundancy = _redundancy(base, data)
    paths = {path.effort: path.kept for path in best_paths(redundancy)}
    steps = FINETUNE_EPOCHS * (len(data.train) // BATCH)
    recipe = {"steps": steps, "batch": BATCH, "lr": FINETUNE_RATE, "seed": options.seed, "bfloat16": True}

    def tune(name: str, start: Any, kept: Any, teacher: Any, **extra: Any) -> Any:
        def make() -> Any:
            return finetune(
                start, kept, data.train, teacher_logits=teacher(), progress=_progress(f"{name_of_seed} {name}"),
                state_dir=work / name, **recipe, **extra,
            )  # fmt: skip

        return ship(name, make, recipe | extra)

    high = tune("high", base, None, lambda: teacher_answers(base, data.train))
    teacher = cache(lambda: teacher_answers(high, data.train))
    for effort in EFFORTS:
        tune(f"effort{effort:02d}", base, paths[effort], teacher)
    for effort in SHARED_EFFORTS:
        tune(f"shared{effort:02d}", _with_stem_of(high, base), paths[effort], teacher, frozen=0)

    shipped = json.loads(file.read_text()) if file.is_file() else {}
    shipped[name_of_seed] = {"data_digest": data.digest, "redundancy": redundancy.tolist(), "networks": record}
    save_json(file, dict(sorted(shipped.items())))


def _recipe_of_the_whole(seed: int, epoch: int) -> Any:
    """`sw.objective.Recipe` of the whole ViT, trained from scratch, for so many steps in an epoch."""
    from sw.objective import Recipe

    return Recipe(
        steps=EPOCHS * epoch, batch=BATCH, lr=LEARNING_RATE, warmup_steps=epoch, attention_drop=0.6, seed=seed, bfloat16=True
    )


def _whole(data: Any, recipe: Any, state: Path) -> Any:
    """The whole ViT, trained from scratch."""
    from sw.checkpoint import load_run_state, save_run_state
    from sw.network import parse_network, untrained_network
    from sw.skipping import PathVit
    from sw.training import Trainer

    trainer = Trainer(PathVit(untrained_network(parse_network(MODEL), recipe.seed)), data.train, recipe)
    found = load_run_state(state)
    if found is not None:
        trainer.load_state(*found)
    progress = _progress(f"seed{recipe.seed} whole")

    def on_step(done: int, loss: float) -> None:
        if done % 200 == 0 or done == recipe.steps:
            save_run_state(state, *trainer.state())
        progress(done, recipe.steps, loss)

    trainer.run(on_step)
    return trainer.network


def _redundancy(network: Any, data: Any) -> np.ndarray:
    """CKA around each encoder's attention, class-token rows, calibration images."""
    from search.cka import cka_matrix
    from sw.data import padded, to_input

    images = to_input(padded(data.calibration.images, network.image_size))
    batches = (network.streams(images[start : start + CKA_BATCH]) for start in range(0, len(images), CKA_BATCH))
    return np.diag(cka_matrix(((a.numpy(), b.numpy()) for a, b in batches), network.depth))


def _with_stem_of(first: Any, rest: Any) -> Any:
    """A network with stem and embedding of ``first``, and the encoders and the head of ``rest``."""
    import copy

    joined = copy.deepcopy(rest)
    begins = ("patch_embed.", "cls_token", "pos_embed")
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


def _load(path: Path, kept: Any) -> Any:
    """A network that `_save` wrote: `sw.skipping.PathVit`, fp32, in eval mode."""
    from sw.checkpoint import load_tensors
    from sw.network import parse_network, untrained_network
    from sw.skipping import PathVit

    vit = untrained_network(parse_network(MODEL))
    tensors = load_tensors(path)
    vit.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in tensors.items()})
    return PathVit(vit, kept).eval()


def _progress(name: str) -> Any:
    """Prints a line every few hundred steps."""
    started = time.monotonic()

    def report(done: int, steps: int, loss: float) -> None:
        if done % 453 == 0:
            print(f"{name}: {done}/{steps} loss {loss:.3f} {time.monotonic() - started:.0f} s", flush=True)

    return report


if __name__ == "__main__":
    main()

"""``python -m sw.train``: train a network on Fashion-MNIST.

    python -m sw.train --model fmnist_vit_tiny --epochs 28 --seed 0 --bfloat16 --out runs/train

It prints the calibration accuracy after each epoch for the reader's eyes only: nothing is chosen by it, the last
epoch's weights are the result. ``--resume`` continues the run in ``--out`` from its last checkpoint.
"""

import argparse
import pathlib
import sys
import time
from dataclasses import replace
from typing import Any

from hw.errors import InputError, command
from hw.files import check_directory, write_json
from sw.graph.path import Path, parse_encoders
from sw.networks.options import NetworkOptions, add_network_options


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    result = argparse.ArgumentParser(prog="python -m sw.train", description="Train a ViT on Fashion-MNIST")
    add = result.add_argument
    add("--data", metavar="DIR", help="directory of the idx files, or 'embedded'")
    add("--out", metavar="DIR", type=pathlib.Path, default="runs/train", help="result directory (default %(default)s)")
    add("--epochs", type=int, default=28, help="passes over the training split (default %(default)s)")
    add("--batch", type=int, default=128, help="images per step (default %(default)s)")
    add("--lr", type=float, default=1e-3, help="peak learning rate (default %(default)s)")
    add("--weight-decay", type=float, default=0.05, help="of matrices (default %(default)s)")
    add("--label-smoothing", type=float, default=0.05, help="of the cross-entropy (default %(default)s)")
    add("--attention-drop", type=float, default=0.6, help="most that attentions skip, in half the steps (%(default)s)")
    add("--kept", metavar="0,1,5", help="path to train: the encoders whose attention is kept (default all)")
    add("--path", metavar="KIND,...", help="the kinds of all encoders, in place of --kept")
    add("--teacher", metavar="NAME|FILE", help="checkpoint to distil from: a name, or a file of --model's shape")
    add("--distill-weight", type=float, help="share of the distillation (default 0.5 with a teacher, else 0)")
    add("--entropy-weight", type=float, default=0.0, help="of the entropy of correct answers (default %(default)s)")
    add("--quantization-aware", action="store_true", help="compute with the machine's roundings, from --init on, in float32")
    add("--bfloat16", action="store_true", help="compute under bfloat16 autocast")
    add("--threads", type=int, default=2, help="threads; results depend on it in the last bits (default %(default)s)")
    add("--save-every", type=int, default=100, metavar="STEPS", help="checkpoint interval (default %(default)s)")
    add("--resume", action="store_true", help="continue the run in --out")
    add_network_options(result, weights="--init")
    return result


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = parser().parse_args(arguments)
    try:
        train(options)
    except KeyboardInterrupt:
        print(f"note: continue with --resume --out {options.out}", file=sys.stderr)
        raise
    return 0


def train(options: argparse.Namespace) -> None:
    """Train as the command's options say; write ``model.safetensors``, ``config.json`` and ``log.jsonl``."""
    _check(options)
    check_directory(options.out)
    import torch

    from sw.data.fashion_mnist import load_fashion_mnist
    from sw.networks.checkpoint import load_run_state, save_run_state, save_tensors
    from sw.training.trainer import Trainer, accuracy, evaluate_fp32

    torch.set_num_threads(options.threads)
    data = load_fashion_mnist(options.data)
    network, teacher = _networks(options)
    path = network.path
    if options.kept is not None:
        path = Path.keeping(parse_encoders(options.kept, network.depth, "--kept"), network.depth)
    if options.path is not None:
        path = Path.parse(options.path, network.depth, "--path")
    epoch_steps = len(data.train) // options.batch
    if not epoch_steps:
        raise InputError(f"--batch must be at most the {len(data.train)} training images, not {options.batch}")
    trainer = Trainer(network, data.train, _recipe(options, epoch_steps), path=path, teacher=teacher)
    run = {"model": options.model, "data_digest": data.digest, "threads": options.threads}
    history, spent = _begin(options, trainer, run, load_run_state)
    started = time.monotonic() - spent

    def save() -> None:
        tensors, values = trainer.state()
        values |= {"run": run, "history": history, "wall_s": time.monotonic() - started}
        save_run_state(options.out, tensors, values)

    with _progress() as progress:
        bar = progress.add_task("training", total=trainer.recipe.steps, completed=trainer.step_index)

        def on_step(done: int, loss: float) -> None:
            progress.update(bar, completed=done, description=f"loss {loss:.3f}")
            if done % epoch_steps == 0:
                correct = accuracy(evaluate_fp32(network, data.calibration, path), data.calibration)
                entry = {"epoch": done // epoch_steps, "loss": loss, "calibration_accuracy": correct}
                history.append(entry | {"wall_s": round(time.monotonic() - started, 1)})
                progress.console.print(
                    f"epoch {entry['epoch']:3d}  loss {loss:.4f}  calibration {correct:.4f}  "
                    f"{time.monotonic() - started:6.0f} s"
                )
            if done % options.save_every == 0 or done == trainer.recipe.steps:
                save()

        trainer.run(on_step)
    results = {
        split.name: {"images": len(split), "accuracy": accuracy(evaluate_fp32(network, split, path), split)}
        for split in (data.calibration, data.test, data.test_all)
    }
    save_tensors(options.out / "model.safetensors", network.vit.state_dict())
    config = {
        "format": "pivot-checkpoint-2",
        "model": options.model,
        "kinds": list(path.kinds),
        "recipe": trainer.state()[1]["recipe"],
        "threads": options.threads,
        "data_digest": data.digest,
        "fp32": results,
    }
    write_json(options.out / "config.json", config)
    write_json(options.out / "history.json", history)
    for name, result in results.items():
        print(f"{name}: {result['accuracy']:.4f} of {result['images']} images")


def _check(options: argparse.Namespace) -> None:
    for name in ("epochs", "batch", "threads", "save_every"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(options, name)}")
    if options.kept is not None and options.path is not None:
        raise InputError("--path takes the place of --kept: only one of them may be given")
    if options.distill_weight and not options.teacher:
        raise InputError("--distill-weight needs --teacher")
    if options.quantization_aware and options.weights is None:
        raise InputError("--quantization-aware needs --init: scales are chosen for a trained network")


def _networks(options: argparse.Namespace) -> tuple[Any, Any]:
    from sw.data.idx import CLASSES, IMAGE_SIDE
    from sw.graph.path_vit import PathVit
    from sw.networks.network import build_network, untrained_network

    chosen = NetworkOptions.of(options)
    spec = chosen.spec
    if (spec.image_size, spec.channels, spec.classes) != ((IMAGE_SIDE, IMAGE_SIDE), 1, CLASSES):
        raise InputError(
            f"--model must take 28x28x1 images and answer {CLASSES} classes, not {spec.image_size}, "
            f"{spec.channels} channels and {spec.classes} classes"
        )
    vit = untrained_network(spec, options.seed) if chosen.weights is None else chosen.build()
    if not options.teacher:
        return PathVit(vit), None
    if pathlib.Path(options.teacher).is_file():
        return PathVit(vit), PathVit(replace(chosen, weights=options.teacher).build())
    return PathVit(vit), PathVit(build_network(options.teacher))


def _recipe(options: argparse.Namespace, epoch_steps: int) -> Any:
    from sw.training.recipe import Recipe

    steps = options.epochs * epoch_steps
    distill_weight = options.distill_weight
    if distill_weight is None:
        distill_weight = 0.5 if options.teacher else 0.0
    return Recipe(
        steps=steps,
        batch=options.batch,
        lr=options.lr,
        warmup_steps=min(2 * epoch_steps, steps // 10),
        weight_decay=options.weight_decay,
        label_smoothing=options.label_smoothing,
        distill_weight=distill_weight,
        entropy_weight=options.entropy_weight,
        attention_drop=options.attention_drop,
        seed=options.seed,
        bfloat16=options.bfloat16,
        quantization_aware=options.quantization_aware,
    )


def _begin(options: argparse.Namespace, trainer: Any, run: dict, load_run_state: Any) -> tuple[list[dict], float]:
    """Continue or start the run; return the history so far and the seconds already spent."""
    found = load_run_state(options.out)
    if not options.resume:
        if found is not None:
            raise InputError(f"--out {options.out} holds a run; continue it with --resume or name another directory")
        return [], 0.0
    if found is None:
        raise InputError(f"--resume needs a checkpoint in --out {options.out}")
    tensors, values = found
    if values.get("run") != run:
        raise InputError(f"--resume needs the same model, data and threads as the run in {options.out}")
    trainer.load_state(tensors, values)
    return list(values.get("history", [])), float(values.get("wall_s", 0.0))


def _progress() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


if __name__ == "__main__":
    sys.exit(main())

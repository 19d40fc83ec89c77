"""Answer images with a gated pair: ``python -m sw.infer --pair runs/<name> IMAGE...``, or ``--split test --count 500``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.errors import InputError, command
from hw.files import check_writable, write_json
from hw.progress import progress, stage

if TYPE_CHECKING:
    import numpy as np

    from sw.gated.inference import Answers
    from sw.gated.pair import Pair
    from sw.networks.spec import NetworkSpec

DEVICES = ("golden", "rtl", "torch")
SPLITS = ("calibration", "test")
_LISTED = 20
"""Most images that the table lists one by one."""
_BEST = 5


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sw.infer", description="Answer images with a gated pair of networks.")
    add = parser.add_argument
    add("images", nargs="*", type=Path, metavar="IMAGE", help="picture files of any size; JPEG, PNG, ...")
    add("--pair", type=Path, required=True, metavar="DIR", help="what search.cosearch wrote, such as runs/fmnist_vit_tiny-nano")
    add(
        "--device", default="golden",
        help="golden: the machine's integer model; rtl: the simulated machine; torch: float32 here (default: %(default)s)",
    )  # fmt: skip
    add("--split", metavar="NAME", help="images of the data set in place of files: test or calibration")
    add("--count", type=int, metavar="N", help="images of the split (default: all)")
    add("--data", metavar="DIR", help="Fashion-MNIST files, or images by class; shipped ones by default where there are some")
    add("--batch", type=int, default=64, metavar="N", help="images of a pass of torch (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write every answer there")
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Answer what the options say.

    Returns:
        ``model``, ``preset``, ``device``, ``threshold_nats``, ``guarantee`` (fields of `sw.gated.pair.Guarantee`), ``wall_s``,
        ``f_low``, ``delay_ms`` and ``energy_mj`` (means), ``accuracy`` (None without labels) and ``images``: per image its
        ``name``, ``label`` (None without), ``exit``, ``entropy_nats`` and ``entropy_share`` (of ln(classes)) of the first answer,
        ``top5`` (each ``class``, ``name``, ``probability``), ``delay_ms`` and ``energy_mj``.

    Raises:
        InputError: for bad options or files.
    """
    _check(options)
    from sw.data.image_folder import class_names
    from sw.gated.pair import Pair

    pair = Pair.load(options.pair)
    spec = pair.spec
    with stage("images"):
        pixels, names, labels, folders = _pictures(options, spec)
    with stage(f"answers of {options.device} for {len(pixels)} images"):
        answers = _answer(options, pair, pixels)
    known = class_names(spec) or folders
    order, probability = answers.best(min(_BEST, answers.logits.shape[1]))
    images = []
    for index, name in enumerate(names):
        best = [
            {"class": int(number), "name": known[number] if known else None, "probability": float(share)}
            for number, share in zip(order[index], probability[index], strict=True)
        ]
        images.append(
            {
                "name": name,
                "label": None if labels is None else int(labels[index]),
                "exit": "low" if answers.exits_low[index] else "high",
                "entropy_nats": float(answers.gate_entropy[index]),
                "entropy_share": float(answers.entropy_share[index]),
                "top5": best,
                "delay_ms": float(answers.delay_ms[index]),
                "energy_mj": float(answers.energy_mj[index]),
            }
        )
    return {
        "model": pair.model,
        "preset": pair.preset,
        "device": options.device,
        "threshold_nats": pair.threshold_nats,
        "guarantee": vars(pair.guarantee),
        "wall_s": answers.wall_s,
        "f_low": float(answers.exits_low.mean()),
        "delay_ms": float(answers.delay_ms.mean()),
        "energy_mj": float(answers.energy_mj.mean()),
        "accuracy": None if labels is None else float((answers.top1 == labels).mean()),
        "images": images,
    }


def _check(options: argparse.Namespace) -> None:
    if options.device not in DEVICES:
        raise InputError(f"--device must be one of {', '.join(DEVICES)}, not {options.device!r}")
    if bool(options.images) == bool(options.split):
        raise InputError("Images must be named as files or by --split, one of the two")
    if options.split and options.split not in SPLITS:
        raise InputError(f"--split must be one of {', '.join(SPLITS)}, not {options.split!r}")
    if options.count is not None and not options.split:
        raise InputError("--count takes --split, whose images it counts")
    if options.batch < 1:
        raise InputError(f"--batch must be at least 1, not {options.batch}")


def _pictures(
    options: argparse.Namespace, spec: "NetworkSpec"
) -> "tuple[np.ndarray, list[str], np.ndarray | None, tuple[str, ...] | None]":
    """(uint8 images [n, height, width, channels], their names, labels or None, names of the data set's classes or None)."""
    import numpy as np

    from sw.data.image_folder import load_data
    from sw.data.picture import picture_format

    if options.images:
        reader = picture_format(spec)
        return np.stack([reader.read(path) for path in options.images]), [str(path) for path in options.images], None, None
    data = load_data(options.data, spec)
    split = data.calibration if options.split == "calibration" else data.test_all
    taken = split.take(len(split) if options.count is None else options.count)
    return taken.images, [f"{taken.name} {index}" for index in taken.indices], taken.labels, data.class_names


def _answer(options: argparse.Namespace, pair: "Pair", pixels: "np.ndarray") -> "Answers":
    from hw.device import open_device
    from sw.data.pixels import fitted, to_input, to_pixels
    from sw.gated.inference import infer, infer_torch

    network = pair.integer[0]
    images = fitted(pixels, (network.channels, *network.image_size))
    if options.device == "torch":
        return infer_torch(pair, to_input(images), options.batch)
    return infer(pair, to_pixels(images), open_device(options.device, pair.config))


def _print_tables(fields: dict[str, Any]) -> None:
    from hw.tables import terminal, text_table

    console, images = terminal(), fields["images"]
    table = text_table(
        "image", "exit", "first entropy", "answers", "delay, energy",
        title=f"{fields['model']} on {fields['device']} ({fields['preset']})", words=5, unbroken=(2, 4),
    )  # fmt: skip
    for image in images[:_LISTED]:
        best = image["top5"] if image["label"] is None else image["top5"][:1]
        table.add_row(
            image["name"], image["exit"],
            f"{image['entropy_nats']:.4f} nat\n{100 * image['entropy_share']:.1f} % of ln(classes)",
            "\n".join(f"{part['name'] or part['class']} {100 * part['probability']:.1f} %" for part in best),
            f"{image['delay_ms']:.4f} ms\n{image['energy_mj']:.4f} mJ",
        )  # fmt: skip
    if len(images) > _LISTED:
        table.add_row(f"and {len(images) - _LISTED} more")
    console.print(table)
    accuracy = "" if fields["accuracy"] is None else f"accuracy {fields['accuracy']:.4f}, "
    console.print(
        f"{len(images)} images in {fields['wall_s']:.2f} s: {accuracy}F_low {fields['f_low']:.4f}, mean delay "
        f"{fields['delay_ms']:.4f} ms, mean energy {fields['energy_mj']:.4f} mJ",
        soft_wrap=True,
    )
    from sw.gated.pair import Guarantee

    guarantee = Guarantee(**fields["guarantee"])
    console.print(f"Threshold {fields['threshold_nats']:.4f} nat keeps, {guarantee}", soft_wrap=True)


@command(RuntimeError)
def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m sw.infer``; return the exit code."""
    options = _parser().parse_args(arguments)
    check_writable(options.json, inputs=(*options.images, options.pair, options.data))
    with progress():
        fields = run(options)
    _print_tables(fields)
    if options.json:
        write_json(options.json, fields)
    return 0


if __name__ == "__main__":
    sys.exit(main())

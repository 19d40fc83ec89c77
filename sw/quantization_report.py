"""``python -m sw.quantization_report``: which tensors int8 costs most, as a table; `sw.quantization.tensor_noise` measures.

python -m sw.quantization_report --model fmnist_vit_tiny [--weights FILE] [--scales percentile] [--json FILE]
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hw.errors import InputError, command
from hw.files import check_writable, write_json
from hw.progress import progress, stage
from sw.data.pixels import CALIBRATION_IMAGES, fitted, padded, random_pixels, to_input, to_pixels
from sw.networks.options import NetworkOptions, add_network_options
from sw.quantization.options import METHODS, MSE, Options


def _images(spec: Any, count: int, seed: int, data: str | None) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images to calibrate on and others to measure on; calibration images of Fashion-MNIST, or random ones."""
    if spec.name.startswith("fmnist"):
        from sw.data.fashion_mnist import load_fashion_mnist

        images = padded(load_fashion_mnist(data).calibration.images, spec.image_size)
        if count > len(images) - CALIBRATION_IMAGES:
            raise InputError(f"--images must be at most {len(images) - CALIBRATION_IMAGES}, not {count}")
        return images[:CALIBRATION_IMAGES], images[CALIBRATION_IMAGES : CALIBRATION_IMAGES + count]
    return random_pixels(spec, count, seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sw.quantization_report", description="Signal to noise of every tensor of the int8 network, in dB."
    )
    parser.add_argument("--images", type=int, default=64, metavar="N", help="images to measure on (default: %(default)s)")
    parser.add_argument("--scales", default=MSE, help=f"how scales are chosen: {', '.join(METHODS)} (default: %(default)s)")
    parser.add_argument("--bias-correction", action="store_true", help="let the biases take up mean errors")
    parser.add_argument("--data", metavar="DIR", help="Fashion-MNIST files; the shipped subset by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    add_network_options(parser)
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The report that the options ask for, as it is written to --json.

    Raises:
        InputError: for bad options.
    """
    from sw.importing import import_network, module_image_shape
    from sw.quantization.tensor_noise import report, worst

    if options.images < 1:
        raise InputError(f"--images must be at least 1, not {options.images}")
    quantization = Options(options.scales, options.bias_correction)
    chosen = NetworkOptions.of(options)
    with stage("weights"):
        module = chosen.build()
        network = import_network(module)
    calibration, images = _images(chosen.spec, options.images, options.seed, options.data)
    calibration, images = (fitted(part, module_image_shape(module)) for part in (calibration, images))
    with stage(f"noise of every tensor on {len(images)} images"):
        noises = report(network, to_input(calibration), to_pixels(images), quantization)
    return {
        "model": options.model,
        "images": len(images),
        "scales": quantization.scales,
        "bias_correction": quantization.correct_bias,
        "logits_sqnr_db": noises[-1].sqnr_db,
        "worst": worst(noises).name,
        "tensors": [asdict(noise) for noise in noises],
    }


def _print_table(fields: dict[str, Any]) -> None:
    from hw.tables import terminal, text_table

    table = text_table(
        "tensor", "from the image on (dB)", "of its own (dB)",
        title=f"Signal to quantization noise of {fields['model']} on {fields['images']} images",
    )  # fmt: skip
    for tensor in fields["tensors"]:
        style = "bold" if tensor["name"] == fields["worst"] else None
        table.add_row(tensor["name"], f"{tensor['sqnr_db']:.1f}", f"{tensor['own_db']:.1f}", style=style)
    terminal().print(table)
    print(f"The worst layer is {fields['worst']}; the logits have {fields['logits_sqnr_db']:.2f} dB.")


@command()
def main(arguments: list[str] | None = None) -> int:
    """``python -m sw.quantization_report``.

    Returns:
        0; 2 for bad input.
    """
    options = _parser().parse_args(arguments)
    check_writable(options.json, inputs=(options.weights, options.data))
    with progress():
        fields = run(options)
    _print_table(fields)
    if options.json:
        write_json(options.json, fields)
    return 0


if __name__ == "__main__":
    sys.exit(main())

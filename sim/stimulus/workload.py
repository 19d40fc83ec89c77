"""What a measurement runs: a network by name, quantized and compiled, with images and its float logits on them."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.program import Program
from sw.data.pixels import CALIBRATION_IMAGES, fitted, random_pixels, to_input, to_pixels
from sw.graph.integer_network import IntegerNetwork
from sw.graph.path import Path, parse_encoders
from sw.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Workload:
    """A compiled network and its images.

    Attributes:
        model: The network's name.
        path: What every encoder does.
        program: All attentions compiled in that a path mask can choose; its path masks are the path's.
        images: int8 [n, height, width, channels], pixel - 128.
        float_logits: float32 [n, classes], the unquantized network's on the same path, in nats.
        data: Where the images come from: ``embedded``, a directory or ``random``.
    """

    model: str
    path: Path
    program: Program
    images: np.ndarray
    float_logits: np.ndarray
    data: str


def _pixels(spec: NetworkSpec, count: int, seed: int, data: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    """(calibration, test, source) as uint8 images [n, height, width, channels] of at most the network's size; random ones
    where it has no data."""
    from sw.data.fashion_mnist import takes_fashion_mnist

    if data is not None or takes_fashion_mnist(spec):
        from sw.data.image_folder import load_data

        splits = load_data(data, spec)
        calibration = splits.calibration.take(min(CALIBRATION_IMAGES, len(splits.calibration)))
        return calibration.images, splits.test_all.take(count).images, splits.source
    return *random_pixels(spec, count, seed), "random"


def _quantize(
    spec: NetworkSpec, weights: str | None, seed: int, data: str | None, image_size: tuple[int, int] | None, path: Path
) -> "tuple[nn.Module, IntegerNetwork]":
    """(float network, integer network) of the path, calibrated on its data."""
    from sw.importing import module_image_shape
    from sw.networks.network import build_network
    from sw.quantization.quantize import quantize

    network = build_network(spec.name, weights, seed, image_size)
    calibration, _, _ = _pixels(spec, 1, seed, data)
    return network, quantize(network, to_input(fitted(calibration, module_image_shape(network))), path)


_quantize_once = lru_cache(maxsize=4)(_quantize)
"""For networks on many machines; of nothing that is in files of the user's, as those may change meanwhile."""


def prepare(
    model: str,
    config: AcceleratorConfig,
    *,
    images: int,
    skip: str | None = None,
    path: str | None = None,
    weights: str | None = None,
    seed: int = 0,
    data: str | None = None,
    loop_order: str = "auto",
    image_size: tuple[int, int] | None = None,
) -> Workload:
    """Build, quantize and compile a network, and take its images.

    Args:
        model: A checkpoint, timm or ``vit:...`` name.
        config: The machine.
        images: Test images.
        skip: Encoders whose attention is skipped, as ``2,5,8``.
        path: The kinds of all encoders in place of `skip`, as ``full,mlp,full``.
        weights: ``random``, ``pretrained`` or a file; None for a checkpoint's own, and random ones for ``vit:...``.
        seed: Of random weights and images.
        data: Directory of Fashion-MNIST or of images by class; see `sw.data.image_folder.load_data`.
        loop_order: Of all GEMMs; see `sw.compiler.loop_order`.
        image_size: Height and width in place of a timm model's own.

    Raises:
        InputError: For a bad name, index, file or count, and for a network that does not fit the machine.
    """
    import torch

    from sw.compiler.loop_order import checked_order
    from sw.compiler.memory_map import checked_layout
    from sw.compiler.programs import compile_network
    from sw.graph.path_vit import PathVit
    from sw.importing import module_image_shape
    from sw.networks.network import RANDOM, parse_network

    if images < 1:
        raise InputError(f"--images must be at least 1, not {images}")
    spec = parse_network(model, image_size)
    if skip is not None and path is not None:
        raise InputError("--path takes the place of --skip: only one of them may be given")
    if path is not None:
        chosen = Path.parse(path, spec.depth, "--path")
    else:
        chosen = Path.skipping(parse_encoders(skip, spec.depth, "--skip"), spec.depth)
    checked_layout(spec, config)  # before the slow part
    checked_order(loop_order)
    weights = RANDOM if weights is None and model.startswith("vit:") else weights
    make = _quantize_once if data is None and weights in (None, RANDOM) else _quantize
    network, integer = make(spec, weights, seed, data, image_size, chosen.at_most())
    program = compile_network(integer, config, path=chosen, loop_order=loop_order)
    _, test, source = _pixels(spec, images, seed, data)
    test = fitted(test, module_image_shape(network))
    with torch.no_grad():
        logits = PathVit(network, chosen).eval()(to_input(test)).numpy()
    return Workload(model, chosen, program, to_pixels(test), logits, source)

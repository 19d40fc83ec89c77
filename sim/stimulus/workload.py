"""What a measurement runs: a network by name, quantized and compiled, with images and its float logits on them."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.program import Program
from hw.progress import stage
from sim.program_counts import count_program
from sw.data.pixels import CALIBRATION_IMAGES, fitted, random_pixels, to_input, to_pixels
from sw.graph.integer_network import IntegerNetwork
from sw.graph.path import Path, parse_encoders
from sw.networks.options import NetworkOptions
from sw.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import nn

_MOST_IMAGES = 32
_MACS = 1 << 30
"""Of all images together."""


@dataclass(frozen=True)
class Workload:
    """A compiled network and its images.

    Attributes:
        model: The network's name.
        path: What every encoder does.
        program: All attentions compiled in that a path mask can choose; its path masks are the path's.
        images: int8 [n, height, width, channels], pixel - 128.
        float_logits: float32 [n, classes], the unquantized network's on the same path, in nats.
        data: Where the images come from: ``embedded``, a directory or ``random``; ``shape alone`` where there are none.
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


def _quantize(network: NetworkOptions, data: str | None, path: Path) -> "tuple[nn.Module, IntegerNetwork]":
    """(float network, integer network) of the path, calibrated on its data."""
    from sw.importing import module_image_shape
    from sw.quantization.quantize import quantize

    with stage("weights"):
        module = network.build()
    calibration, _, _ = _pixels(network.spec, 1, network.seed, data)
    with stage(f"calibration on {len(calibration)} images"):
        return module, quantize(module, to_input(fitted(calibration, module_image_shape(module))), path)


_quantize_once = lru_cache(maxsize=4)(_quantize)
"""For networks on many machines; of nothing that is in files of the user's, as those may change meanwhile."""


def _checked(
    network: NetworkOptions, config: AcceleratorConfig, skip: str | None, path: str | None, loop_order: str
) -> tuple[NetworkSpec, Path]:
    """Shape and path of a network that fits the machine, before the slow part; errors are those of `prepare`."""
    from sw.compiler.loop_order import checked_order
    from sw.compiler.memory_map import checked_layout

    with stage("shape"):
        spec = network.spec
    if skip is not None and path is not None:
        raise InputError("--path takes the place of --skip: only one of them may be given")
    if path is not None:
        chosen = Path.parse(path, spec.depth, "--path")
    else:
        chosen = Path.skipping(parse_encoders(skip, spec.depth, "--skip"), spec.depth)
    checked_layout(spec, config)
    checked_order(loop_order)
    return spec, chosen


def prepare(
    network: NetworkOptions | str,
    config: AcceleratorConfig,
    *,
    images: int | None = None,
    skip: str | None = None,
    path: str | None = None,
    data: str | None = None,
    loop_order: str = "auto",
) -> Workload:
    """Build, quantize and compile a network, and take its images.

    Args:
        network: Which, or its name.
        config: The machine.
        images: Test images; None for `default_images` of the network.
        skip: Encoders whose attention is skipped, as ``2,5,8``.
        path: The kinds of all encoders in place of `skip`, as ``full,mlp,full``.
        data: Directory of Fashion-MNIST or of images by class; see `sw.data.image_folder.load_data`.
        loop_order: Of all GEMMs; see `sw.compiler.loop_order`.

    Raises:
        InputError: For a bad name, index, file or count, and for a network that does not fit the machine.
    """
    import torch

    from sw.compiler.programs import compile_network
    from sw.graph.path_vit import PathVit
    from sw.importing import module_image_shape

    network = NetworkOptions(network) if isinstance(network, str) else network
    if images is not None and images < 1:
        raise InputError(f"--images must be at least 1, not {images}")
    spec, chosen = _checked(network, config, skip, path, loop_order)
    make = _quantize_once if data is None and not network.uses_files else _quantize
    module, integer = make(network, data, chosen.at_most())
    with stage("compilation"):
        program = compile_network(integer, config, path=chosen, loop_order=loop_order)
    _, test, source = _pixels(spec, images or default_images(program), network.seed, data)
    test = fitted(test, module_image_shape(module))
    with torch.no_grad(), stage(f"{len(test)} images in float"):
        logits = PathVit(module, chosen).eval()(to_input(test)).numpy()
    return Workload(network.model, chosen, program, to_pixels(test), logits, source)


def prepare_shape(
    network: NetworkOptions | str,
    config: AcceleratorConfig,
    *,
    skip: str | None = None,
    path: str | None = None,
    loop_order: str = "auto",
) -> Workload:
    """Compile a network of a shape alone, for cycles: no weights are made, no images taken, and its logits mean nothing.

    Arguments and errors are those of `prepare`; of the weights it counts whether a normalisation gives the images a channel more.
    """
    from sw.compiler.programs import compile_network
    from sw.networks.shape import shape_network

    network = NetworkOptions(network) if isinstance(network, str) else network
    spec, chosen = _checked(network, config, skip, path, loop_order)
    with stage("compilation"):
        integer = shape_network(network.machine_spec, chosen.at_most())
        program = compile_network(integer, config, path=chosen, loop_order=loop_order)
    none = np.zeros((0, *integer.image_size, integer.channels), np.int8)
    return Workload(network.model, chosen, program, none, np.zeros((0, spec.classes), np.float32), "shape alone")


def default_images(program: Program) -> int:
    """Images that simulate in RTL within a minute or so: 32 of a small network, one of a large one."""
    return max(1, min(_MOST_IMAGES, _MACS // count_program(program).macs))

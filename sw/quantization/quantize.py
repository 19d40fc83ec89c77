"""Post-training int8 quantization of a plain ViT to the integer network that the accelerator computes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hw import numerics
from sw.graph.float_network import FloatNetwork
from sw.graph.integer_network import IntegerEncoder, IntegerNetwork
from sw.graph.path import Path, path_or_full
from sw.graph.shared import shared_encoders
from sw.quantization.calibration import calibrate
from sw.quantization.integer_branches import INTEGER_BRANCH, integer_stem
from sw.quantization.integer_layers import integer_linear, integer_norm
from sw.quantization.options import Options
from sw.quantization.scales import Calibration, centred

if TYPE_CHECKING:
    from torch import Tensor, nn

RESIDUAL_HEADROOM = 2.0
"""Range of the residual stream over its greatest magnitude in calibration, which skipping may exceed."""


def quantize(
    network: "nn.Module", calibration_inputs: "Tensor", path: Path | None = None, options: Options | None = None
) -> IntegerNetwork:
    """Quantize a network on calibration images.

    Args:
        network: a plain ViT (see `sw.importing`), or a `sw.graph.path_vit.PathVit`, whose own path counts where `path` is None.
        calibration_inputs: float32 tensor [n, channels, height, width] of `sw.data.pixels.to_input`; a few hundred images
            do. They are the size of the images that the network takes.
        path: whose branches the integer network has; others are left out of it, for a path that was fine-tuned. None
            holds all of them, so that any path can be chosen at run time, at the scales of the whole network.
        options: how; None for the defaults.

    Raises:
        QuantizationError: a number does not fit, such as weights that are not finite.
        InputError: the path is of another depth.
    """
    imported, path = _float_path(network, calibration_inputs, path)
    options = options or Options()
    calibration = calibrate(imported, calibration_inputs, path, options.scales)
    return quantize_calibrated(imported, calibration, correct_bias=options.correct_bias)


def quantize_jointly(
    networks: "Sequence[nn.Module]", calibration_inputs: "Tensor", options: Options | None = None
) -> tuple[IntegerNetwork, ...]:
    """Quantize networks so that what their beginnings share with the last one's is the same in integers, too.

    The first encoders that are equal in float and run the same branches get the scales that the last network's calibration
    finds, and all residual streams one scale, the greatest. So the compiler can let the high effort of any pair of them resume.

    Args:
        networks: each as `network` of `quantize`; a `sw.graph.path_vit.PathVit` for a path. Of a pair, the high effort comes last.
        calibration_inputs: as for `quantize`.
        options: as for `quantize`.

    Returns:
        The integer networks, in the same order.

    Raises:
        QuantizationError: a number does not fit.
        InputError: a network is not a plain ViT.
    """
    imported, paths = zip(*(_float_path(network, calibration_inputs, None) for network in networks), strict=True)
    options = options or Options()
    alone = [calibrate(network, calibration_inputs, path, options.scales) for network, path in zip(imported, paths, strict=True)]
    calibrations = [
        _sharing(calibration, alone[-1], shared_encoders(network, imported[-1], path, paths[-1]))
        for network, path, calibration in zip(imported, paths, alone, strict=True)
    ]
    scale = max(residual_scale(*each) for each in zip(imported, calibrations, strict=True))
    return tuple(
        quantize_calibrated(network, each, scale, correct_bias=options.correct_bias)
        for network, each in zip(imported, calibrations, strict=True)
    )


def _sharing(calibration: Calibration, other: Calibration, encoders: int | None) -> Calibration:
    """A calibration with stem, embedding and so many first encoders of another; None shares nothing."""
    if encoders is None:
        return calibration
    return replace(
        calibration,
        stem=other.stem,
        patch_means=other.patch_means,
        encoders=other.encoders[:encoders] + calibration.encoders[encoders:],
    )


def _float_path(network: "nn.Module", inputs: "Tensor", path: Path | None) -> tuple[FloatNetwork, Path]:
    """A network of such inputs as a float network, and the path that counts."""
    from sw.graph.path_vit import PathVit
    from sw.importing import import_network

    if isinstance(network, PathVit):
        path = path or network.path
        network = network.vit
    channels, height, width = inputs.shape[1:]
    imported = import_network(network, (channels, height, width))
    return imported, path_or_full(path, imported.depth)


def quantize_calibrated(
    network: FloatNetwork, calibration: Calibration, residual: float | None = None, *, correct_bias: bool = False
) -> IntegerNetwork:
    """Quantize a float network with the scales of a calibration.

    Args:
        network: the float network.
        calibration: of it.
        residual: scale of the residual stream, at least `residual_scale`; that one where None.
        correct_bias: as `sw.quantization.options.Options` has it.

    Raises:
        QuantizationError: a number does not fit.
    """
    if not correct_bias:
        calibration = calibration.without_means()
    network = centred(network, calibration)
    dim = network.embedding.weight.shape[0]
    residual = residual_scale(network, calibration) if residual is None else residual
    stem, input_scale, zero_point = integer_stem(network, calibration)
    embedding = integer_linear("embedding", network.embedding, input_scale, residual, zero_point, calibration.patch_means)
    # Prefix tokens' patch rows stand for zeros, to which the embedding GEMM adds its requantized bias; every other token keeps it.
    initial = np.rint(network.positions.numpy().astype(np.float64) / residual)
    prefix = slice(network.prefix_tokens)
    zeros = zero_point * embedding.weights.astype(np.int64).sum(1)
    initial[prefix] -= numerics.requantize(zeros, embedding.bias, embedding.multiplier, embedding.shift, 16)
    encoders = (
        IntegerEncoder(
            tuple(
                INTEGER_BRANCH[branch.kind](f"encoder{index}", branch, scales, residual, network.heads)
                for branch, scales in zip(encoder.branches, branch_scales, strict=True)
                if scales is not None
            )
        )
        for index, (encoder, branch_scales) in enumerate(zip(network.encoders, calibration.encoders, strict=True))
    )
    return IntegerNetwork(
        image_size=network.image_size,
        channels=network.channels,
        patch_size=network.patch_size,
        heads=network.heads,
        residual_scale=residual,
        embedding=embedding,
        initial_residual=numerics.saturate(initial, numerics.RESIDUAL_WIDTH).astype(np.int16),
        encoders=tuple(encoders),
        final_norm=integer_norm("norm", dim, calibration.final_norm, residual, network.epsilon),
        head=integer_linear(
            "head", network.head, calibration.final_norm, 1 / numerics.UNITS_PER_NAT, means=calibration.head_means
        ),
        prefix_tokens=network.prefix_tokens,
        head_tokens=network.head_tokens,
        stem=stem,
    )


def logits_sqnr_db(reference: np.ndarray, integer_logits: np.ndarray) -> float:
    """Signal to quantization noise of logits in dB; infinite where they are equal.

    Args:
        reference: float logits [n, classes] in nats.
        integer_logits: the machine's [n, classes] in 2^-12 nat.
    """
    reference = np.asarray(reference, dtype=np.float64)
    noise = np.square(reference - np.asarray(integer_logits, dtype=np.float64) / numerics.UNITS_PER_NAT).sum()
    return float("inf") if noise == 0 else float(10 * np.log10(np.square(reference).sum() / noise))


def residual_scale(network: FloatNetwork, calibration: Calibration) -> float:
    """Least scale of the residual stream that leaves it `RESIDUAL_HEADROOM`."""
    greatest = (1 << (numerics.RESIDUAL_WIDTH - 1)) - 1
    # The epsilon field has 32 bits.
    dim = network.embedding.weight.shape[0]
    epsilons = [network.epsilon, *(branch.epsilon for encoder in network.encoders for branch in encoder.branches)]
    smallest = dim * max(epsilons) ** 0.5 / 2.0**15.9
    return max(calibration.residual_peak * RESIDUAL_HEADROOM / greatest, smallest)

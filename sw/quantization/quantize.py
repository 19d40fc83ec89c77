"""Post-training int8 quantization of a plain ViT to the integer network that the accelerator computes."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from hw import numerics
from hw.config import TABLE_ENTRIES
from hw.errors import InputError
from hw.row.table import exp_table
from sw.graph.float_network import FloatLinear, FoldedEncoder, FoldedNetwork, fold_network
from sw.graph.integer_network import (
    IntegerAttention,
    IntegerConvolution,
    IntegerEncoder,
    IntegerLinear,
    IntegerMlp,
    IntegerNetwork,
    IntegerNorm,
)
from sw.graph.path import Path, path_or_full
from sw.quantization.calibration import ActivationScales, AttentionScales, Calibration, InputMeans, MlpScales, Options, calibrate

IMAGE_SCALE = 1 / 128
"""Real value of one step of an int8 pixel."""
LOGIT_SCALE = 2.0**-numerics.ENTROPY_FRACTION
"""Nats per step of a logit."""
RESIDUAL_HEADROOM = 2.0
"""Range of the residual stream over its greatest magnitude in calibration, which skipping may exceed."""
ACCUMULATOR_LIMIT = 1 << 26
"""sum |w| * 128 + |bias| stays below it for every output channel."""
_WEIGHT_PEAK = 127
_LARGEST_MULTIPLIER_SCALE = 2.0**15


class QuantizationError(InputError):
    """A network that cannot be brought into the machine's number formats; the message names the layer."""


def quantize(
    network: Any, calibration_inputs: Any, path: Path | None = None, options: Options | None = None
) -> IntegerNetwork:
    """Quantize a network on calibration images.

    Args:
        network: a plain ViT (see `sw.importing`), or a `sw.graph.path_vit.PathVit`, whose own path counts where `path` is None.
        calibration_inputs: float32 tensor [n, channels, height, width] of `sw.data.fashion_mnist.to_input`; a few hundred images
            do.
        path: whose attentions the integer network has; others are left out of it, for a path that was fine-tuned. None
            holds all of them, so that any path can be chosen at run time, at the scales of the whole network.
        options: how; None for the defaults.

    Raises:
        QuantizationError: a number does not fit, such as weights that are not finite.
        InputError: the path is of another depth.
    """
    folded, path = _folded_path(network, path)
    options = options or Options()
    calibration = calibrate(folded, calibration_inputs, path, options.scales)
    return quantize_folded(folded, calibration, correct_bias=options.correct_bias)


def quantize_jointly(
    networks: Sequence[Any], calibration_inputs: Any, options: Options | None = None
) -> tuple[IntegerNetwork, ...]:
    """Quantize networks so that what their beginnings share with the last one's is the same in integers, too.

    The first encoders that are equal in float, of the same kind, get the scales that the last network's calibration
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
    folded, paths = zip(*(_folded_path(network, None) for network in networks), strict=True)
    options = options or Options()
    alone = [calibrate(network, calibration_inputs, path, options.scales) for network, path in zip(folded, paths, strict=True)]
    calibrations = [
        _sharing(calibration, alone[-1], _equal_encoders(network, folded[-1], path, paths[-1]))
        for network, path, calibration in zip(folded, paths, alone, strict=True)
    ]
    scale = max(residual_scale(*each) for each in zip(folded, calibrations, strict=True))
    return tuple(
        quantize_folded(network, each, scale, correct_bias=options.correct_bias)
        for network, each in zip(folded, calibrations, strict=True)
    )


def _sharing(calibration: Calibration, other: Calibration, encoders: int | None) -> Calibration:
    """A calibration with stem, embedding and so many first encoders of another; None shares nothing."""
    if encoders is None:
        return calibration
    return replace(
        calibration,
        stem=other.stem,
        patch_means=other.patch_means,
        attentions=other.attentions[:encoders] + calibration.attentions[encoders:],
        mlps=other.mlps[:encoders] + calibration.mlps[encoders:],
    )


def _folded_path(network: Any, path: Path | None) -> tuple[FoldedNetwork, Path]:
    """A network folded, and the path that counts."""
    from sw.graph.path_vit import PathVit

    if isinstance(network, PathVit):
        path = path or network.path
        network = network.vit
    folded = fold_network(network)
    return folded, path_or_full(path, len(folded.encoders))


def _equal_encoders(low: FoldedNetwork, high: FoldedNetwork, low_path: Path, high_path: Path) -> int | None:
    """First encoders that are equal in float; None where what enters the first one is not."""
    names = ("embedding", "positions", "stem", "heads", "patch_size", "image_size", "prefix_tokens", "head_tokens")
    if not all(_equal(getattr(low, name), getattr(high, name)) for name in names):
        return None
    pairs = enumerate(zip(low.encoders, high.encoders, strict=False))
    different = (i for i, (one, other) in pairs if low_path.keeps(i) != high_path.keeps(i) or not _equal(one, other))
    return next(different, min(len(low.encoders), len(high.encoders)))


def _equal(one: Any, other: Any) -> bool:
    """Whether two parts of folded networks hold the same numbers; functions count by what they make of some numbers."""
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if is_dataclass(one) and type(one) is type(other):
        return all(_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if callable(one) and callable(other):
        probe = torch.linspace(-8, 8, 129)
        return torch.equal(one(probe), other(probe))
    return one == other


def quantize_folded(
    network: FoldedNetwork, calibration: Calibration, residual: float | None = None, *, correct_bias: bool = False
) -> IntegerNetwork:
    """Quantize a folded network with the scales of a calibration.

    Args:
        network: the float network.
        calibration: of it.
        residual: scale of the residual stream, at least `residual_scale`; that one where None.
        correct_bias: as `sw.quantization.calibration.Options` has it.
    """
    if not correct_bias:
        calibration = _without_means(calibration)
    dim = network.embedding.weight.shape[0]
    residual = residual_scale(network, calibration) if residual is None else residual
    stem, input_scale, zero_point = _stem(network, calibration)
    embedding = integer_linear("embedding", network.embedding, input_scale, residual, zero_point, calibration.patch_means)
    # Prefix tokens' patch rows stand for zeros, to which the embedding GEMM adds its requantized bias; every other token keeps it.
    initial = np.rint(network.positions.numpy().astype(np.float64) / residual)
    prefix = slice(network.prefix_tokens)
    zeros = zero_point * embedding.weights.astype(np.int64).sum(1)
    initial[prefix] -= numerics.requantize(zeros, embedding.bias, embedding.multiplier, embedding.shift, 16)
    encoders = []
    for index, (encoder, attention, mlp) in enumerate(zip(network.encoders, calibration.attentions, calibration.mlps, strict=True)):
        name = f"encoder{index}"
        integer = None if attention is None else _attention(name, encoder, attention, residual, network.heads)
        encoders.append(IntegerEncoder(integer, _mlp(name, encoder, mlp, residual)))
    return IntegerNetwork(
        image_size=network.image_size,
        channels=network.channels,
        patch_size=network.patch_size,
        heads=network.heads,
        residual_scale=residual,
        embedding=embedding,
        initial_residual=numerics.saturate(initial, numerics.RESIDUAL_WIDTH).astype(np.int16),
        encoders=tuple(encoders),
        final_norm=integer_norm(dim, calibration.final_norm, residual, network.epsilon),
        head=integer_linear("head", network.head, calibration.final_norm, LOGIT_SCALE, means=calibration.head_means),
        prefix_tokens=network.prefix_tokens,
        head_tokens=network.head_tokens,
        stem=stem,
    )


def _without_means(calibration: Calibration) -> Calibration:
    """A calibration whose means say nothing, so that biases stay as they are."""
    nothing: dict[str, Any] = dict.fromkeys(("head_means", "patch_means", "pixel_means"))
    return replace(
        calibration,
        attentions=tuple(each and replace(each, normalized_means=None, context_means=None) for each in calibration.attentions),
        mlps=tuple(
            replace(each, normalized_means=None, activation=replace(each.activation, means=None)) for each in calibration.mlps
        ),
        stem=tuple(replace(each, means=None) for each in calibration.stem),
        **nothing,
    )


def integer_linear(
    name: str,
    layer: FloatLinear,
    input_scale: float,
    output_scale: float,
    zero_point: int = 0,
    means: InputMeans | None = None,
    output_zero: int = 0,
) -> IntegerLinear:
    """Quantize a linear layer.

    Args:
        name: for messages.
        layer: float weight and bias.
        input_scale: of the int8 input.
        output_scale: of the output.
        zero_point: input code that stands for 0.
        means: of the inputs; where given, the bias takes up the outputs' mean error (Nagel et al., arXiv 1906.04721, section 4.2).
        output_zero: output code that stands for 0.

    Raises:
        QuantizationError: a number is not finite or the requantization leaves the multiplier's range.
    """
    weight, bias = layer.weight.numpy().astype(np.float64), layer.bias.numpy().astype(np.float64)
    bias = bias + output_zero * output_scale
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise QuantizationError(f"Layer {name} must have finite weights and biases")
    # A channel of small weights takes its scale from its bias, which must fit the accumulator.
    scale = np.maximum(np.abs(weight).max(1) / _WEIGHT_PEAK, np.abs(bias) / (input_scale * (ACCUMULATOR_LIMIT >> 2)))
    scale = np.maximum(scale, output_scale / input_scale * 2.0**-30)
    for _ in range(2):
        codes = np.rint(weight / scale[:, None])
        missing = 0.0 if means is None else weight @ means.exact - scale * (codes @ means.coded)
        offset = np.rint((bias + missing) / (input_scale * scale)) - zero_point * codes.sum(1)
        growth = np.abs(codes).sum(1) * 128 + np.abs(offset)
        scale = scale * np.where(growth < ACCUMULATOR_LIMIT, 1.0, growth / ACCUMULATOR_LIMIT * 1.01)
        if np.all(growth < ACCUMULATOR_LIMIT):
            break
    else:
        raise QuantizationError(f"Layer {name} must keep sum |w| * 128 + |bias| below 2^26, not {growth.max():.0f}")
    requantization = input_scale * scale / output_scale
    greatest = requantization.max()
    if greatest >= _LARGEST_MULTIPLIER_SCALE:
        raise QuantizationError(
            f"Layer {name} must requantize by less than 2^15, not {greatest:.3g} (output {requantization.argmax()})"
        )
    multiplier, shift = numerics.multiplier_and_shift(requantization)
    return IntegerLinear(codes.astype(np.int8), offset.astype(np.int32), multiplier.astype(np.uint16), shift.astype(np.uint8))


def activation_table(function: Any, around: ActivationScales) -> np.ndarray:
    """Table of a function of one number for every int8 code.

    Args:
        function: on float64 tensors.
        around: scales and codes of 0 of its input and output.

    Returns:
        uint8 [256]: entry ``code + 128`` is the code of ``function((code - zero_in) * scale_in)``, rounded and saturated, in two's
        complement.

    Raises:
        QuantizationError: the function is not finite somewhere in the range of the codes.
    """
    import torch

    points = (torch.arange(TABLE_ENTRIES) - TABLE_ENTRIES // 2 - around.zero_in).double() * around.scale_in
    values = function(points).numpy()
    if not np.isfinite(values).all():
        raise QuantizationError(f"An activation must be finite from {points[0]:.3g} to {points[-1]:.3g}")
    entries = np.rint(values / around.scale_out).astype(np.int64) + around.zero_point
    return numerics.saturate(entries, 8).astype(np.int8).view(np.uint8)


def integer_norm(channels: int, scale: float, residual_scale: float, epsilon: float) -> IntegerNorm:
    """Parameters of a normalise pass.

    The machine divides 16·(x - mean) by root = sqrt(n²·variance + epsilon field), which is n·deviation in residual
    steps, so multiplier·2^-shift = n / (16·scale) makes the output (x - mean) / (deviation·scale).
    """
    multiplier, shift = numerics.multiplier_and_shift(channels / (2**numerics.MEAN_FRACTION * scale))
    return IntegerNorm(scale, int(multiplier), int(shift), max(1, round(channels**2 * epsilon / residual_scale**2)))


def logits_sqnr_db(reference: np.ndarray, integer_logits: np.ndarray) -> float:
    """Signal to quantization noise of logits in dB; infinite where they are equal.

    Args:
        reference: float logits [n, classes] in nats.
        integer_logits: the machine's [n, classes] in 2^-12 nat.
    """
    reference = np.asarray(reference, dtype=np.float64)
    noise = np.square(reference - np.asarray(integer_logits, dtype=np.float64) * LOGIT_SCALE).sum()
    return float("inf") if noise == 0 else float(10 * np.log10(np.square(reference).sum() / noise))


def residual_scale(network: FoldedNetwork, calibration: Calibration) -> float:
    """Least scale of the residual stream that leaves it `RESIDUAL_HEADROOM`."""
    greatest = (1 << (numerics.RESIDUAL_WIDTH - 1)) - 1
    # The epsilon field has 32 bits.
    dim = network.embedding.weight.shape[0]
    epsilons = [network.epsilon, *(epsilon for encoder in network.encoders for epsilon in encoder.epsilons)]
    smallest = dim * max(epsilons) ** 0.5 / 2.0**15.9
    return max(calibration.residual_peak * RESIDUAL_HEADROOM / greatest, smallest)


def _stem(network: FoldedNetwork, calibration: Calibration) -> tuple[tuple[IntegerConvolution, ...], float, int]:
    """(convolutions, scale and zero point of what the embedding reads)."""
    stem, input_scale, zero_point, means = [], IMAGE_SCALE, 0, calibration.pixel_means
    for index, (convolution, around) in enumerate(zip(network.stem, calibration.stem, strict=True)):
        name, kernel = f"stem{index}", convolution.weight.shape[2]
        table = activation_table(convolution.activation, around)
        if table[:1].view(np.int8) != around.zero_point:  # what the machine writes for a pixel of padding
            raise QuantizationError(f"Layer {name} must have an activation that takes its least input to 0, such as ReLU")
        layer = FloatLinear(convolution.weight.permute(0, 2, 3, 1).flatten(1), convolution.bias)
        windows = means and InputMeans(np.tile(means.exact, kernel**2), np.tile(means.coded, kernel**2))
        linear = integer_linear(name, layer, input_scale, around.scale_in, zero_point, windows, around.zero_in)
        stem.append(IntegerConvolution(linear, table, kernel, convolution.stride, convolution.padding))
        input_scale, zero_point, means = around.scale_out, around.zero_point, around.means
    return tuple(stem), input_scale, zero_point


def _attention(name: str, encoder: FoldedEncoder, scales: AttentionScales, residual: float, heads: int) -> IntegerAttention:
    dim = encoder.query.weight.shape[0]
    score = scales.query * scales.key / ((dim // heads) ** 0.5 * scales.score)
    if score >= _LARGEST_MULTIPLIER_SCALE or scales.value / scales.context >= _LARGEST_MULTIPLIER_SCALE:
        raise QuantizationError(f"Layer {name} must have scores and contexts in proportion to its queries, keys and values")
    score_multiplier, score_shift = numerics.multiplier_and_shift(score)
    context_multiplier, context_shift = numerics.multiplier_and_shift(scales.value / scales.context)
    key, means = FloatLinear(encoder.key.weight, -scales.key_mean), scales.normalized_means
    return IntegerAttention(
        norm=integer_norm(dim, scales.norm, residual, encoder.epsilons[0]),
        query=integer_linear(f"{name}.query", encoder.query, scales.norm, scales.query, means=means),
        key=integer_linear(f"{name}.key", key, scales.norm, scales.key, means=means),
        value=integer_linear(f"{name}.value", encoder.value, scales.norm, scales.value, means=means),
        score_multiplier=int(score_multiplier),
        score_shift=int(score_shift),
        score_scale=scales.score,
        exp_table=np.asarray(exp_table(scales.score), dtype=np.uint8),
        context_multiplier=int(context_multiplier),
        context_shift=int(context_shift),
        projection=integer_linear(f"{name}.projection", encoder.projection, scales.context, residual, means=scales.context_means),
    )


def _mlp(name: str, encoder: FoldedEncoder, scales: MlpScales, residual: float) -> IntegerMlp:
    dim, around = encoder.fc2.weight.shape[0], scales.activation
    table = activation_table(encoder.activation, around)
    return IntegerMlp(
        norm=integer_norm(dim, scales.norm, residual, encoder.epsilons[1]),
        fc1=integer_linear(f"{name}.fc1", encoder.fc1, scales.norm, around.scale_in, 0, scales.normalized_means, around.zero_in),
        activation_table=table,
        fc2=integer_linear(f"{name}.fc2", encoder.fc2, around.scale_out, residual, around.zero_point, around.means),
    )

"""Post-training int8 quantization of a plain ViT to the integer network that the accelerator computes."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from hw import numerics
from hw.config import TABLE_ENTRIES
from hw.errors import InputError
from hw.row.table import exp_table
from sw.calibration import ActivationScales, AttentionScales, Calibration, MlpScales, calibrate
from sw.folding import FloatLinear, FoldedConvolution, FoldedEncoder, FoldedNetwork, fold_network
from sw.integer_network import (
    IntegerAttention,
    IntegerConvolution,
    IntegerEncoder,
    IntegerLinear,
    IntegerMlp,
    IntegerNetwork,
    IntegerNorm,
)

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


def quantize(network: Any, calibration_inputs: Any, kept: Iterable[int] | None = None) -> IntegerNetwork:
    """Quantize a network on calibration images.

    Args:
        network: a plain ViT (see `sw.importing`), or a `sw.skipping.PathVit`, whose own path counts where `kept` is None.
        calibration_inputs: float32 tensor [n, channels, height, width] of `sw.data.to_input`; a few hundred images do.
        kept: encoders whose attention the network has; others are left out of it, for a path that was fine-tuned. None
            holds all of them, so that any path can be chosen at run time, at the scales of the whole network.

    Raises:
        QuantizationError: a number does not fit, such as weights that are not finite.
        InputError: an encoder index is out of range.
    """
    from sw.skipping import PathVit, validated_kept

    if isinstance(network, PathVit):
        kept = network.kept if kept is None else kept
        network = network.vit
    folded = fold_network(network)
    path = validated_kept(kept, len(folded.encoders))
    return quantize_folded(folded, calibrate(folded, calibration_inputs, path))


def quantize_folded(network: FoldedNetwork, calibration: Calibration) -> IntegerNetwork:
    """Quantize a folded network with the scales of a calibration."""
    dim, residual = network.embedding.weight.shape[0], _residual_scale(network, calibration)
    stem, input_scale, zero_point = _stem(network.stem, calibration.stem)
    embedding = integer_linear("embedding", network.embedding, input_scale, residual, zero_point)
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
        head=integer_linear("head", network.head, calibration.final_norm, LOGIT_SCALE),
        prefix_tokens=network.prefix_tokens,
        head_tokens=network.head_tokens,
        stem=stem,
    )


def integer_linear(name: str, layer: FloatLinear, input_scale: float, output_scale: float, zero_point: int = 0) -> IntegerLinear:
    """Quantize a linear layer.

    Args:
        name: for messages.
        layer: float weight and bias.
        input_scale: of the int8 input.
        output_scale: of the output.
        zero_point: input code that stands for 0.

    Raises:
        QuantizationError: a number is not finite or the requantization leaves the multiplier's range.
    """
    weight, bias = layer.weight.numpy().astype(np.float64), layer.bias.numpy().astype(np.float64)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise QuantizationError(f"Layer {name} must have finite weights and biases")
    # A channel of small weights takes its scale from its bias, which must fit the accumulator.
    scale = np.maximum(np.abs(weight).max(1) / _WEIGHT_PEAK, np.abs(bias) / (input_scale * (ACCUMULATOR_LIMIT >> 2)))
    scale = np.maximum(scale, output_scale / input_scale * 2.0**-30)
    for _ in range(2):
        codes = np.rint(weight / scale[:, None])
        offset = np.rint(bias / (input_scale * scale)) - zero_point * codes.sum(1)
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


def activation_table(function: Any, scale_in: float, scale_out: float, zero_point: int) -> np.ndarray:
    """Table of a function of one number for every int8 code.

    Args:
        function: on float64 tensors.
        scale_in: real value of one step of the code.
        scale_out: real value of one step of an entry.
        zero_point: entry that stands for 0.

    Returns:
        uint8 [256]: entry ``code + 128`` is ``saturate8(round(function(code * scale_in) / scale_out) + zero_point)`` in two's
        complement.

    Raises:
        QuantizationError: the function is not finite somewhere in the range of the codes.
    """
    import torch

    values = function((torch.arange(TABLE_ENTRIES) - TABLE_ENTRIES // 2).double() * scale_in).numpy()
    if not np.isfinite(values).all():
        raise QuantizationError(f"An activation must be finite from {-128 * scale_in:.3g} to {127 * scale_in:.3g}")
    entries = np.rint(values / scale_out).astype(np.int64) + zero_point
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


def _residual_scale(network: FoldedNetwork, calibration: Calibration) -> float:
    greatest = (1 << (numerics.RESIDUAL_WIDTH - 1)) - 1
    # The epsilon field has 32 bits.
    dim = network.embedding.weight.shape[0]
    epsilons = [network.epsilon, *(epsilon for encoder in network.encoders for epsilon in encoder.epsilons)]
    smallest = dim * max(epsilons) ** 0.5 / 2.0**15.9
    return max(calibration.residual_peak * RESIDUAL_HEADROOM / greatest, smallest)


def _stem(
    convolutions: tuple[FoldedConvolution, ...], scales: tuple[ActivationScales, ...]
) -> tuple[tuple[IntegerConvolution, ...], float, int]:
    """(convolutions, scale and zero point of what the embedding reads)."""
    stem, input_scale, zero_point = [], IMAGE_SCALE, 0
    for index, (convolution, around) in enumerate(zip(convolutions, scales, strict=True)):
        name, kernel = f"stem{index}", convolution.weight.shape[2]
        table = activation_table(convolution.activation, around.scale_in, around.scale_out, around.zero_point)
        if table[:1].view(np.int8) != around.zero_point:  # what the machine writes for a pixel of padding
            raise QuantizationError(f"Layer {name} must have an activation that takes its least input to 0, such as ReLU")
        weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)
        linear = integer_linear(name, FloatLinear(weight, convolution.bias), input_scale, around.scale_in, zero_point)
        stem.append(IntegerConvolution(linear, table, kernel, convolution.stride, convolution.padding))
        input_scale, zero_point = around.scale_out, around.zero_point
    return tuple(stem), input_scale, zero_point


def _attention(name: str, encoder: FoldedEncoder, scales: AttentionScales, residual: float, heads: int) -> IntegerAttention:
    dim = encoder.query.weight.shape[0]
    score = scales.query * scales.key / ((dim // heads) ** 0.5 * scales.score)
    if score >= _LARGEST_MULTIPLIER_SCALE or scales.value / scales.context >= _LARGEST_MULTIPLIER_SCALE:
        raise QuantizationError(f"Layer {name} must have scores and contexts in proportion to its queries, keys and values")
    score_multiplier, score_shift = numerics.multiplier_and_shift(score)
    context_multiplier, context_shift = numerics.multiplier_and_shift(scales.value / scales.context)
    key = FloatLinear(encoder.key.weight, -scales.key_mean)
    return IntegerAttention(
        norm=integer_norm(dim, scales.norm, residual, encoder.epsilons[0]),
        query=integer_linear(f"{name}.query", encoder.query, scales.norm, scales.query),
        key=integer_linear(f"{name}.key", key, scales.norm, scales.key),
        value=integer_linear(f"{name}.value", encoder.value, scales.norm, scales.value),
        score_multiplier=int(score_multiplier),
        score_shift=int(score_shift),
        score_scale=scales.score,
        exp_table=np.asarray(exp_table(scales.score), dtype=np.uint8),
        context_multiplier=int(context_multiplier),
        context_shift=int(context_shift),
        projection=integer_linear(f"{name}.projection", encoder.projection, scales.context, residual),
    )


def _mlp(name: str, encoder: FoldedEncoder, scales: MlpScales, residual: float) -> IntegerMlp:
    dim = encoder.fc2.weight.shape[0]
    table = activation_table(encoder.activation, scales.gelu_in, scales.gelu_out, scales.zero_point)
    return IntegerMlp(
        norm=integer_norm(dim, scales.norm, residual, encoder.epsilons[1]),
        fc1=integer_linear(f"{name}.fc1", encoder.fc1, scales.norm, scales.gelu_in),
        gelu_table=table,
        fc2=integer_linear(f"{name}.fc2", encoder.fc2, scales.gelu_out, residual, scales.zero_point),
    )

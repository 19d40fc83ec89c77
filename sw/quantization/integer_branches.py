"""Float branches and the stem to integer ones, with the scales that calibration found."""

from collections.abc import Callable

import numpy as np

from hw import numerics
from hw.row.table import exp_table
from sw.graph.branch import BranchKind
from sw.graph.float_network import FloatAttention, FloatLinear, FloatMlp, FloatNetwork
from sw.graph.integer_network import IntegerAttention, IntegerBranch, IntegerConvolution, IntegerMlp
from sw.quantization.integer_layers import (
    LARGEST_MULTIPLIER_SCALE,
    QuantizationError,
    activation_table,
    integer_linear,
    integer_norm,
)
from sw.quantization.scales import AttentionScales, Calibration, InputMeans, MlpScales

IMAGE_SCALE = 1 / 128
"""Real value of one step of an int8 pixel."""


def integer_stem(network: FloatNetwork, calibration: Calibration) -> tuple[tuple[IntegerConvolution, ...], float, int]:
    """Return the stem's convolutions, and scale and zero point of what the embedding reads.

    Raises:
        QuantizationError: a number does not fit, or an activation does not take its least input to 0.
    """
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


def _attention(name: str, branch: FloatAttention, scales: AttentionScales, residual: float, heads: int) -> IntegerAttention:
    dim = branch.query.weight.shape[0]
    score = scales.query * scales.key / ((dim // heads) ** 0.5 * scales.score)
    if score >= LARGEST_MULTIPLIER_SCALE or scales.value / scales.context >= LARGEST_MULTIPLIER_SCALE:
        raise QuantizationError(f"Layer {name} must have scores and contexts in proportion to its queries, keys and values")
    score_multiplier, score_shift = numerics.multiplier_and_shift(score)
    context_multiplier, context_shift = numerics.multiplier_and_shift(scales.value / scales.context)
    means = scales.normalized_means
    return IntegerAttention(
        norm=integer_norm(f"{name}.norm", dim, scales.norm, residual, branch.epsilon),
        query=integer_linear(f"{name}.query", branch.query, scales.norm, scales.query, means=means),
        key=integer_linear(f"{name}.key", branch.key, scales.norm, scales.key, means=means),
        value=integer_linear(f"{name}.value", branch.value, scales.norm, scales.value, means=means),
        score_multiplier=int(score_multiplier),
        score_shift=int(score_shift),
        score_scale=scales.score,
        exp_table=np.asarray(exp_table(scales.score), dtype=np.uint8),
        context_multiplier=int(context_multiplier),
        context_shift=int(context_shift),
        projection=integer_linear(f"{name}.projection", branch.projection, scales.context, residual, means=scales.context_means),
    )


def _mlp(name: str, branch: FloatMlp, scales: MlpScales, residual: float, _heads: int) -> IntegerMlp:
    dim, around = branch.fc2.weight.shape[0], scales.activation
    table = activation_table(branch.activation, around)
    return IntegerMlp(
        norm=integer_norm(f"{name}.norm", dim, scales.norm, residual, branch.epsilon),
        fc1=integer_linear(f"{name}.fc1", branch.fc1, scales.norm, around.scale_in, 0, scales.normalized_means, around.zero_in),
        activation_table=table,
        fc2=integer_linear(f"{name}.fc2", branch.fc2, around.scale_out, residual, around.zero_point, around.means),
    )


INTEGER_BRANCH: dict[BranchKind, Callable[..., IntegerBranch]] = {BranchKind.ATTENTION: _attention, BranchKind.MLP: _mlp}
"""Quantizes a branch of each kind: name, float branch with its key centred, its scales, scale of the stream, heads."""

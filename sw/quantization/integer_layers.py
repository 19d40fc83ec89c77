"""Float layers to integer ones: weights, biases and requantization, tables of activations, LayerNorm."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hw import numerics
from hw.config import TABLE_ENTRIES
from hw.errors import InputError
from sw.graph.float_network import FloatLinear
from sw.graph.integer_network import IntegerLinear, IntegerNorm
from sw.quantization.scales import ActivationScales, InputMeans

if TYPE_CHECKING:
    from torch import Tensor

ACCUMULATOR_LIMIT = 1 << 26
"""sum |w| * 128 + |bias| stays below it for every output channel."""
LARGEST_MULTIPLIER_SCALE = 2.0**15
"""What requantization multiplies by stays below it."""
WEIGHT_PEAK = 127
"""Greatest magnitude of an int8 weight."""


class QuantizationError(InputError):
    """A network that cannot be brought into the machine's number formats; the message names the layer."""


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
    scale = np.maximum(np.abs(weight).max(1) / WEIGHT_PEAK, np.abs(bias) / (input_scale * (ACCUMULATOR_LIMIT >> 2)))
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
    if greatest >= LARGEST_MULTIPLIER_SCALE:
        raise QuantizationError(
            f"Layer {name} must requantize by less than 2^15, not {greatest:.3g} (output {requantization.argmax()})"
        )
    multiplier, shift = numerics.multiplier_and_shift(requantization)
    return IntegerLinear(codes.astype(np.int8), offset.astype(np.int32), multiplier.astype(np.uint16), shift.astype(np.uint8))


def activation_table(function: Callable[["Tensor"], "Tensor"], around: ActivationScales) -> np.ndarray:
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


def integer_norm(name: str, channels: int, scale: float, residual_scale: float, epsilon: float) -> IntegerNorm:
    """Parameters of a normalise pass.

    The machine divides 16·(x - mean) by root = sqrt(n²·variance + epsilon field), which is n·deviation in residual
    steps, so multiplier·2^-shift = n / (16·scale) makes the output (x - mean) / (deviation·scale).

    Args:
        name: for messages.
        channels: n.
        scale: of the output.
        residual_scale: of the stream.
        epsilon: the float network's.

    Raises:
        QuantizationError: the calibration images leave the norm nothing to scale, as where everything before it is zero.
    """
    factor = channels / (2**numerics.MEAN_FRACTION * scale)
    if not factor < 1 << numerics.MULTIPLIER_WIDTH:
        raise QuantizationError(f"Layer {name} must have tokens with channels that differ: its outputs' scale is {scale:.3g}")
    multiplier, shift = numerics.multiplier_and_shift(factor)
    return IntegerNorm(scale, int(multiplier), int(shift), max(1, round(channels**2 * epsilon / residual_scale**2)))

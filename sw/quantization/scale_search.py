"""How a scale is chosen for one tensor, on samples of it.

By default a scale minimises the mean squared error of what depends on the tensor, over a grid of clipping ranges: the next layer's
input weighted by the size of its weights, the softmax for scores, the activation's output for its input.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from hw import numerics
from sw.graph.float_network import FloatLinear
from sw.quantization.options import GREATEST, MSE, PERCENTILE
from sw.quantization.scales import ActivationScales, InputMeans

if TYPE_CHECKING:
    from torch import Tensor

SAMPLES = 1 << 17
"""Most numbers of a tensor that a search looks at."""
SMALLEST_SCALE = 2.0**-20
"""Scale of a tensor that is constantly zero."""
_CLIPPING = tuple(0.25 + 0.03125 * step for step in range(25))  # 0.25 ... 1.0 of the greatest magnitude
_PERCENTILE = 0.9999
_RATIOS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
_EXP_GREATEST = (1 << numerics.EXP_WIDTH) - 1


def tensor_scale(values: "Tensor", importance: "Tensor | None" = None, method: str = MSE) -> float:
    """Scale of a symmetric int8 code.

    Args:
        values: float tensor [..., channels].
        importance: weight of each channel's squared error [channels]; equal where None.
        method: of `METHODS`.
    """
    rows = _sample(values.flatten(0, -2), values.shape[-1])

    def loss(scale: float) -> float:
        error = (rows - scale * (rows / scale).round().clamp(-128, 127)).square()
        return float((error if importance is None else error * importance).mean())

    return _best_scale(values.abs(), 127, loss, method)


def score_scale(scores: "Tensor", method: str) -> float:
    """Score scale whose table softmax is nearest to the float one."""
    rows = _sample(scores.flatten(0, -2), scores.shape[-1])
    exact = rows.softmax(-1)

    def loss(scale: float) -> float:
        codes = (rows / scale).round().clamp(-128, 127)
        exps = (_EXP_GREATEST * ((codes - codes.amax(-1, keepdim=True)) * scale).exp()).round()
        return float((exps / exps.sum(-1, keepdim=True) - exact).square().mean())

    return _best_scale(scores.abs(), 127, loss, method)


def activation_scales(
    hidden: "Tensor", activated: "Tensor", activation: Callable[["Tensor"], "Tensor"], importance: "Tensor", method: str
) -> ActivationScales:
    """Scales around an activation.

    Args:
        hidden: its input [..., channels].
        activated: its output.
        activation: on float tensors.
        importance: weight of each output channel's squared error [channels].
        method: of `METHODS`.
    """
    rows, exact = (_sample(values.flatten(0, -2), values.shape[-1]) for values in (hidden, activated))

    def input_search(ratio: float) -> tuple[float, float, int]:
        """(loss, scale, code of 0) where the codes reach `ratio` times as far below 0 as above."""
        zero = round(-128 + 255 * ratio / (1 + ratio))

        def loss(scale: float) -> float:
            codes = (rows / scale + zero).round().clamp(-128, 127) - zero
            return float(((activation(codes * scale) - exact).square() * importance).mean())

        above = hidden.clamp(min=0) if float(hidden.max()) > 0 else hidden.abs()
        scale = _best_scale(above, 127 - zero, loss, method)
        return loss(scale), scale, zero

    # What is far below 0 is often as good as 0 behind the activation.
    _, scale_in, zero_in = min(map(input_search, _RATIOS))
    low, high = min(0.0, float(activated.min())), max(0.0, float(activated.max()))

    def output_codes(scale: float) -> tuple["Tensor", int]:
        zero_point = -128 - round(low / scale)
        return (exact / scale + zero_point).round().clamp(-128, 127), zero_point

    def output_loss(scale: float) -> float:
        codes, zero_point = output_codes(scale)
        return float((((codes - zero_point) * scale - exact).square() * importance).mean())

    # Below |low| / 255 the zero point would leave int8.
    beyond_low = activated - low if high > 0 else low - activated
    scale_out = max(_best_scale(beyond_low, 255, output_loss, method), -low / 255)
    zero_point = output_codes(scale_out)[1]
    seen = activation(((hidden / scale_in + zero_in).round().clamp(-128, 127) - zero_in) * scale_in)  # the table's argument
    coded = input_means(seen, scale_out, -128 - zero_point, 127 - zero_point).coded
    means = InputMeans(input_means(activated).exact, coded)
    return ActivationScales(scale_in, zero_in, scale_out, zero_point, means)


def input_means(values: "Tensor", scale: float | None = None, least: int = -128, greatest: int = 127) -> InputMeans:
    """Means over all but the last axis; with a scale also of codes from ``least`` to ``greatest``, counted from the code of 0."""
    rows = values.flatten(0, -2)
    exact = rows.mean(0).double().numpy()
    if scale is None:
        return InputMeans(exact, exact)
    return InputMeans(exact, (rows / scale).round().clamp(least, greatest).mean(0).double().numpy() * scale)


def importance_of(*layers: FloatLinear) -> "Tensor":
    """Mean square of the weights that each input channel meets in the layers that read it."""
    return sum(layer.weight.square().sum(0) for layer in layers)


def _best_scale(magnitudes: "Tensor", steps: int, loss: Callable[[float], float], method: str) -> float:
    """Scale whose ``steps`` steps reach the greatest magnitude, or as far as the method finds best."""
    greatest = float(magnitudes.max()) / steps
    if not greatest >= SMALLEST_SCALE:  # nor where it is not a number, which `integer_linear` refuses by the layer's name
        return SMALLEST_SCALE
    if method == GREATEST:
        return greatest
    if method == PERCENTILE:
        rank = math.ceil(_PERCENTILE * magnitudes.numel())
        return max(SMALLEST_SCALE, float(magnitudes.flatten().kthvalue(rank).values) / steps)
    return min((greatest * clipping for clipping in reversed(_CLIPPING)), key=loss)


def _sample(rows: "Tensor", width: int) -> "Tensor":
    """Some rows of [rows, width], with about `SAMPLES` numbers; of as many rows always the same ones.

    They are drawn, for every so many pixels of a map would all come from the same columns.
    """
    import torch

    count = math.ceil(SAMPLES / width)
    if rows.shape[0] <= count:
        return rows
    return rows[torch.randperm(rows.shape[0], generator=torch.Generator().manual_seed(0))[:count]]

"""Calibration: runs the float network layer by layer on images and chooses the scale of every integer tensor.

By default a scale minimises the mean squared error of what depends on the tensor, over a grid of clipping ranges: the next layer's
input weighted by the size of its weights, the softmax for scores, the GELU's output for its input. The mean inputs of the layers
are kept for bias correction.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw import numerics
from hw.errors import InputError
from sw.graph.float_network import FoldedEncoder, FoldedNetwork, normalized
from sw.graph.path import Path

SAMPLES = 1 << 17
"""Most numbers of a tensor that a search looks at."""
SMALLEST_SCALE = 2.0**-20
"""Scale of a tensor that is constantly zero."""
_CLIPPING = tuple(0.25 + 0.03125 * step for step in range(25))  # 0.25 ... 1.0 of the greatest magnitude
_PERCENTILE = 0.9999
_RATIOS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
_EXP_GREATEST = (1 << numerics.EXP_WIDTH) - 1


MSE, PERCENTILE, GREATEST = "mse", "percentile", "max"
METHODS = (MSE, PERCENTILE, GREATEST)
"""How a scale is chosen: least squared error; so that 99.99 % of the magnitudes fit; so that all fit."""


@dataclass(frozen=True)
class Options:
    """How a network is quantized.

    Attributes:
        scales: one of `METHODS`.
        correct_bias: whether the biases take up the mean error of every output channel.

    Raises:
        InputError: the method is unknown.
    """

    scales: str = MSE
    correct_bias: bool = False

    def __post_init__(self) -> None:
        if self.scales not in METHODS:
            raise InputError(f"Scales must be chosen by {', '.join(METHODS)}, not {self.scales!r}")


@dataclass(frozen=True, eq=False)
class InputMeans:
    """Mean of every input channel of a layer over the calibration images, float64 [inputs].

    Attributes:
        exact: of the float network.
        coded: of the same numbers, rounded and clipped to their codes.
    """

    exact: np.ndarray
    coded: np.ndarray


@dataclass(frozen=True, eq=False)
class AttentionScales:
    """Scales of one attention; `key_mean` is the mean key without bias, float32 [dim].

    Softmax ignores what a key bias adds to a row of scores, so the integer network uses -key_mean as the bias: keys and
    scores then lie around zero. `normalized_means` are of the norm's output, `context_means` of the projection's input.
    """

    norm: float
    query: float
    key: float
    value: float
    score: float
    context: float
    key_mean: Any
    normalized_means: InputMeans | None
    context_means: InputMeans | None


@dataclass(frozen=True)
class MlpScales:
    """Scales of one MLP: norm output and around the GELU; means of fc1's input."""

    norm: float
    activation: "ActivationScales"
    normalized_means: InputMeans | None


@dataclass(frozen=True)
class ActivationScales:
    """Scales and codes of 0 of an elementwise activation's input and output; means of the output."""

    scale_in: float
    zero_in: int
    scale_out: float
    zero_point: int
    means: InputMeans | None


@dataclass(frozen=True)
class Calibration:
    """What calibration found.

    Attributes:
        residual_peak: greatest magnitude of the residual stream, position embeddings included.
        attentions: per encoder; None where the path skips it.
        mlps: per encoder.
        final_norm: scale of the head's input.
        head_means: of the head's input.
        patch_means: of the embedding's input.
        pixel_means: of an image's channels.
        stem: per convolution.
    """

    residual_peak: float
    attentions: tuple[AttentionScales | None, ...]
    mlps: tuple[MlpScales, ...]
    final_norm: float
    head_means: InputMeans | None
    patch_means: InputMeans | None
    pixel_means: InputMeans | None
    stem: tuple[ActivationScales, ...] = ()

    def code(self, name: str, residual_scale: float) -> tuple[float, int, int]:
        """(real value of a step, code of 0, bits) of the machine's tensor of that name; names as in
        `sw.graph.float_network.walk`."""
        layer, _, kind = name.rpartition(".")
        if kind in ("embedding", "attention", "mlp"):
            return residual_scale, 0, numerics.RESIDUAL_WIDTH
        if name == "logits":
            return 2.0**-numerics.ENTROPY_FRACTION, 0, numerics.LOGIT_WIDTH
        if name == "norm":
            return self.final_norm, 0, 8
        if name.startswith("stem"):
            around = self.stem[int(name.removeprefix("stem"))]
            return around.scale_out, around.zero_point, 8
        index = int(layer.removeprefix("encoder"))
        mlp, attention = self.mlps[index], self.attentions[index]
        if kind == "norm2":
            return mlp.norm, 0, 8
        if kind == "fc1":
            return mlp.activation.scale_out, mlp.activation.zero_point, 8
        assert attention is not None
        scales = {"norm1": attention.norm, "scores": attention.score}
        return scales[kind] if kind in scales else getattr(attention, kind), 0, 8


def calibrate(network: FoldedNetwork, images: Any, path: Path, method: str = MSE) -> Calibration:
    """Choose scales on calibration images.

    Args:
        network: the float network.
        images: float32 tensor [n, channels, height, width], as `sw.data.fashion_mnist.to_input` gives; all n run at once.
        path: whose attentions run.
        method: of `METHODS`.
    """
    import torch

    with torch.no_grad():
        tokens = network.positions.expand(len(images), -1, -1).clone()
        stem, maps = _calibrate_stem(network, images, method)
        patches = network.patches_of(maps)
        tokens[:, network.prefix_tokens :] += network.embedding(patches)
        peak = max(float(network.positions.abs().max()), float(tokens.abs().max()))
        # A prefix token's initial residual is less the patch bias.
        peak = max(peak, float((network.positions[: network.prefix_tokens] - network.embedding.bias).abs().max()))
        attentions: list[AttentionScales | None] = []
        mlps = []
        for index, encoder in enumerate(network.encoders):
            scales = None
            if path.keeps(index):
                scales, tokens = _calibrate_attention(encoder, tokens, network.heads, method)
                peak = max(peak, float(tokens.abs().max()))
            attentions.append(scales)
            mlp_scales, tokens = _calibrate_mlp(encoder, tokens, method)
            peak = max(peak, float(tokens.abs().max()))
            mlps.append(mlp_scales)
        final = normalized(tokens[:, : network.head_tokens], network.epsilon).flatten(1)
        final_norm = tensor_scale(final, _importance(network.head), method)
        pixels = _means(images.permute(0, 2, 3, 1))
        if stem:
            last = stem[-1]
            patch_means = _means(patches, last.scale_out, -128 - last.zero_point, 127 - last.zero_point)
        else:
            patch_means = _means(patches)
        return Calibration(
            peak, tuple(attentions), tuple(mlps), final_norm, _means(final, final_norm), patch_means, pixels, stem
        )


def _means(values: Any, scale: float | None = None, least: int = -128, greatest: int = 127) -> InputMeans:
    """Means over all but the last axis; with a scale also of codes from ``least`` to ``greatest``, counted from the code of 0."""
    rows = values.flatten(0, -2)
    exact = rows.mean(0).double().numpy()
    if scale is None:
        return InputMeans(exact, exact)
    return InputMeans(exact, (rows / scale).round().clamp(least, greatest).mean(0).double().numpy() * scale)


def tensor_scale(values: Any, importance: Any = None, method: str = MSE) -> float:
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


def _best_scale(magnitudes: Any, steps: int, loss: Callable[[float], float], method: str) -> float:
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


def _sample(rows: Any, width: int) -> Any:
    """Some rows of [rows, width], with about `SAMPLES` numbers; of as many rows always the same ones.

    They are drawn, for every so many pixels of a map would all come from the same columns.
    """
    import torch

    count = math.ceil(SAMPLES / width)
    if rows.shape[0] <= count:
        return rows
    return rows[torch.randperm(rows.shape[0], generator=torch.Generator().manual_seed(0))[:count]]


def _importance(*layers: Any) -> Any:
    """Mean square of the weights that each input channel meets in the layers that read it."""
    return sum(layer.weight.square().sum(0) for layer in layers)


def _calibrate_attention(encoder: FoldedEncoder, tokens: Any, heads: int, method: str) -> tuple[AttentionScales, Any]:
    """Scales of an attention, and the residual stream [n, tokens, dim] after it."""
    count, length, dim = tokens.shape
    inputs = normalized(tokens, encoder.epsilons[0])
    keys = inputs @ encoder.key.weight.T
    key_mean = keys.mean((0, 1))
    streams = (encoder.query(inputs), keys - key_mean, encoder.value(inputs))
    query, key, value = (stream.unflatten(-1, (heads, -1)).transpose(1, 2) for stream in streams)
    scores = query @ key.transpose(-2, -1) / math.sqrt(dim // heads)  # [n, heads, tokens, tokens]
    context = (scores.softmax(-1) @ value).transpose(1, 2).reshape(count, length, dim)
    norm = tensor_scale(inputs, _importance(encoder.query, encoder.key, encoder.value), method)
    context_scale = tensor_scale(context, _importance(encoder.projection), method)
    scales = AttentionScales(
        norm=norm,
        query=tensor_scale(streams[0], None, method),
        key=tensor_scale(streams[1], None, method),
        value=tensor_scale(streams[2], _importance(encoder.projection), method),
        score=_score_scale(scores, method),
        context=context_scale,
        key_mean=key_mean,
        normalized_means=_means(inputs, norm),
        context_means=_means(context, context_scale),
    )
    return scales, tokens + encoder.projection(context)


def _score_scale(scores: Any, method: str) -> float:
    """Score scale whose table softmax is nearest to the float one."""
    rows = _sample(scores.flatten(0, -2), scores.shape[-1])
    exact = rows.softmax(-1)

    def loss(scale: float) -> float:
        codes = (rows / scale).round().clamp(-128, 127)
        exps = (_EXP_GREATEST * ((codes - codes.amax(-1, keepdim=True)) * scale).exp()).round()
        return float((exps / exps.sum(-1, keepdim=True) - exact).square().mean())

    return _best_scale(scores.abs(), 127, loss, method)


def _calibrate_mlp(encoder: FoldedEncoder, tokens: Any, method: str) -> tuple[MlpScales, Any]:
    """Scales of an MLP, and the residual stream after it."""
    inputs = normalized(tokens, encoder.epsilons[1])
    hidden = encoder.fc1(inputs)
    activated = encoder.activation(hidden)
    around = _activation_scales(hidden, activated, encoder.activation, _importance(encoder.fc2), method)
    norm = tensor_scale(inputs, _importance(encoder.fc1), method)
    scales = MlpScales(
        norm=norm,
        activation=around,
        normalized_means=_means(inputs, norm),
    )
    return scales, tokens + encoder.fc2(activated)


def _activation_scales(
    hidden: Any, activated: Any, activation: Callable[[Any], Any], importance: Any, method: str
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

    def output_codes(scale: float) -> tuple[Any, int]:
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
    coded = _means(seen, scale_out, -128 - zero_point, 127 - zero_point).coded
    means = InputMeans(_means(activated).exact, coded)
    return ActivationScales(scale_in, zero_in, scale_out, zero_point, means)


def _calibrate_stem(network: FoldedNetwork, images: Any, method: str) -> tuple[tuple[ActivationScales, ...], Any]:
    """Scales of the stem's convolutions, and their last map [n, channels, height, width]; the images without a stem."""
    patch = network.embedding.weight.unflatten(1, (network.patch_size**2, -1))
    readers = [convolution.weight.flatten(2).transpose(1, 2) for convolution in network.stem[1:]] + [patch]
    scales, maps = [], images
    for convolution, reader in zip(network.stem, readers, strict=False):
        hidden = convolution.convolved(maps)
        maps = convolution.activation(hidden)
        importance = reader.square().sum((0, 1))
        before, behind = (values.permute(0, 2, 3, 1) for values in (hidden, maps))
        scales.append(_activation_scales(before, behind, convolution.activation, importance, method))
    return tuple(scales), maps

"""Calibration: runs the float network layer by layer on images and chooses the scale of every integer tensor.

A scale minimises the mean squared error of what depends on the tensor, over a grid of clipping ranges: the next layer's
input weighted by the size of its weights, the softmax for scores, the GELU's output for its input.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hw import numerics
from sw.folding import FoldedEncoder, FoldedNetwork, normalized

SAMPLES = 1 << 17
"""Most numbers of a tensor that a search looks at."""
SMALLEST_SCALE = 2.0**-20
"""Scale of a tensor that is constantly zero."""
_CLIPPING = tuple(0.25 + 0.03125 * step for step in range(25))  # 0.25 ... 1.0 of the greatest magnitude
_EXP_GREATEST = (1 << numerics.EXP_WIDTH) - 1


@dataclass(frozen=True, eq=False)
class AttentionScales:
    """Scales of one attention; `key_mean` is the mean key without bias, float32 [dim].

    Softmax ignores what a key bias adds to a row of scores, so the integer network uses -key_mean as the bias: keys and
    scores then lie around zero.
    """

    norm: float
    query: float
    key: float
    value: float
    score: float
    context: float
    key_mean: Any


@dataclass(frozen=True)
class MlpScales:
    """Scales of one MLP: norm output, GELU input, and GELU output with its zero point."""

    norm: float
    gelu_in: float
    gelu_out: float
    zero_point: int


@dataclass(frozen=True)
class ActivationScales:
    """Scales around an elementwise activation: its symmetric input, and its output with its zero point."""

    scale_in: float
    scale_out: float
    zero_point: int


@dataclass(frozen=True)
class Calibration:
    """What calibration found.

    Attributes:
        residual_peak: greatest magnitude of the residual stream, position embeddings included.
        attentions: per encoder; None where the path skips it.
        mlps: per encoder.
        final_norm: scale of the head's input.
        stem: per convolution.
    """

    residual_peak: float
    attentions: tuple[AttentionScales | None, ...]
    mlps: tuple[MlpScales, ...]
    final_norm: float
    stem: tuple[ActivationScales, ...] = ()


def calibrate(network: FoldedNetwork, images: Any, kept: frozenset[int]) -> Calibration:
    """Choose scales on calibration images.

    Args:
        network: the float network.
        images: float32 tensor [n, channels, height, width], as `sw.data.to_input` gives; all n run at once.
        kept: encoders whose attention runs.
    """
    import torch

    with torch.no_grad():
        tokens = network.positions.expand(len(images), -1, -1).clone()
        stem, maps = _calibrate_stem(network, images)
        tokens[:, network.prefix_tokens :] += network.embedding(network.patches_of(maps))
        peak = max(float(network.positions.abs().max()), float(tokens.abs().max()))
        # A prefix token's initial residual is less the patch bias.
        peak = max(peak, float((network.positions[: network.prefix_tokens] - network.embedding.bias).abs().max()))
        attentions: list[AttentionScales | None] = []
        mlps = []
        for index, encoder in enumerate(network.encoders):
            scales = None
            if index in kept:
                scales, tokens = _calibrate_attention(encoder, tokens, network.heads)
                peak = max(peak, float(tokens.abs().max()))
            attentions.append(scales)
            mlp_scales, tokens = _calibrate_mlp(encoder, tokens)
            peak = max(peak, float(tokens.abs().max()))
            mlps.append(mlp_scales)
        final = normalized(tokens[:, : network.head_tokens], network.epsilon).flatten(1)
        final_norm = tensor_scale(final, _importance(network.head))
        return Calibration(peak, tuple(attentions), tuple(mlps), final_norm, stem)


def tensor_scale(values: Any, importance: Any = None) -> float:
    """Scale of a symmetric int8 code with the least weighted squared error.

    Args:
        values: float tensor [..., channels].
        importance: weight of each channel's squared error [channels]; equal where None.
    """
    rows = _sample(values.flatten(0, -2), values.shape[-1])

    def loss(scale: float) -> float:
        error = (rows - scale * (rows / scale).round().clamp(-128, 127)).square()
        return float((error if importance is None else error * importance).mean())

    return _best_scale(float(values.abs().max()) / 127, loss)


def _best_scale(greatest: float, loss: Callable[[float], float]) -> float:
    if greatest < SMALLEST_SCALE:
        return SMALLEST_SCALE
    return min((greatest * clipping for clipping in reversed(_CLIPPING)), key=loss)


def _sample(rows: Any, width: int) -> Any:
    """Every so many rows of [rows, width], so that at most about `SAMPLES` numbers remain; always the same ones."""
    step = max(1, math.ceil(rows.shape[0] * width / SAMPLES))
    return rows[::step]


def _importance(*layers: Any) -> Any:
    """Mean square of the weights that each input channel meets in the layers that read it."""
    return sum(layer.weight.square().sum(0) for layer in layers)


def _calibrate_attention(encoder: FoldedEncoder, tokens: Any, heads: int) -> tuple[AttentionScales, Any]:
    """Scales of an attention, and the residual stream [n, tokens, dim] after it."""
    count, length, dim = tokens.shape
    inputs = normalized(tokens, encoder.epsilons[0])
    keys = inputs @ encoder.key.weight.T
    key_mean = keys.mean((0, 1))
    streams = (encoder.query(inputs), keys - key_mean, encoder.value(inputs))
    query, key, value = (stream.unflatten(-1, (heads, -1)).transpose(1, 2) for stream in streams)
    scores = query @ key.transpose(-2, -1) / math.sqrt(dim // heads)  # [n, heads, tokens, tokens]
    context = (scores.softmax(-1) @ value).transpose(1, 2).reshape(count, length, dim)
    scales = AttentionScales(
        norm=tensor_scale(inputs, _importance(encoder.query, encoder.key, encoder.value)),
        query=tensor_scale(streams[0]),
        key=tensor_scale(streams[1]),
        value=tensor_scale(streams[2], _importance(encoder.projection)),
        score=_score_scale(scores),
        context=tensor_scale(context, _importance(encoder.projection)),
        key_mean=key_mean,
    )
    return scales, tokens + encoder.projection(context)


def _score_scale(scores: Any) -> float:
    """Score scale whose table softmax is nearest to the float one."""
    rows = _sample(scores.flatten(0, -2), scores.shape[-1])
    exact = rows.softmax(-1)

    def loss(scale: float) -> float:
        codes = (rows / scale).round().clamp(-128, 127)
        exps = (_EXP_GREATEST * ((codes - codes.amax(-1, keepdim=True)) * scale).exp()).round()
        return float((exps / exps.sum(-1, keepdim=True) - exact).square().mean())

    return _best_scale(float(scores.abs().max()) / 127, loss)


def _calibrate_mlp(encoder: FoldedEncoder, tokens: Any) -> tuple[MlpScales, Any]:
    """Scales of an MLP, and the residual stream after it."""
    inputs = normalized(tokens, encoder.epsilons[1])
    hidden = encoder.fc1(inputs)
    activated = encoder.activation(hidden)
    around = _activation_scales(hidden, activated, encoder.activation, _importance(encoder.fc2))
    scales = MlpScales(
        norm=tensor_scale(inputs, _importance(encoder.fc1)),
        gelu_in=around.scale_in,
        gelu_out=around.scale_out,
        zero_point=around.zero_point,
    )
    return scales, tokens + encoder.fc2(activated)


def _activation_scales(hidden: Any, activated: Any, activation: Callable[[Any], Any], importance: Any) -> ActivationScales:
    """Scales around an activation.

    Args:
        hidden: its input [..., channels].
        activated: its output.
        activation: on float tensors.
        importance: weight of each output channel's squared error [channels].
    """
    step = max(1, math.ceil(hidden.numel() / SAMPLES))
    rows, exact = (values.flatten(0, -2)[::step] for values in (hidden, activated))

    def input_loss(scale: float) -> float:
        codes = (rows / scale).round().clamp(-128, 127)
        return float(((activation(codes * scale) - exact).square() * importance).mean())

    scale_in = _best_scale(float(hidden.abs().max()) / 127, input_loss)
    low, high = min(0.0, float(activated.min())), max(0.0, float(activated.max()))

    def output_codes(scale: float) -> tuple[Any, int]:
        zero_point = -128 - round(low / scale)
        return (exact / scale + zero_point).round().clamp(-128, 127), zero_point

    def output_loss(scale: float) -> float:
        codes, zero_point = output_codes(scale)
        return float((((codes - zero_point) * scale - exact).square() * importance).mean())

    # Below |low| / 255 the zero point would leave int8.
    scale_out = max(_best_scale((high - low) / 255, output_loss), -low / 255)
    return ActivationScales(scale_in, scale_out, output_codes(scale_out)[1])


def _calibrate_stem(network: FoldedNetwork, images: Any) -> tuple[tuple[ActivationScales, ...], Any]:
    """Scales of the stem's convolutions, and their last map [n, channels, height, width]; the images without a stem."""
    patch = network.embedding.weight.unflatten(1, (network.patch_size**2, -1))
    readers = [convolution.weight.flatten(2).transpose(1, 2) for convolution in network.stem[1:]] + [patch]
    scales, maps = [], images
    for convolution, reader in zip(network.stem, readers, strict=False):
        hidden = convolution.convolved(maps)
        maps = convolution.activation(hidden)
        importance = reader.square().sum((0, 1))
        pixels = (values.permute(0, 2, 3, 1) for values in (hidden, maps))
        scales.append(_activation_scales(*pixels, convolution.activation, importance))
    return tuple(scales), maps

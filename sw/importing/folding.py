"""The plain ViT that a graph's values make: norms folded into the layers behind them, branches in encoders."""

import math

from sw.graph.float_network import FloatAttention, FloatConvolution, FloatEncoder, FloatLinear, FloatMlp, FloatNetwork
from sw.importing.values import Answer, AttentionBranch, MlpBranch, Normalized, Stream, Unsupported

_SCALE_TOLERANCE = 1e-6
"""Relative difference from 1 / sqrt(head channels) up to which a scale of scores is that one in another rounding."""


def folded(answer: Answer, picture: tuple[int, int, int]) -> FloatNetwork:
    """Fold norms into the layers behind them.

    Raises:
        Unsupported: the parts are there, but not in a plain ViT's order.
    """
    import torch

    norm, stream = answer.source, answer.source.stream
    if sorted(answer.parts) != list(range(len(answer.parts))) or len(answer.parts) > min(2, stream.prefix):
        found = sorted(answer.parts)
        raise Unsupported(f"the network must answer from its class token, and at most one more behind it, not from tokens {found}")
    heads = [_after_norm(layer, norm) for _, layer in sorted(answer.parts.items())]
    *stem, embedding = stream.patches.convolutions
    channels, height, width = picture
    side, before = embedding.stride, _size_before(picture, stem)
    if before[0] % side or before[1] % side:
        sides = f"{before[0]}x{before[1]}"
        what = "the embedding's map" if stem else "the image"
        raise Unsupported(f"{what} must have sides that are multiples of the patch {side}, not {sides}")
    encoders = _encoders(stream)
    return FloatNetwork(
        image_size=(height, width),
        channels=channels,
        patch_size=side,
        heads=_same("heads", [half.context.scores.heads for half in stream.branches if isinstance(half, AttentionBranch)]),
        embedding=FloatLinear(embedding.weight.permute(0, 2, 3, 1).flatten(1), embedding.bias),
        positions=stream.positions,
        encoders=encoders,
        head=FloatLinear(torch.cat([part.weight for part in heads], 1), sum(part.bias for part in heads)),
        epsilon=norm.epsilon,
        stem=tuple(stem),
        prefix_tokens=stream.prefix,
        head_tokens=len(heads),
    )


def _size_before(picture: tuple[int, int, int], stem: list[FloatConvolution]) -> tuple[int, int]:
    """Height and width of the stem's last map."""
    sides: tuple[int, ...] = picture[1:]
    for convolution in stem:
        kernels = convolution.weight.shape[2:]
        grown = (side + 2 * convolution.padding - kernel for side, kernel in zip(sides, kernels, strict=True))
        sides = tuple(side // convolution.stride + 1 for side in grown)
    return sides[0], sides[1]


def _encoders(stream: Stream) -> tuple[FloatEncoder, ...]:
    pairs = list(zip(stream.branches[::2], stream.branches[1::2], strict=False))
    if len(stream.branches) % 2 or not all(isinstance(a, AttentionBranch) and isinstance(m, MlpBranch) for a, m in pairs):
        raise Unsupported("the network must have encoders of an attention and then an MLP")
    if not pairs:
        raise Unsupported("the network must have at least one encoder")
    encoders = tuple(_encoder(attention, mlp) for attention, mlp in pairs)  # type: ignore[arg-type]
    _same("hidden channels", [len(mlp.fc1.weight) for _, mlp in pairs])  # type: ignore[union-attr]
    return encoders


def _encoder(attention: AttentionBranch, mlp: MlpBranch) -> FloatEncoder:
    scores = attention.context.scores
    norm = scores.source
    query = scores.query
    scale = scores.factor * math.sqrt(query.weight.shape[0] // scores.heads)
    if abs(scale - 1) > _SCALE_TOLERANCE:
        query = FloatLinear(query.weight * scale, query.bias * scale)
    query, key, value = (_after_norm(part, norm) for part in (query, scores.key, attention.context.value))
    key = FloatLinear(key.weight, key.bias.new_zeros(key.bias.shape))
    return FloatEncoder(
        (
            FloatAttention(norm.epsilon, query, key, value, attention.projection),
            FloatMlp(mlp.source.epsilon, _after_norm(mlp.fc1, mlp.source), mlp.fc2, mlp.activation),
        )
    )


def _after_norm(layer: FloatLinear, norm: Normalized) -> FloatLinear:
    """A layer on a LayerNorm's output as a layer on the pure normalisation."""
    weight, bias = layer.weight, layer.bias
    if norm.weight is not None:
        bias = bias if norm.bias is None else bias + weight @ norm.bias
        weight = weight * norm.weight
    return FloatLinear(weight, bias)


def _same(what: str, numbers: list[int]) -> int:
    if len(set(numbers)) != 1:
        raise Unsupported(f"all encoders must have the same number of {what}, not {sorted(set(numbers))}")
    return numbers[0]

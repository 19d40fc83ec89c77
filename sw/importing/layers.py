"""Layers: what the ATen operations with weights, and attention's, do to the values of `sw.importing.values`.

A function here has the arguments of the ATen operation of its name. It returns a value, or raises `Unsupported` with what
would be right.
"""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from sw.graph.float_network import FloatConvolution, FloatLinear
from sw.importing.values import (
    Answer,
    Context,
    Elementwise,
    Linear,
    Map,
    Normalized,
    Probabilities,
    Scores,
    Stream,
    Unsupported,
    Value,
    identity,
    whole,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_NAMES = {
    Map: "a map", Stream: "some of its channels", Normalized: "another LayerNorm's output", Linear: "a linear layer's output",
    Elementwise: "an activation", Scores: "scores", Probabilities: "a softmax", Context: "an attention's output",
    Answer: "an answer",
}  # fmt: skip


def conv2d(
    inputs: Value, weight: "Tensor", bias: "Tensor | None" = None, stride: int | list[int] = 1,
    padding: int | list[int] | str = 0, dilation: int | list[int] = 1, groups: int = 1,
) -> Value:  # fmt: skip
    """A convolution of the picture or of a map."""
    if not isinstance(inputs.source, Map) or not inputs.is_whole():
        raise Unsupported("a convolution must read the picture or the map of another convolution")
    if groups != 1 or _only(dilation) != 1:
        raise Unsupported("a convolution must have groups 1 and dilation 1")
    step, border = _only(stride), 0 if padding == "valid" else _only(padding)
    if not (isinstance(step, int) and isinstance(border, int)):
        raise Unsupported("a convolution must have one stride and one padding for both axes")
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    height, width = ((inputs.source.size[axis] + 2 * border - weight.shape[axis + 1]) // step + 1 for axis in (1, 2))
    size = (weight.shape[0], height, width)
    convolution = FloatConvolution(weight, bias, step, border, identity)
    return whole(Map((*inputs.source.convolutions, convolution), size), (1, *size))


def batch_norm(
    inputs: Value, weight: "Tensor | None", bias: "Tensor | None", mean: "Tensor", variance: "Tensor", training: bool,
    momentum: float, eps: float, cudnn: bool,
) -> Value:  # fmt: skip
    """BatchNorm with its stored statistics, folded into the convolution before it."""
    source = inputs.source
    if training or not isinstance(source, Map) or not source.convolutions or source.convolutions[-1].activation is not identity:
        raise Unsupported("a BatchNorm must stand directly behind a convolution, in eval mode")
    last = source.convolutions[-1]
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shifted = (last.bias - mean) * scale
    folded = replace(last, weight=last.weight * scale[:, None, None, None], bias=shifted if bias is None else shifted + bias)
    return Value(replace(source, convolutions=(*source.convolutions[:-1], folded)), inputs.places)


def cat(parts: "list[Value | Tensor]", dim: int = 0) -> Value:
    """Class and register tokens before the patches' tokens."""
    import torch

    last, constants = parts[-1], [part for part in parts[:-1] if not isinstance(part, Value)]
    stream = embedded(last) if isinstance(last, Value) and isinstance(last.source, Map | Stream) else None
    if stream is None or stream.branches or len(constants) < len(parts) - 1:
        raise Unsupported("a cat must put parameters, such as a class token, before the patches' tokens")
    if last.places.ndim != 3 or dim not in (1, -2):
        raise Unsupported("a cat must be of tensors [n, tokens, channels] along their tokens")
    rows = [part.reshape(-1, stream.size[1]) for part in constants]
    positions = torch.cat([*rows, stream.positions])
    extended = Stream(stream.patches, stream.prefix + sum(map(len, rows)), positions, ())
    return whole(extended, (1, *extended.size))


def stack(parts: "list[Value | Tensor]", dim: int = 0) -> Value:
    """Nothing of a plain ViT: parallel blocks stack their branches' outputs, rotary positions the channels of queries and keys."""
    linears = [as_linear(part).source for part in parts if isinstance(part, Value)]
    if linears and all(isinstance(part, Linear) and isinstance(part.source, Context | Elementwise) for part in linears):
        raise Unsupported("an encoder must add its branches one after the other, not several of the same stream at once")
    raise Unsupported("an attention must use its queries and keys as they are, without rotary positions")


def layer_norm(
    inputs: Value, shape: list[int], weight: "Tensor | None" = None, bias: "Tensor | None" = None, eps: float = 1e-5,
    cudnn: bool = True,
) -> Value:  # fmt: skip
    """LayerNorm of the residual stream, or of some of its rows."""
    import torch

    source = embedded(inputs) if isinstance(inputs.source, Map) and inputs.places.ndim == 3 else inputs.source
    if not isinstance(source, Stream) or len(shape) != 1:
        raise Unsupported(f"a LayerNorm must read the residual stream over all its channels, not {_NAMES[type(source)]}")
    value = Value(source, inputs.places) if source is inputs.source else whole(source, tuple(inputs.places.shape))
    _, order = value.rows()
    if not torch.equal(order, torch.arange(len(order))):
        raise Unsupported("a LayerNorm must read the channels in the residual stream's order")
    return Value(Normalized(source, weight, bias, eps), value.places)


def linear(inputs: Value, weight: "Tensor", bias: "Tensor | None" = None) -> Value:
    """A linear layer on every token, or on some."""
    import torch

    source = inputs.source
    if not isinstance(source, Normalized | Context | Elementwise):
        raise Unsupported("a linear layer must read a LayerNorm, an attention or an activation")
    rows, order = inputs.rows()
    if not torch.equal(order, torch.arange(len(order))):
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(len(order))
        weight = weight[:, inverse.to(weight.device)]
    layer = FloatLinear(weight, weight.new_zeros(weight.shape[0]) if bias is None else bias)
    places = rows[:, None] * len(weight) + torch.arange(len(weight))
    return Value(Linear(source, layer), places.reshape(*inputs.places.shape[:-1], len(weight)))


def matmul(left: "Value | Tensor", right: "Value | Tensor") -> Value:
    """Queries times keys, probabilities times values, or a linear layer written as a product."""
    if isinstance(left, Value) and not isinstance(right, Value) and right.ndim == 2:
        return linear(left, right.T)
    if not (isinstance(left, Value) and isinstance(right, Value)):
        raise Unsupported("a matrix product must be a linear layer or an attention's")
    if isinstance(left.source, Probabilities):
        return _context(left, right)
    keys = Value(right.source, right.places.transpose(-1, -2))
    return _scores(left, keys, 1.0, (*left.places.shape[:-1], right.places.shape[-1]))


def softmax(inputs: Value, dim: int, dtype: "torch.dtype | None" = None) -> Value:
    """Softmax of scores over the keys."""
    if not isinstance(inputs.source, Scores) or dim not in (-1, inputs.places.ndim - 1) or not inputs.is_whole():
        raise Unsupported("a softmax must be of an attention's scores over its keys")
    return Value(Probabilities(inputs.source), inputs.places)


def scaled_dot_product_attention(
    query: Value, key: Value, value: Value, attn_mask: "Tensor | None" = None, dropout_p: float = 0.0,
    is_causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    """A whole attention."""
    if attn_mask is not None or is_causal or dropout_p or enable_gqa:
        raise Unsupported("an attention must have no mask and no dropout")
    factor = 1 / math.sqrt(query.places.shape[-1]) if scale is None else scale
    scores = _scores(query, key, factor, (*query.places.shape[:-1], key.places.shape[-2]))
    return _context(Value(Probabilities(scores.source), scores.places), value)  # type: ignore[arg-type]


def dropout(inputs: Value, p: float, train: bool) -> Value:
    """Nothing, in eval mode."""
    if train and p:
        raise Unsupported("a dropout must be in eval mode")
    return inputs


def answer(output: object) -> Answer:
    """The network's answer as a linear layer on the normalised rows of its first tokens."""
    if not isinstance(output, Value) or (found := linear_answer(output)) is None or output.places.ndim != 2:
        raise Unsupported("the network must answer with one tensor [n, classes], linear in the normalised class token")
    return found


def linear_answer(value: Value) -> Answer | None:
    """The value as an answer; None where it is none."""
    import torch

    value = as_linear(value)
    source = value.source
    if isinstance(source, Answer):
        return source if value.is_whole() else None
    if not isinstance(source, Linear) or not isinstance(source.source, Normalized):
        return None
    rows, order = value.rows()
    if len(rows) != 1 or not torch.equal(order, torch.arange(len(order))):
        return None
    return Answer(source.source, {int(rows[0]): source.layer})


def as_linear(value: Value) -> Value:
    """A scaled linear layer as a linear layer."""
    source = value.source
    if isinstance(source, Elementwise) and source.scale is not None:
        layer = source.linear.layer
        scaled = Linear(source.linear.source, FloatLinear(layer.weight * source.scale, layer.bias * source.scale))
        return Value(scaled, value.places)
    return value


def embedded(value: Value) -> Stream | None:
    """The embedding's tokens [1, tokens, dim] as a residual stream; None where the value is something else."""
    import torch

    source = value.source
    if isinstance(source, Stream):
        return source if value.is_whole() else None
    if not isinstance(source, Map) or not source.convolutions or value.places.ndim != 3:
        return None
    channels, height, width = source.size
    canonical = torch.arange(channels * height * width).reshape(channels, height * width).T
    if not torch.equal(value.places[0], canonical):
        return None
    last = source.convolutions[-1]
    kernel = tuple(last.weight.shape[2:])
    if kernel != (last.stride, last.stride) or last.padding or last.activation is not identity:
        raise Unsupported(
            "tokens must come from a convolution whose stride is its square kernel, without padding and activation, not kernel "
            f"{kernel[0]}x{kernel[1]}, stride {last.stride}, padding {last.padding}"
        )
    return Stream(source, 0, last.weight.new_zeros(height * width, channels), ())


def _only(value: object) -> object:
    """The number that a list has throughout, or the number itself; None where the list has several."""
    if isinstance(value, list | tuple):
        return value[0] if len(set(value)) == 1 else None
    return value


def _head_major(value: Value) -> tuple[Linear, FloatLinear, int]:
    """(linear, its layer with outputs head by head, heads) of queries, keys or values."""
    value = as_linear(value)
    if not isinstance(value.source, Linear) or not isinstance(value.source.source, Normalized):
        raise Unsupported("queries, keys and values must each be a linear layer of a LayerNorm")
    channels, layer = value.heads(), value.source.layer
    chosen = channels.flatten().to(layer.weight.device)
    return value.source, FloatLinear(layer.weight[chosen], layer.bias[chosen]), len(channels)


def _scores(query: Value, key: Value, factor: float, shape: tuple[int, ...]) -> Value:
    """Scores of queries and keys, both [..., heads, tokens, head channels]."""
    (first, queries, heads), (second, keys, key_heads) = _head_major(query), _head_major(key)
    if first.source is not second.source or heads != key_heads:
        raise Unsupported("an attention must have queries and keys of the same tokens and as many heads of both")
    assert isinstance(first.source, Normalized)
    return whole(Scores(first.source, queries, keys, heads, factor), shape)


def _context(probabilities: Value, value: Value) -> Value:
    """Context [..., heads, tokens, head channels]."""
    import torch

    assert isinstance(probabilities.source, Probabilities)
    scores = probabilities.source.scores
    linear_value, layer, heads = _head_major(value)
    if linear_value.source is not scores.source or heads != scores.heads or not probabilities.is_whole():
        raise Unsupported("an attention must have values of the same tokens and as many heads as its queries")
    context = Context(scores, layer)
    tokens, width = context.size
    dim = scores.source.size[1]
    if width != dim:
        raise Unsupported(f"an attention's heads must together have the {dim} channels of the network, not {width}")
    places = torch.arange(tokens * width).reshape(tokens, heads, width // heads).transpose(0, 1)
    return Value(context, places.reshape(*probabilities.places.shape[:-1], width // heads))

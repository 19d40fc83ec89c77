"""Arithmetic: what ATen's elementwise operations do to the values of `sw.importing.values`.

Constants scale or shift layers, functions of single numbers are activations, and sums are the residual stream's branches or the
answer's parts. A function here has the arguments of the ATen operation of its name. It returns a value, or raises `Unsupported`
with what would be right.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sw.graph.float_network import FloatLinear
from sw.importing.layers import as_linear, embedded, linear_answer
from sw.importing.values import (
    Answer,
    AttentionBranch,
    Context,
    Elementwise,
    Function,
    Linear,
    Map,
    MlpBranch,
    Normalized,
    Scores,
    Stream,
    Unsupported,
    Value,
    identity,
    whole,
)

if TYPE_CHECKING:
    from torch import Tensor


def mul(left: Any, right: Any) -> Value:
    """A scaling by a constant, or a product of functions of the same numbers."""
    return _combined(lambda a, b: a * b, left, right) if _both(left, right) else _scaled(*_constant_last(left, right))


def div(left: Any, right: Any, *, rounding_mode: None = None) -> Value:
    """A division by a constant, or of functions of the same numbers."""
    if rounding_mode is not None:
        raise Unsupported("a division must not round")
    if _both(left, right):
        return _combined(lambda a, b: a / b, left, right)
    if not isinstance(left, Value):
        return elementwise(lambda x: left / x, right)
    return _scaled(left, 1 / right)


def add(left: Any, right: Any, alpha: float = 1) -> Value:
    """A branch added to the residual stream, positions or a bias added, or a sum of functions of the same numbers."""
    if alpha != 1:
        raise Unsupported("an addition must have alpha 1")
    if not _both(left, right):
        return _shifted(*_constant_last(left, right))
    for stream, branch in ((left, right), (right, left)):
        if isinstance(stream.source, Stream):
            return _residual(stream, branch)
    answers = linear_answer(left), linear_answer(right)
    if answers[0] is not None and answers[1] is not None and answers[0].parts.keys().isdisjoint(answers[1].parts):
        if answers[0].source is not answers[1].source:
            raise Unsupported("answers that are added must read the same LayerNorm")
        return whole(Answer(answers[0].source, answers[0].parts | answers[1].parts), tuple(left.places.shape))
    return _combined(lambda a, b: a + b, left, right)


def sub(left: Any, right: Any, alpha: float = 1) -> Value:
    """The difference of a constant or of functions of the same numbers."""
    if alpha != 1:
        raise Unsupported("a subtraction must have alpha 1")
    if _both(left, right):
        return _combined(lambda a, b: a - b, left, right)
    return _shifted(left, -right) if isinstance(left, Value) else elementwise(lambda x: left - x, right)


def neg(inputs: Value) -> Value:
    """The negative."""
    return _scaled(inputs, -1)


def elementwise(function: Function, inputs: Value) -> Value:
    """A function of each number: an activation of a linear layer or of a convolution."""
    source = inputs.source
    if isinstance(source, Linear):
        return Value(Elementwise(source, function), inputs.places)
    if isinstance(source, Elementwise):
        return Value(Elementwise(source.linear, _chain(source.function, function)), inputs.places)
    if isinstance(source, Map) and source.convolutions:
        last = source.convolutions[-1]
        activated = replace(last, activation=_chain(last.activation, function))
        return Value(replace(source, convolutions=(*source.convolutions[:-1], activated)), inputs.places)
    raise Unsupported("a function of each number must read a linear layer or a convolution")


def _both(left: object, right: object) -> bool:
    return isinstance(left, Value) and isinstance(right, Value)


def _constant_last(left: Any, right: Any) -> tuple[Value, Any]:
    return (left, right) if isinstance(left, Value) else (right, left)


def _chain(first: Function, second: Function) -> Function:
    return second if first is identity else lambda x: second(first(x))


def _function(value: Value) -> tuple[Linear, Function]:
    if isinstance(value.source, Linear):
        return value.source, identity
    if isinstance(value.source, Elementwise):
        return value.source.linear, value.source.function
    raise Unsupported("it must join the residual stream with a branch, or functions of one linear layer's output")


def _combined(operation: Callable[["Tensor", "Tensor"], "Tensor"], left: Value, right: Value) -> Value:
    import torch

    (base, first), (other, second) = _function(left), _function(right)
    if base is not other or not torch.equal(left.places, right.places):
        raise Unsupported("it must join the residual stream with a branch, or functions of one linear layer's output")
    return Value(Elementwise(base, lambda x: operation(first(x), second(x))), left.places)


def _per_channel(value: Value, constant: "Tensor") -> "Tensor":
    """The constant as one number per channel of the value's source, float32 [channels]."""
    import torch

    width = value.source.size[-1]
    spread = constant.expand(value.places.shape) if constant.ndim <= value.places.ndim else constant
    channels = (value.places % width).to(constant.device)
    if tuple(spread.shape) != tuple(value.places.shape):
        raise Unsupported("a constant must have one number per channel")
    result = constant.new_ones(width)
    result[channels.flatten()] = spread.flatten()
    if not constant.is_meta and not torch.equal(result[channels], spread):
        raise Unsupported("a constant must have one number per channel")
    return result


def _scaled(value: Value, factor: "Tensor | float") -> Value:
    number: float | None = None
    if isinstance(factor, int | float):
        number = factor
    elif factor.numel() == 1:
        number = 1.0 if factor.is_meta else float(factor)  # only the shapes matter on the meta device
    source = value.source
    if number is not None:
        if isinstance(source, Linear):
            return Value(Elementwise(source, lambda x: x * number, number), value.places)
        if isinstance(source, Elementwise):
            scale = None if source.scale is None else source.scale * number
            return Value(Elementwise(source.linear, _chain(source.function, lambda x: x * number), scale), value.places)
        if isinstance(source, Scores):
            return Value(replace(source, factor=source.factor * number), value.places)
        if isinstance(source, Answer):
            parts = {token: FloatLinear(part.weight * number, part.bias * number) for token, part in source.parts.items()}
            return Value(Answer(source.source, parts), value.places)
    else:
        value = as_linear(value)
        if isinstance(value.source, Linear):
            factors, layer = _per_channel(value, factor), value.source.layer
            scaled = FloatLinear(layer.weight * factors[:, None], layer.bias * factors)
            return Value(Linear(value.source.source, scaled), value.places)
    raise Unsupported("a scaling must be of a linear layer's output or, by one number, of an activation or of scores")


def _shifted(value: Value, constant: "Tensor | float") -> Value:
    if isinstance(constant, int | float):
        return elementwise(lambda x: x + constant, value)
    if isinstance(value.source, Map | Stream):
        stream = embedded(value)
        if stream is None or stream.branches:
            raise Unsupported("positions must be added before the first encoder, to tokens [n, tokens, channels]")
        if tuple(constant.shape[-2:]) != stream.size and constant.numel() != stream.size[1]:
            raise Unsupported(f"positions must be {list(stream.size)}, not {list(constant.shape)}")
        moved = replace(stream, positions=stream.positions + constant.reshape(-1, stream.size[1]))
        return whole(moved, tuple(value.places.shape))
    value = as_linear(value)
    if isinstance(value.source, Linear):
        layer = value.source.layer
        added = layer.bias + _per_channel(value, constant) if constant.numel() > 1 else layer.bias + constant
        return Value(Linear(value.source.source, FloatLinear(layer.weight, added)), value.places)
    raise Unsupported("a constant must be added to the tokens before the first encoder or to a linear layer's output")


def _residual(stream: Value, branch: Value) -> Value:
    source, branch = stream.source, as_linear(branch)
    assert isinstance(source, Stream)
    layer = branch.source
    if not isinstance(layer, Linear) or not stream.is_whole() or not branch.is_whole() or layer.size != source.size:
        raise Unsupported("a residual addition must be of a whole attention or MLP, ending in a linear layer")
    before = layer.source
    added: AttentionBranch | MlpBranch | None = None
    if isinstance(before, Context) and before.scores.source.stream is source:
        added = AttentionBranch(before, layer.layer)
    elif isinstance(before, Elementwise):
        normalized = before.linear.source
        if isinstance(normalized, Normalized) and normalized.stream is source:
            added = MlpBranch(normalized, before.linear.layer, before.function, layer.layer)
    if added is None:
        raise Unsupported("a residual addition must be of an attention or an MLP that reads the same residual stream")
    return Value(replace(source, branches=(*source.branches, added)), stream.places)

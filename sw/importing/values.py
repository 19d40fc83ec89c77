"""What the tensors of an exported ViT stand for.

A tensor of the graph is a `Value`: a `source`, which is a matrix of tokens and channels (or a map, or scores) in one
canonical order, and for every element of the tensor its place in that source. Reshapes, transposes, splits and selections
are then executed on the places alone, whatever their order, and an operation that computes reads from the places which
channels and rows it gets.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sw.graph.float_network import FloatConvolution, FloatLinear

if TYPE_CHECKING:
    from torch import Tensor

Function: TypeAlias = Callable[["Tensor"], "Tensor"]
"""Of each number of a tensor."""


class Unsupported(Exception):
    """What the operation at hand would have to be; the walk adds which operation it is and where."""


@dataclass(frozen=True, eq=False)
class Map:
    """The picture, or what convolutions make of it; canonical order [channels, height, width].

    The last convolution's activation is `identity` as long as none has been met.
    """

    convolutions: tuple[FloatConvolution, ...]
    size: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Stream:
    """The residual stream [tokens, dim]: the embedding with its positions, and the branches added to it.

    Attributes:
        patches: the embedding's map; each of its pixels is the part of one patch's token that depends on the picture.
        prefix: tokens without a patch, before all others.
        positions: float32 [tokens, dim], what is added to the patches, or stands alone in prefix tokens.
        branches: in order.
    """

    patches: Map
    prefix: int
    positions: "Tensor"
    branches: tuple["Branch", ...]

    @property
    def size(self) -> tuple[int, int]:
        """Tokens and channels."""
        return tuple(self.positions.shape)


@dataclass(frozen=True, eq=False)
class Normalized:
    """LayerNorm of the residual stream over its channels, [tokens, dim]; weight and bias may be None."""

    stream: Stream
    weight: "Tensor | None"
    bias: "Tensor | None"
    epsilon: float

    @property
    def size(self) -> tuple[int, int]:
        """Tokens and channels."""
        return self.stream.size


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer on every token, [tokens, outputs]."""

    source: "Normalized | Context | Elementwise"
    layer: FloatLinear

    @property
    def size(self) -> tuple[int, int]:
        """Tokens and channels."""
        return self.source.size[0], self.layer.weight.shape[0]


@dataclass(frozen=True, eq=False)
class Elementwise:
    """A function of each number of a linear layer's output; `scale` is its factor where it is nothing but a scaling."""

    linear: Linear
    function: Function
    scale: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Tokens and channels."""
        return self.linear.size


@dataclass(frozen=True, eq=False)
class Scores:
    """Queries times keys times `factor`, [heads, tokens, tokens]; the layers' outputs are head by head."""

    source: Normalized
    query: FloatLinear
    key: FloatLinear
    heads: int
    factor: float

    @property
    def size(self) -> tuple[int, int, int]:
        """Heads, queries and keys."""
        return self.heads, self.source.size[0], self.source.size[0]


@dataclass(frozen=True, eq=False)
class Probabilities:
    """Softmax of scores over the keys."""

    scores: Scores

    @property
    def size(self) -> tuple[int, int, int]:
        """Heads, queries and keys."""
        return self.scores.size


@dataclass(frozen=True, eq=False)
class Context:
    """Probabilities times values, [tokens, heads · head channels], head by head."""

    scores: Scores
    value: FloatLinear

    @property
    def size(self) -> tuple[int, int]:
        """Tokens and channels."""
        return self.scores.size[1], self.value.weight.shape[0]


@dataclass(frozen=True, eq=False)
class Answer:
    """A sum over tokens of a linear layer on that token's normalised row, [1, classes]."""

    source: Normalized
    parts: dict[int, FloatLinear]

    @property
    def size(self) -> tuple[int, int]:
        """One row, and classes."""
        return 1, next(iter(self.parts.values())).weight.shape[0]


@dataclass(frozen=True, eq=False)
class AttentionBranch:
    """An attention added to the residual stream."""

    context: Context
    projection: FloatLinear


@dataclass(frozen=True, eq=False)
class MlpBranch:
    """An MLP added to the residual stream."""

    source: Normalized
    fc1: FloatLinear
    activation: Function
    fc2: FloatLinear


Branch: TypeAlias = AttentionBranch | MlpBranch
Source: TypeAlias = Map | Stream | Normalized | Linear | Elementwise | Scores | Probabilities | Context | Answer


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph: element e is number ``places[e]`` of `source`; int64 places of the tensor's shape."""

    source: Source
    places: "Tensor"

    def rows(self) -> "tuple[Tensor, Tensor]":
        """Return (rows [n], order [channels]): element [..., c] of the nth row is channel order[c] of row rows[n].

        Raises:
            Unsupported: the last axis is not all channels of a row, in one order.
        """
        import torch

        width = self.source.size[-1]
        flat = self.places.reshape(-1, self.places.shape[-1])
        rows, order = flat[:, 0] // width, flat[0] % width
        if flat.shape[1] != width or not torch.equal(flat, rows[:, None] * width + order):
            raise Unsupported(f"its input must have all {width} channels of a token on the last axis")
        if not torch.equal(order.sort().values, torch.arange(width)):
            raise Unsupported("its input must have every channel once")
        return rows, order

    def is_whole(self) -> bool:
        """Whether the tensor is all of the source in canonical order, with axes of one element or none before it."""
        import torch

        count = math.prod(self.source.size)
        return self.places.numel() == count and torch.equal(self.places.flatten(), torch.arange(count))

    def heads(self) -> "Tensor":
        """Return the channels [heads, head channels] of a tensor [..., heads, tokens, head channels] with all tokens in order.

        Raises:
            Unsupported: it is something else.
        """
        import torch

        tokens, width = self.source.size[-2:]
        places = self.places.reshape(-1, *self.places.shape[-2:])
        channels = places[:, 0] % width
        rows = torch.arange(tokens)[:, None] * width
        if places.shape[1] != tokens or not torch.equal(places, rows + channels[:, None]):
            raise Unsupported("queries, keys and values must be [heads, tokens, channels] of all tokens in order")
        return channels


def whole(source: Source, shape: tuple[int, ...]) -> Value:
    """Return all of a source as a tensor of that shape."""
    import torch

    return Value(source, torch.arange(math.prod(source.size)).reshape(shape))


def identity(values: "Tensor") -> "Tensor":
    """Return the values: the activation of a convolution without one."""
    return values

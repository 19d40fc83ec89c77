"""A ViT with LayerNorm's affine parts and LayerScale folded into the linear layers beside them.

W (gamma ⊙ x̂ + beta) + b = (W · diag gamma) x̂ + (W beta + b), and scale ⊙ (W x + b) = (diag scale · W) x + scale ⊙ b;
so every LayerNorm is a pure normalisation and every branch ends in a linear layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sw.graph.branch import TOKENS, BranchKind

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class FloatLinear:
    """``x @ weight.T + bias``: float32 weight [outputs, inputs] and bias [outputs]."""

    weight: "Tensor"
    bias: "Tensor"

    def __call__(self, inputs: "Tensor") -> "Tensor":
        """Return the outputs [..., outputs] of float32 inputs [..., inputs]."""
        return inputs @ self.weight.T + self.bias


@dataclass(frozen=True, eq=False)
class FloatConvolution:
    """A convolution of a stem with BatchNorm folded in, and the elementwise activation behind it.

    Attributes:
        weight: float32 [outputs, inputs, kernel height, kernel width].
        bias: float32 [outputs].
        stride: of both axes.
        padding: zeros on all four sides.
        activation: on float tensors, such as a ReLU.
    """

    weight: "Tensor"
    bias: "Tensor"
    stride: int
    padding: int
    activation: Callable[["Tensor"], "Tensor"]

    def convolved(self, maps: "Tensor") -> "Tensor":
        """Return the map before the activation, [n, outputs, height', width'], of float32 maps [n, inputs, height, width]."""
        from torch.nn.functional import conv2d

        return conv2d(maps, self.weight, self.bias, stride=self.stride, padding=self.padding)


@dataclass(frozen=True, eq=False)
class FloatAttention:
    """Attention over the tokens of a stream.

    Attributes:
        epsilon: of the norm before it.
        query, key, value: [dim, dim]; head h has rows h * head_dim .... An imported key has no bias: softmax ignores what one
            adds to a row of scores. Calibration gives it one that centres the keys.
        projection: [dim, dim].
        reads, adds_to: streams.
    """

    kind: ClassVar = BranchKind.ATTENTION
    epsilon: float
    query: FloatLinear
    key: FloatLinear
    value: FloatLinear
    projection: FloatLinear
    reads: str = TOKENS
    adds_to: str = TOKENS


@dataclass(frozen=True, eq=False)
class FloatMlp:
    """Two linear layers with an activation between them.

    Attributes:
        epsilon: of the norm before it.
        fc1: [hidden, dim].
        fc2: [dim, hidden].
        activation: on float tensors.
        reads, adds_to: streams.
    """

    kind: ClassVar = BranchKind.MLP
    epsilon: float
    fc1: FloatLinear
    fc2: FloatLinear
    activation: Callable[["Tensor"], "Tensor"]
    reads: str = TOKENS
    adds_to: str = TOKENS


FloatBranch = FloatAttention | FloatMlp


@dataclass(frozen=True, eq=False)
class FloatEncoder:
    """One encoder: its branches in the order of computation."""

    branches: tuple[FloatBranch, ...]


@dataclass(frozen=True, eq=False)
class FloatNetwork:
    """A plain ViT, folded.

    Attributes:
        image_size, channels, heads: as in `sw.networks.spec.NetworkSpec`.
        patch_size: side of a patch in pixels of the map that the embedding reads: the picture, or the stem's last map.
        embedding: weight [dim, patch_size² · channels of that map] in the order (ky, kx, channel).
        positions: float32 [tokens, dim]: initial residual stream, the class token included.
        encoders: in order.
        head: classifier; its inputs are the normalised rows of the first `head_tokens` tokens, one behind the other.
        epsilon: of the final norm.
        stem: convolutions before the embedding; empty for a plain ViT.
        prefix_tokens: tokens without a patch (class, distillation and register tokens), before all others.
        head_tokens: tokens that the head reads: 1, or 2 with a distillation token.
    """

    image_size: tuple[int, int]
    channels: int
    patch_size: int
    heads: int
    embedding: FloatLinear
    positions: "Tensor"
    encoders: tuple[FloatEncoder, ...]
    head: FloatLinear
    epsilon: float
    stem: tuple[FloatConvolution, ...] = ()
    prefix_tokens: int = 1
    head_tokens: int = 1

    @property
    def depth(self) -> int:
        """Encoders."""
        return len(self.encoders)

    def patches(self, maps: "Tensor") -> "Tensor":
        """Return the embedding's input rows [n, patches, patch_size² · channels] of the maps [n, channels, height, width]
        that it reads: images, or the stem's last maps."""
        count, channels, height, width = maps.shape
        side = self.patch_size
        grid = maps.reshape(count, channels, height // side, side, width // side, side)
        return grid.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, side * side * channels)

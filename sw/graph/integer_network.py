"""The integer network: a ViT whose every number is what the accelerator computes with. numpy only.

A code c of a tensor with scale s stands for the real number s·c. GEMM inputs and weights are int8, the residual stream
is int16 with one scale for the whole network, biases are int32 at the scale of their accumulator, and requantization is
``numerics.requantize`` with a multiplier and a shift per output channel.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sw.graph.branch import TOKENS, BranchKind
from sw.graph.convolution import ConvolutionShape
from sw.graph.path import Path


@dataclass(frozen=True, eq=False)
class IntegerLinear:
    """A matrix product with its requantization; LayerNorm's affine part and LayerScale are folded in.

    Attributes:
        weights: int8 [outputs, inputs] in [-127, 127].
        bias: int32 [outputs], added to the accumulator; holds the input's zero point.
        multiplier: uint16 [outputs].
        shift: uint8 [outputs], at most 63.
    """

    weights: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray

    @property
    def outputs(self) -> int:
        """Output channels."""
        return self.weights.shape[0]

    @property
    def inputs(self) -> int:
        """Elements of a dot product."""
        return self.weights.shape[1]

    def rows(self, start: int, stop: int) -> "IntegerLinear":
        """Output channels start ... stop - 1, such as those of one head."""
        return IntegerLinear(self.weights[start:stop], self.bias[start:stop], self.multiplier[start:stop], self.shift[start:stop])


@dataclass(frozen=True, eq=False)
class IntegerConvolution:
    """A convolution of a stem with its activation.

    Attributes:
        linear: [outputs, kernel² · inputs] in the order (ky, kx, channel), to the activation's symmetric int8 input; the input's
            zero point is in its bias, also for the pixels of padding, which carry the code of 0.
        table: the activation: uint8 [256], entry code + 128; each entry is an int8 in two's complement. The least code's entry
            is the code of 0.
        kernel, stride, padding: of both axes.
    """

    linear: IntegerLinear
    table: np.ndarray
    kernel: int
    stride: int
    padding: int

    @property
    def shape(self) -> ConvolutionShape:
        """The numbers that its place in the banks depends on."""
        return ConvolutionShape(
            self.linear.inputs // self.kernel**2, self.linear.outputs, self.kernel, self.stride, self.padding
        )


@dataclass(frozen=True)
class IntegerNorm:
    """LayerNorm without its affine part: int16 residual to int8.

    Attributes:
        scale: real value of one output step; the output is (x - mean) / deviation.
        multiplier: in [2^15, 2^16).
        shift: multiplier * 2^-shift = channels / (16 * scale), for the machine divides 16·(x - mean) by
            channels · deviation.
        epsilon: channels² · epsilon in squared residual units, at least 1, 32 bits.
    """

    scale: float
    multiplier: int
    shift: int
    epsilon: int


@dataclass(frozen=True, eq=False)
class IntegerAttention:
    """LayerNorm, attention and projection of one encoder.

    Attributes:
        norm: LayerNorm before it.
        query, key, value: [dim, dim]; head h has rows h * head_dim ...; outputs are symmetric int8.
        score_multiplier, score_shift: requantization of q·k to a score; 1 / sqrt(head_dim) is in it.
        score_scale: real value (nats) of one score step.
        exp_table: uint8 [256], entry d for a score d below the row's maximum.
        context_multiplier, context_shift: scale of the values over that of the context.
        projection: [dim, dim], to the residual stream.
        reads, adds_to: streams.
    """

    kind: ClassVar = BranchKind.ATTENTION
    norm: IntegerNorm
    query: IntegerLinear
    key: IntegerLinear
    value: IntegerLinear
    score_multiplier: int
    score_shift: int
    score_scale: float
    exp_table: np.ndarray
    context_multiplier: int
    context_shift: int
    projection: IntegerLinear
    reads: str = TOKENS
    adds_to: str = TOKENS


@dataclass(frozen=True, eq=False)
class IntegerMlp:
    """LayerNorm and MLP of one encoder.

    Attributes:
        norm: LayerNorm before it.
        fc1: [hidden, dim], to the activation's int8 input, whose code of 0 is in the bias.
        activation_table: of the MLP's activation, whichever it is: uint8 [256], entry code + 128; each entry is an int8 in two's
            complement.
        fc2: [dim, hidden], to the residual stream; the activation's zero point is in its bias.
        reads, adds_to: streams.
    """

    kind: ClassVar = BranchKind.MLP
    norm: IntegerNorm
    fc1: IntegerLinear
    activation_table: np.ndarray
    fc2: IntegerLinear
    reads: str = TOKENS
    adds_to: str = TOKENS


IntegerBranch = IntegerAttention | IntegerMlp


@dataclass(frozen=True, eq=False)
class IntegerEncoder:
    """One encoder: its branches in the order of computation, without those that the network's path skips."""

    branches: tuple[IntegerBranch, ...]


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """A whole ViT. Its image is int8 [height, width, channels], pixel - 128, standing for (pixel - 128) / 128.

    Attributes:
        image_size: height and width in pixels.
        channels: image channels.
        patch_size: side of a patch in pixels of the map that the embedding reads: the image, or the stem's last map.
        heads: attention heads.
        residual_scale: real value of one step of the residual stream.
        embedding: [dim, patch_size² · channels of that map] in the order (ky, kx, channel), to the residual stream.
        initial_residual: int16 [tokens, dim]: position embeddings; for prefix tokens the token with its position, less
            what the embedding of an all-zero patch adds.
        encoders: in order.
        final_norm: LayerNorm before the head.
        head: [classes, head_tokens * dim], to logits of 24 bits in 2^-12 nat; reads the first tokens one behind the other.
        prefix_tokens: tokens without a patch, before all others: class, distillation and register tokens.
        head_tokens: tokens that the head reads: 1, or 2 with a distillation token.
        stem: convolutions before the embedding.
    """

    image_size: tuple[int, int]
    channels: int
    patch_size: int
    heads: int
    residual_scale: float
    embedding: IntegerLinear
    initial_residual: np.ndarray
    encoders: tuple[IntegerEncoder, ...]
    final_norm: IntegerNorm
    head: IntegerLinear
    prefix_tokens: int = 1
    head_tokens: int = 1
    stem: tuple[IntegerConvolution, ...] = ()

    @property
    def stem_shapes(self) -> tuple[ConvolutionShape, ...]:
        """Shapes of the stem's convolutions."""
        return tuple(convolution.shape for convolution in self.stem)

    @property
    def embedding_side(self) -> int:
        """`patch_size`, as `sw.compiler.memory_map.Shapes` calls it."""
        return self.patch_size

    @property
    def dim(self) -> int:
        """Channels of the residual stream."""
        return self.embedding.outputs

    @property
    def depth(self) -> int:
        """Encoders."""
        return len(self.encoders)

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.dim // self.heads

    @property
    def hidden(self) -> int:
        """Hidden channels of an MLP; 0 without any."""
        branches = (branch for encoder in self.encoders for branch in encoder.branches)
        return next((branch.fc1.outputs for branch in branches if isinstance(branch, IntegerMlp)), 0)

    @property
    def tokens(self) -> int:
        """Tokens, the class token included."""
        return self.initial_residual.shape[0]

    @property
    def classes(self) -> int:
        """Logits."""
        return self.head.outputs

    @property
    def path(self) -> Path:
        """The path whose branches the network holds; others leave some of them out."""
        return Path.of_branches([branch.kind for branch in encoder.branches] for encoder in self.encoders)

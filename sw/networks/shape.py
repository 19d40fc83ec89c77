"""An integer network of a shape alone. Cycles depend on nothing else, and it needs neither weights nor images, nor torch."""

import numpy as np

from sw.graph.branch import BranchKind
from sw.graph.convolution import ConvolutionShape
from sw.graph.integer_network import (
    IntegerAttention,
    IntegerBranch,
    IntegerConvolution,
    IntegerEncoder,
    IntegerLinear,
    IntegerMlp,
    IntegerNetwork,
    IntegerNorm,
)
from sw.graph.path import Path, path_or_full
from sw.networks.spec import NetworkSpec


def shape_network(spec: NetworkSpec, path: Path | None = None) -> IntegerNetwork:
    """Return an integer network whose Program takes the cycles and counters of every network of that shape.

    Its numbers are drawn, because a Program holds equal weights and loads equal tables once; its logits mean nothing.

    Args:
        spec: the shape.
        path: whose branches the integer network has; None holds all of them.

    Raises:
        InputError: the path is of another depth.
    """
    path, draw = path_or_full(path, spec.depth), _Draw(np.random.default_rng(0))
    stem = tuple(map(draw.convolution, spec.stem_shapes))
    mapped = stem[-1].linear.outputs if stem else spec.channels
    encoders = (
        tuple(draw.branch(kind, spec) for kind in (BranchKind.ATTENTION, BranchKind.MLP) if path.runs(index, kind))
        for index in range(spec.depth)
    )
    return IntegerNetwork(
        image_size=spec.image_size,
        channels=spec.channels,
        patch_size=spec.embedding_side,
        heads=spec.heads,
        residual_scale=1.0,
        embedding=draw.linear(spec.dim, mapped * spec.embedding_side**2),
        initial_residual=draw.integers(1 << 15, (spec.tokens, spec.dim), np.int16),
        encoders=tuple(map(IntegerEncoder, encoders)),
        final_norm=draw.norm(),
        head=draw.linear(spec.classes, spec.dim * spec.head_tokens),
        prefix_tokens=spec.prefix_tokens,
        head_tokens=spec.head_tokens,
        stem=stem,
    )


class _Draw:
    """Draws the parts of an integer network."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def integers(self, below: int, shape: tuple[int, ...], kind: type[np.integer]) -> np.ndarray:
        return self._random.integers(0, below, shape, dtype=kind)

    def number(self) -> int:
        """A multiplier."""
        return int(self._random.integers(1 << 15, 1 << 16))

    def table(self) -> np.ndarray:
        return self.integers(256, (256,), np.uint8)

    def linear(self, outputs: int, inputs: int) -> IntegerLinear:
        multiplier = (1 << 15) + self.integers(1 << 15, (outputs,), np.uint16)
        weights, bias = self.integers(127, (outputs, inputs), np.int8), self.integers(1 << 16, (outputs,), np.int32)
        return IntegerLinear(weights, bias, multiplier, np.full(outputs, 24, np.uint8))

    def norm(self) -> IntegerNorm:
        return IntegerNorm(1.0, self.number(), 16, 1)

    def convolution(self, shape: ConvolutionShape) -> IntegerConvolution:
        linear = self.linear(shape.outputs, shape.kernel**2 * shape.inputs)
        return IntegerConvolution(linear, self.table(), shape.kernel, shape.stride, shape.padding)

    def branch(self, kind: BranchKind, spec: NetworkSpec) -> IntegerBranch:
        dim = spec.dim
        if kind is BranchKind.MLP:
            return IntegerMlp(self.norm(), self.linear(spec.hidden, dim), self.table(), self.linear(dim, spec.hidden))
        return IntegerAttention(
            norm=self.norm(),
            query=self.linear(dim, dim),
            key=self.linear(dim, dim),
            value=self.linear(dim, dim),
            score_multiplier=self.number(),
            score_shift=24,
            score_scale=1.0,
            exp_table=self.table(),
            context_multiplier=self.number(),
            context_shift=24,
            projection=self.linear(dim, dim),
        )

"""The scales of a network's tensors, branch by branch, and the codes that follow from them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hw import numerics
from sw.graph.branch import BranchKind
from sw.graph.float_network import FloatAttention, FloatLinear, FloatNetwork

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class InputMeans:
    """Mean of every input channel of a layer over the calibration images, float64 [inputs].

    Attributes:
        exact: of the float network.
        coded: of the same numbers, rounded and clipped to their codes.
    """

    exact: np.ndarray
    coded: np.ndarray


@dataclass(frozen=True)
class ActivationScales:
    """Scales and codes of 0 of an elementwise activation's input and output; means of the output."""

    scale_in: float
    zero_in: int
    scale_out: float
    zero_point: int
    means: InputMeans | None


@dataclass(frozen=True, eq=False)
class AttentionScales:
    """Scales of one attention; `key_mean` is the mean key without bias, float32 [dim].

    Softmax ignores what a key bias adds to a row of scores, so the integer network uses -key_mean as the bias: keys and
    scores then lie around zero. `normalized_means` are of the norm's output, `context_means` of the projection's input.
    """

    kind: ClassVar = BranchKind.ATTENTION
    norm: float
    query: float
    key: float
    value: float
    score: float
    context: float
    key_mean: "Tensor"
    normalized_means: InputMeans | None
    context_means: InputMeans | None

    @property
    def codes(self) -> dict[str, tuple[float, int]]:
        """(scale, code of 0) of the branch's int8 tensors."""
        named = {"norm1": self.norm, "query": self.query, "key": self.key, "value": self.value}
        named |= {"scores": self.score, "context": self.context}
        return {name: (scale, 0) for name, scale in named.items()}

    def without_means(self) -> "AttentionScales":
        """Return the same scales, their means None."""
        return replace(self, normalized_means=None, context_means=None)


@dataclass(frozen=True)
class MlpScales:
    """Scales of one MLP: norm output and around the activation; means of fc1's input."""

    kind: ClassVar = BranchKind.MLP
    norm: float
    activation: ActivationScales
    normalized_means: InputMeans | None

    @property
    def codes(self) -> dict[str, tuple[float, int]]:
        """(scale, code of 0) of the branch's int8 tensors."""
        return {"norm2": (self.norm, 0), "fc1": (self.activation.scale_out, self.activation.zero_point)}

    def without_means(self) -> "MlpScales":
        """Return the same scales, their means None."""
        return replace(self, normalized_means=None, activation=replace(self.activation, means=None))


BranchScales = AttentionScales | MlpScales


@dataclass(frozen=True)
class Calibration:
    """What calibration found.

    Attributes:
        residual_peak: greatest magnitude of the residual stream, position embeddings included.
        encoders: per encoder the scales of its branches, in their order; None where the path skips one.
        final_norm: scale of the head's input.
        head_means: of the head's input.
        patch_means: of the embedding's input.
        pixel_means: of an image's channels.
        stem: per convolution.
    """

    residual_peak: float
    encoders: tuple[tuple[BranchScales | None, ...], ...]
    final_norm: float
    head_means: InputMeans | None
    patch_means: InputMeans | None
    pixel_means: InputMeans | None
    stem: tuple[ActivationScales, ...] = ()

    def code(self, name: str, residual_scale: float) -> tuple[float, int, int]:
        """(real value of a step, code of 0, bits) of the machine's tensor of that name; names as `sw.graph.forward.Observer`
        has them."""
        layer, _, part = name.rpartition(".")
        if part in ("embedding", *BranchKind):
            return residual_scale, 0, numerics.RESIDUAL_WIDTH
        if name == "logits":
            return 1 / numerics.UNITS_PER_NAT, 0, numerics.LOGIT_WIDTH
        if name == "norm":
            return self.final_norm, 0, 8
        if name.startswith("stem"):
            around = self.stem[int(name.removeprefix("stem"))]
            return around.scale_out, around.zero_point, 8
        branches = self.encoders[int(layer.removeprefix("encoder"))]
        return *next(scales.codes[part] for scales in branches if scales is not None and part in scales.codes), 8

    def without_means(self) -> "Calibration":
        """Return the same scales, all means None, so that biases stay as they are."""
        nothing: dict[str, Any] = dict.fromkeys(("head_means", "patch_means", "pixel_means"))
        return replace(
            self,
            encoders=tuple(tuple(scales and scales.without_means() for scales in branches) for branches in self.encoders),
            stem=tuple(replace(around, means=None) for around in self.stem),
            **nothing,
        )


def centred(network: FloatNetwork, calibration: Calibration) -> FloatNetwork:
    """Return the network with the biases of keys that take their means away, as the machine has them."""

    def branch(part: Any, scales: BranchScales | None) -> Any:
        if isinstance(part, FloatAttention) and isinstance(scales, AttentionScales):
            return replace(part, key=FloatLinear(part.key.weight, -scales.key_mean))
        return part

    encoders = zip(network.encoders, calibration.encoders, strict=True)
    return replace(
        network,
        encoders=tuple(
            replace(encoder, branches=tuple(map(branch, encoder.branches, scales))) for encoder, scales in encoders
        ),
    )

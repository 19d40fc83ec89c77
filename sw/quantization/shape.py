"""An integer network of a shape alone. Cycles depend on nothing else, and it needs neither weights nor images."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from sw.graph.branch import BranchKind
from sw.graph.float_network import FloatAttention, FloatMlp, FloatNetwork
from sw.graph.integer_network import IntegerNetwork
from sw.graph.path import Path, path_or_full
from sw.quantization.quantize import quantize_calibrated
from sw.quantization.scales import ActivationScales, AttentionScales, BranchScales, Calibration, MlpScales

if TYPE_CHECKING:
    from torch import Generator
_PEAK = 8.0
"""Of the residual stream."""


def shape_network(network: FloatNetwork, path: Path | None = None) -> IntegerNetwork:
    """Return an integer network whose Program takes the cycles and counters of every network of that shape.

    Its weights and scales are drawn, because a Program holds equal weights and loads equal tables once; its logits mean nothing.

    Args:
        network: the float network; its tensors may lie on torch's ``meta`` device.
        path: whose branches the integer network has; None holds all of them.

    Raises:
        InputError: the path is of another depth.
    """
    import torch

    path = path_or_full(path, network.depth)
    random = torch.Generator().manual_seed(0)
    drawn = _drawn(network, random)
    encoders = (
        tuple(_SCALES[branch.kind](branch, random) if path.runs(index, branch.kind) else None for branch in encoder.branches)
        for index, encoder in enumerate(drawn.encoders)
    )
    calibration = Calibration(
        residual_peak=_PEAK,
        encoders=tuple(encoders),
        final_norm=_scale(random),
        head_means=None,
        patch_means=None,
        pixel_means=None,
        stem=tuple(_around(random) for _ in drawn.stem),
    )
    return quantize_calibrated(drawn, calibration)


def _drawn(value: Any, random: "Generator") -> Any:
    """A value with every tensor in it replaced by one of small random numbers."""
    import torch

    if isinstance(value, torch.Tensor):
        return 0.1 * torch.randn(value.shape, generator=random)
    if isinstance(value, tuple):
        return tuple(_drawn(part, random) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _drawn(getattr(value, field.name), random) for field in fields(value)})
    return value


def _scale(random: "Generator") -> float:
    """A scale of an int8 tensor, whose codes then span about four deviations of something normalised."""
    import torch

    return (1 + float(torch.rand(1, generator=random))) / 32


def _around(random: "Generator") -> ActivationScales:
    return ActivationScales(_scale(random), 0, _scale(random), 0, None)


def _attention(branch: FloatAttention, random: "Generator") -> BranchScales:
    scales = {name: _scale(random) for name in ("norm", "query", "key", "value", "score", "context")}
    return AttentionScales(**scales, key_mean=branch.key.bias, normalized_means=None, context_means=None)


def _mlp(branch: FloatMlp, random: "Generator") -> BranchScales:
    return MlpScales(_scale(random), _around(random), None)


_SCALES: dict[BranchKind, Callable[..., BranchScales]] = {BranchKind.ATTENTION: _attention, BranchKind.MLP: _mlp}

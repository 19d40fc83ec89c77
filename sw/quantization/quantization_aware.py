"""Quantization-aware fine-tuning: a ViT computed with the machine's roundings, which gradients pass straight through.

Every weight is rounded to int8 per output channel and every activation to the machine's code, with the scales that calibration
finds before the first step; the gradient of a rounding is 1 inside the code's range and 0 outside (Bengio et al., arXiv 1308.3432;
Jacob et al., arXiv 1712.05877). What stays in floating point: softmax, GELU and LayerNorm between their rounded inputs and
outputs, biases, and the requantization multipliers. LayerNorm, LayerScale and BatchNorm are folded in every step as for the
machine, so what is rounded is what the machine holds, and the parameters that are trained are the network's own: the result is an
ordinary checkpoint, which `sw.quantization.quantize.quantize` calibrates anew.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from hw.errors import InputError
from sw.graph.branch import BranchKind
from sw.graph.float_network import FloatAttention, FloatBranch, FloatConvolution, FloatLinear, FloatMlp, FloatNetwork
from sw.graph.forward import Observer, forward
from sw.graph.path import Path, path_or_full
from sw.graph.path_vit import PathVit
from sw.importing import ImportedGraph, module_image_shape
from sw.quantization.calibration import calibrate
from sw.quantization.integer_layers import WEIGHT_PEAK
from sw.quantization.quantize import residual_scale
from sw.quantization.scales import ActivationScales, AttentionScales, BranchScales, Calibration, MlpScales, centred


class QuantizationAware:
    """Computes a network as the machine would.

    Attributes:
        network: its parameters are read anew in every call, and gradients reach them.
        calibration: the scales.
        observer: rounds the tensors of a call.
    """

    def __init__(self, network: PathVit, inputs: torch.Tensor, path: Path | None = None) -> None:
        """Choose the activations' scales.

        Args:
            network: a plain ViT (see `sw.importing`).
            inputs: float32 [n, channels, height, width]; images that may be trained on.
            path: what any call may run; None for the network's own.

        Raises:
            InputError: the network is not a plain ViT, or the path of another depth.
        """
        self.network = network
        self._graph = ImportedGraph(network.vit, module_image_shape(network.vit))
        with torch.no_grad():
            imported = self._graph.fold()
            self._path = path_or_full(path or network.path, network.depth)
            self.calibration = calibrate(imported, inputs, self._path)
            self.observer = RoundingObserver(self.calibration, residual_scale(imported, self.calibration))

    def __call__(self, images: torch.Tensor, path: Path) -> torch.Tensor:
        """Return the logits [n, classes] of float32 images [n, channels, height, width] on one path.

        Raises:
            InputError: the path runs a branch that no scales were chosen for.
        """
        if not path.within(self._path):
            raise InputError(f"Path must run no branch but those that scales were chosen for, {self._path}, not {path}")
        return forward(self.rounded_network(), images, path, self.observer)

    def rounded_network(self) -> FloatNetwork:
        """Return the network with rounded weights, and activations that read rounded numbers."""
        network = centred(self._graph.fold(), self.calibration)
        encoders = (
            replace(encoder, branches=tuple(map(_branch, encoder.branches, scales)))
            for encoder, scales in zip(network.encoders, self.calibration.encoders, strict=True)
        )
        return replace(
            network,
            embedding=_linear(network.embedding),
            stem=tuple(map(_convolution, network.stem, self.calibration.stem)),
            encoders=tuple(encoders),
            head=_linear(network.head),
        )


class RoundingObserver(Observer):
    """Rounds every tensor to the numbers that the machine's codes stand for.

    Attributes:
        calibration: the scales.
        residual_scale: of the residual stream.
    """

    def __init__(self, calibration: Calibration, residual_scale: float) -> None:
        """Round by these scales."""
        self.calibration, self.residual_scale = calibration, residual_scale

    def tensor(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """Return the tensor, rounded."""
        scale, zero, bits = self.calibration.code(name, self.residual_scale)
        return rounded(values, scale, zero, bits)


def rounded(values: torch.Tensor, scale: float | torch.Tensor, zero: int = 0, bits: int = 8) -> torch.Tensor:
    """Round to the numbers that a code of so many bits has; the gradient is 1 between the least and the greatest of them, else 0.

    Args:
        values: float tensor.
        scale: real value of a step, broadcast against the values.
        zero: code of 0.
        bits: of the signed code.
    """
    codes = (values / scale + zero).clamp(-(1 << bits - 1), (1 << bits - 1) - 1)
    return (codes + (codes.round() - codes).detach() - zero) * scale


def _weights(weight: torch.Tensor) -> torch.Tensor:
    """Weights [outputs, ...] rounded per output channel."""
    peak = weight.detach().abs().flatten(1).amax(1).clamp(min=1e-30)
    return rounded(weight, (peak / WEIGHT_PEAK).reshape(-1, *[1] * (weight.ndim - 1)))


def _linear(layer: FloatLinear) -> FloatLinear:
    return FloatLinear(_weights(layer.weight), layer.bias)


def _activation(
    function: Callable[[torch.Tensor], torch.Tensor], around: ActivationScales
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function of what the requantizer hands to its table."""
    return lambda values: function(rounded(values, around.scale_in, around.zero_in))


def _convolution(convolution: FloatConvolution, around: ActivationScales) -> FloatConvolution:
    return replace(convolution, weight=_weights(convolution.weight), activation=_activation(convolution.activation, around))


def _attention(branch: FloatAttention, _scales: AttentionScales) -> FloatAttention:
    names = ("query", "key", "value", "projection")
    layers: dict[str, Any] = {name: _linear(getattr(branch, name)) for name in names}
    return replace(branch, **layers)


def _mlp(branch: FloatMlp, scales: MlpScales) -> FloatMlp:
    activation = _activation(branch.activation, scales.activation)
    return replace(branch, fc1=_linear(branch.fc1), fc2=_linear(branch.fc2), activation=activation)


_ROUNDED: dict[BranchKind, Callable[..., FloatBranch]] = {BranchKind.ATTENTION: _attention, BranchKind.MLP: _mlp}
"""Rounds the weights of a branch of each kind."""


def _branch(branch: FloatBranch, scales: BranchScales | None) -> FloatBranch:
    return branch if scales is None else _ROUNDED[branch.kind](branch, scales)

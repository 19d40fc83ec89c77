"""Quantization-aware fine-tuning: a ViT computed with the machine's roundings, which gradients pass straight through.

Every weight is rounded to int8 per output channel and every activation to the machine's code, with the scales that calibration
finds before the first step; the gradient of a rounding is 1 inside the code's range and 0 outside (Bengio et al., arXiv 1308.3432;
Jacob et al., arXiv 1712.05877). What stays in floating point: softmax, GELU and LayerNorm between their rounded inputs and
outputs, biases, and the requantization multipliers. LayerNorm, LayerScale and BatchNorm are folded in every step as for the
machine, so what is rounded is what the machine holds, and the parameters that are trained are the network's own: the result is an
ordinary checkpoint, which `sw.quantization.quantize.quantize` calibrates anew.
"""

from dataclasses import replace
from typing import Any

import torch

from sw.graph.float_network import FloatLinear, FoldedConvolution, FoldedEncoder, FoldedNetwork, image_shape, walk
from sw.graph.path import Path, path_or_full
from sw.graph.path_vit import PathVit
from sw.importing import ImportedGraph
from sw.quantization.calibration import ActivationScales, calibrate
from sw.quantization.quantize import residual_scale

_WEIGHT_PEAK = 127


class QuantizationAware:
    """Computes a network as the machine would.

    Attributes:
        network: its parameters are read anew in every call, and gradients reach them.
    """

    def __init__(self, network: PathVit, inputs: torch.Tensor, path: Path | None = None) -> None:
        """Choose the activations' scales.

        Args:
            network: a plain ViT (see `sw.importing`).
            inputs: float32 [n, channels, height, width]; images that may be trained on.
            path: whose attentions any call may want; None for the network's own.

        Raises:
            InputError: the network is not a plain ViT, or the path of another depth.
        """
        self.network = network
        self._graph = ImportedGraph(network.vit, image_shape(network.vit))
        with torch.no_grad():
            folded = self._graph.fold()
            self._calibration = calibrate(folded, inputs, path_or_full(path or network.path, network.depth))
            self._residual = residual_scale(folded, self._calibration)

    def __call__(self, images: torch.Tensor, path: Path) -> torch.Tensor:
        """Return the logits [n, classes] of float32 images [n, channels, height, width] on one path."""
        attentions = self._calibration.attentions
        means = [attention.key_mean if attention and path.keeps(index) else None for index, attention in enumerate(attentions)]
        return walk(self._rounded(self._graph.fold()), images, means, self._tensor)

    def _tensor(self, name: str, values: torch.Tensor) -> torch.Tensor:
        scale, zero, bits = self._calibration.code(name, self._residual)
        return rounded(values, scale, zero, bits)

    def _rounded(self, network: FoldedNetwork) -> FoldedNetwork:
        """The network with rounded weights, and activations that read rounded numbers."""
        stem = zip(network.stem, self._calibration.stem, strict=True)
        encoders = zip(network.encoders, self._calibration.mlps, strict=True)
        return replace(
            network,
            embedding=_linear(network.embedding),
            stem=tuple(_convolution(convolution, around) for convolution, around in stem),
            encoders=tuple(_encoder(encoder, mlp.activation) for encoder, mlp in encoders),
            head=_linear(network.head),
        )


def rounded(values: torch.Tensor, scale: Any, zero: int = 0, bits: int = 8) -> torch.Tensor:
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
    return rounded(weight, (peak / _WEIGHT_PEAK).reshape(-1, *[1] * (weight.ndim - 1)))


def _linear(layer: FloatLinear) -> FloatLinear:
    return FloatLinear(_weights(layer.weight), layer.bias)


def _activation(function: Any, around: ActivationScales) -> Any:
    """The function of what the requantizer hands to its table."""
    return lambda values: function(rounded(values, around.scale_in, around.zero_in))


def _convolution(convolution: FoldedConvolution, around: ActivationScales) -> FoldedConvolution:
    return replace(convolution, weight=_weights(convolution.weight), activation=_activation(convolution.activation, around))


def _encoder(encoder: FoldedEncoder, activation: ActivationScales) -> FoldedEncoder:
    names = ("query", "key", "value", "projection", "fc1", "fc2")
    layers: dict[str, Any] = {name: _linear(getattr(encoder, name)) for name in names}
    return replace(encoder, **layers, activation=_activation(encoder.activation, activation))

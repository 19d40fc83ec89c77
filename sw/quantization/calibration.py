"""Calibration: an observer of the float network's forward pass chooses the scale of every integer tensor.

`sw.quantization.scale_search` has the rules. The mean inputs of the layers are kept for bias correction.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sw.graph.branch import BranchKind
from sw.graph.float_network import FloatAttention, FloatMlp, FloatNetwork
from sw.graph.forward import Observer, forward
from sw.graph.path import Path
from sw.quantization.options import MSE
from sw.quantization.scale_search import activation_scales, importance_of, input_means, score_scale, tensor_scale
from sw.quantization.scales import ActivationScales, AttentionScales, BranchScales, Calibration, InputMeans, MlpScales

if TYPE_CHECKING:
    from torch import Tensor


def calibrate(network: FloatNetwork, images: "Tensor", path: Path, method: str = MSE) -> Calibration:
    """Choose scales on calibration images.

    Args:
        network: the float network.
        images: float32 tensor [n, channels, height, width], as `sw.data.pixels.to_input` gives; all n run at once.
        path: whose attentions run.
        method: of `sw.quantization.options.METHODS`.
    """
    import torch

    with torch.no_grad():
        calibrator = _Calibrator(network, images, method)
        forward(network, images, path, calibrator)
        return calibrator.calibration()


class _Calibrator(Observer):
    """Keeps the tensors of a branch until its sum is seen, and then chooses its scales."""

    def __init__(self, network: FloatNetwork, images: "Tensor", method: str) -> None:
        self._network, self._method = network, method
        self._pixel_means = input_means(images.permute(0, 2, 3, 1))
        self._maps = images
        self._seen: dict[str, Tensor] = {}
        self._stem: list[ActivationScales] = []
        self._branches: dict[tuple[int, BranchKind], BranchScales] = {}
        # A prefix token's initial residual is less the patch bias.
        prefix = network.positions[: network.prefix_tokens] - network.embedding.bias
        self._peak = max(float(network.positions.abs().max()), float(prefix.abs().max()))

    def activated(self, name: str, before: "Tensor", activation: Callable[["Tensor"], "Tensor"]) -> "Tensor":
        """Keep an activation's input, or choose the scales around it where it is the stem's."""
        values = activation(before)
        if name.startswith("stem"):
            hidden, behind = (maps.permute(0, 2, 3, 1) for maps in (before, values))
            importance = self._reader(len(self._stem) + 1).square().sum((0, 1))
            self._stem.append(activation_scales(hidden, behind, activation, importance, self._method))
            self._maps = values
        else:
            self._seen["hidden"] = before
        return self.tensor(name, values)

    def tensor(self, name: str, values: "Tensor") -> "Tensor":
        """Keep a tensor; keys go on without their mean."""
        layer, _, part = name.rpartition(".")
        if part == "key":
            self._seen["key_mean"] = values.mean((0, 1))
            values = values - self._seen["key_mean"]
        self._seen[part] = values
        if part in ("embedding", *BranchKind):
            self._peak = max(self._peak, float(values.abs().max()))
        if part in _CHOOSE:
            index, kind = int(layer.removeprefix("encoder")), BranchKind(part)
            branch = next(branch for branch in self._network.encoders[index].branches if branch.kind is kind)
            self._branches[index, kind] = _CHOOSE[kind](branch, self._seen, self._method)
            self._seen.clear()
        return values

    def calibration(self) -> Calibration:
        """Return what was found in a whole pass."""
        final = self._seen["norm"].flatten(1)
        final_norm = tensor_scale(final, importance_of(self._network.head), self._method)
        encoders = (
            tuple(self._branches.get((index, branch.kind)) for branch in encoder.branches)
            for index, encoder in enumerate(self._network.encoders)
        )
        return Calibration(
            residual_peak=self._peak,
            encoders=tuple(encoders),
            final_norm=final_norm,
            head_means=input_means(final, final_norm),
            patch_means=self._patch_means(),
            pixel_means=self._pixel_means,
            stem=tuple(self._stem),
        )

    def _reader(self, stage: int) -> "Tensor":
        """Weights of what reads the stem's map ``stage``, [outputs, pixels, channels]."""
        if stage < len(self._network.stem):
            return self._network.stem[stage].weight.flatten(2).transpose(1, 2)
        return self._network.embedding.weight.unflatten(1, (self._network.patch_size**2, -1))

    def _patch_means(self) -> InputMeans:
        patches = self._network.patches(self._maps)
        if not self._stem:
            return input_means(patches)
        last = self._stem[-1]
        return input_means(patches, last.scale_out, -128 - last.zero_point, 127 - last.zero_point)


def _attention_scales(branch: FloatAttention, seen: "dict[str, Tensor]", method: str) -> AttentionScales:
    norm = tensor_scale(seen["norm1"], importance_of(branch.query, branch.key, branch.value), method)
    context = tensor_scale(seen["context"], importance_of(branch.projection), method)
    return AttentionScales(
        norm=norm,
        query=tensor_scale(seen["query"], None, method),
        key=tensor_scale(seen["key"], None, method),
        value=tensor_scale(seen["value"], importance_of(branch.projection), method),
        score=score_scale(seen["scores"], method),
        context=context,
        key_mean=seen["key_mean"],
        normalized_means=input_means(seen["norm1"], norm),
        context_means=input_means(seen["context"], context),
    )


def _mlp_scales(branch: FloatMlp, seen: "dict[str, Tensor]", method: str) -> MlpScales:
    norm = tensor_scale(seen["norm2"], importance_of(branch.fc1), method)
    around = activation_scales(seen["hidden"], seen["fc1"], branch.activation, importance_of(branch.fc2), method)
    return MlpScales(norm, around, input_means(seen["norm2"], norm))


_CHOOSE: dict[str, Callable[..., BranchScales]] = {BranchKind.ATTENTION: _attention_scales, BranchKind.MLP: _mlp_scales}
"""Chooses the scales of a branch of each kind from its tensors."""

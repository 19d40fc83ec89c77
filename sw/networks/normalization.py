"""A network's input normalisation, moved into its first convolution.

The accelerator's image is the pixels themselves: int8 = pixel - 128, which stands for x = (pixel - 128) / 128. A network that
was trained on (pixel / 255 - mean) / std = scale · x + offset, per channel with scale = 128 / (255 · std) and
offset = (128 / 255 - mean) / std, computes the same from x with the weights W · scale and the bias b + Σ W · offset.

A convolution that pads its input with zeros pads what is *normalised*: there the offset must not act. So where the first
convolution pads, the offset gets an input channel of its own, which is 1 inside the image: a plane of 255-valued pixels behind
the colours (`sw.data.pixels.fitted`), whose padding is 0 like the others'. That is exact too, and four channels a pixel
align better.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hw.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

PLANE_VALUE = (255 - 128) / 128
"""What a pixel of the added channel stands for."""


@dataclass(frozen=True)
class Normalization:
    """(pixel / 255 - mean) / std.

    Attributes:
        mean: per channel, or one for all, of pixels as 0 to 1.
        std: the same; positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def parse(mean: str | None, std: str | None) -> "Normalization | None":
        """Return what ``0.485,0.456,0.406`` and the like say; None for neither.

        Raises:
            InputError: one of them is missing, or no list of as many numbers.
        """
        if mean is None and std is None:
            return None
        if mean is None or std is None:
            raise InputError("--mean and --std must be given together")
        parsed = []
        for option, text in (("--mean", mean), ("--std", std)):
            try:
                parsed.append(tuple(map(float, text.split(","))))
            except ValueError:
                raise InputError(f"{option} takes numbers, such as 0.485,0.456,0.406, not {text!r}") from None
        means, deviations = parsed
        finite = all(map(math.isfinite, means)) and all(0 < deviation < math.inf for deviation in deviations)
        if len(means) != len(deviations) or not finite:
            raise InputError(f"--mean and --std must be as many finite numbers, and --std positive, not {mean!r} and {std!r}")
        return Normalization(means, deviations)


def fold_normalization(vit: "nn.Module", normalization: Normalization) -> None:
    """Change a network's first convolution so that it takes (pixel - 128) / 128 in place of (pixel / 255 - mean) / std.

    Args:
        vit: the network, changed in place; its state dict is no longer the checkpoint's.
        normalization: of the images that it was trained on.

    Raises:
        InputError: the normalisation is of other channels than the network's.
    """
    import torch
    from torch import nn

    first = next(part for part in vit.modules() if isinstance(part, nn.Conv2d))
    given, channels = len(normalization.mean), first.in_channels
    if given not in (1, channels):
        raise InputError(f"--mean and --std must be 1 or {channels} numbers, one for each channel, not {given}")
    with torch.no_grad():
        weight = first.weight.double()
        mean, deviation = weight.new_tensor(normalization.mean), weight.new_tensor(normalization.std)
        scale = (128 / (255 * deviation)).expand(channels)
        offset = ((128 / 255 - mean) / deviation).expand(channels)
        shifts = (weight * offset[:, None, None]).sum(1, keepdim=True)
        scaled = weight * scale[:, None, None]
        if any(first.padding):
            scaled = torch.cat([scaled, shifts / PLANE_VALUE], 1)
            first.in_channels += 1
        else:
            bias = shifts.sum((1, 2, 3)) + (0 if first.bias is None else first.bias.double())
            first.bias = nn.Parameter(bias.float())
        first.weight = nn.Parameter(scaled.float())


def match_first_convolution(vit: "nn.Module", state: "Mapping[str, Tensor]") -> None:
    """Give a network's first convolution the channels and the bias that a state dict has for it, for `fold_normalization` may
    have added them."""
    from torch import nn

    name, first = next((name, part) for name, part in vit.named_modules() if isinstance(part, nn.Conv2d))
    weight = state[f"{name}.weight"]
    first.in_channels = weight.shape[1]
    first.weight = nn.Parameter(weight.clone())
    if first.bias is None and f"{name}.bias" in state:
        first.bias = nn.Parameter(state[f"{name}.bias"].clone())

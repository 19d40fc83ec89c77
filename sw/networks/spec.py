"""The shape of a network, known before it is made."""

import math
from dataclasses import dataclass
from typing import Any

from hw.errors import InputError
from sw.graph.convolution import ConvolutionShape


@dataclass(frozen=True)
class NetworkSpec:
    """The shape of a plain ViT.

    Attributes:
        name: the name it was parsed from.
        image_size: height and width in pixels, multiples of ``patch_size``.
        channels: image channels.
        patch_size: side of a square patch in pixels.
        dim: channels of the residual stream.
        depth: number of encoders.
        heads: attention heads; ``dim`` is a multiple.
        mlp_ratio: hidden channels of an MLP over ``dim``.
        classes: number of logits.
        timm_name: the timm model, or None where the numbers alone define the network.
        stem_channels: channels of LV-ViT's convolution stem; None for a plain ViT. `patch_size` counts the stem's stride in.
        prefix_tokens: tokens without a patch: class, distillation and register tokens.
        head_tokens: tokens that the head reads.
    """

    name: str
    image_size: tuple[int, int]
    channels: int
    patch_size: int
    dim: int
    depth: int
    heads: int
    mlp_ratio: float
    classes: int
    timm_name: str | None = None
    stem_channels: int | None = None
    prefix_tokens: int = 1
    head_tokens: int = 1

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: a number is out of range or does not divide as it must.
        """
        stem = () if self.stem_channels is None else ("stem_channels",)
        for field in ("channels", "patch_size", "dim", "depth", "heads", "classes", *stem):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"Network {self.name!r}: {field} must be a positive integer, not {value}")
        if self.dim % self.heads:
            raise InputError(f"Network {self.name!r}: dim must be a multiple of heads {self.heads}, not {self.dim}")
        if self.dim < 2:
            raise InputError(f"Network {self.name!r}: dim must be at least 2, not 1, whose LayerNorms are constant")
        if self.classes < 2:
            raise InputError(f"Network {self.name!r}: classes must be at least 2, not {self.classes}")
        if stem and self.patch_size % 2:
            raise InputError(f"Network {self.name!r}: patch must be even behind a stem of stride 2, not {self.patch_size}")
        if any(side < 1 or side % self.patch_size for side in self.image_size):
            raise InputError(
                f"Network {self.name!r}: image sides must be multiples of patch {self.patch_size}, not "
                f"{self.image_size}"
            )
        if not 0.0 < self.mlp_ratio < 1024.0 or self.hidden != self.dim * self.mlp_ratio:
            raise InputError(
                f"Network {self.name!r}: dim * mlp_ratio must be a positive whole number, not "
                f"{self.dim * self.mlp_ratio:g}"
            )

    @property
    def patches(self) -> int:
        """Number of patches."""
        return (self.image_size[0] // self.patch_size) * (self.image_size[1] // self.patch_size)

    @property
    def tokens(self) -> int:
        """Number of tokens, those without a patch included."""
        return self.patches + self.prefix_tokens

    @property
    def stem_shapes(self) -> tuple[ConvolutionShape, ...]:
        """Convolutions before the embedding."""
        width = self.stem_channels
        if width is None:
            return ()
        inner = ConvolutionShape(width, width, 3, 1, 1)
        return (ConvolutionShape(self.channels, width, 7, 2, 3), inner, inner)

    @property
    def embedding_side(self) -> int:
        """Side of a patch in pixels of the map that the embedding reads."""
        return self.patch_size // math.prod(shape.stride for shape in self.stem_shapes)

    @property
    def hidden(self) -> int:
        """Hidden channels of each MLP."""
        return int(self.dim * self.mlp_ratio)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of timm's VisionTransformer."""
        return dict(
            img_size=self.image_size,
            patch_size=self.patch_size,
            in_chans=self.channels,
            num_classes=self.classes,
            embed_dim=self.dim,
            depth=self.depth,
            num_heads=self.heads,
            mlp_ratio=self.mlp_ratio,
        )

"""LV-ViT (Jiang et al., arXiv 2104.10858): a ViT behind a convolution stem, its residual branches divided by a constant.

timm does not have it. It is built here as timm's ``VisionTransformer`` with another patch embedding and with LayerScale's
place taken by the constant, so its parameters have the names of the official checkpoints: ``patch_embed.conv1.weight``,
``patch_embed.bn1.running_mean``, ``blocks.0.attn.qkv.weight``, ``head.weight``, ``aux_head.weight``, ...

The answer is the classifier's on the class token. The auxiliary head that token labeling trains on the patch tokens has its
parameters here, so that a checkpoint loads whole, but takes no part in the answer.
"""

from typing import Any

import torch
from torch import nn

from sw.networks.plain_vit import import_timm

SKIP_LAM = 2.0
"""What residual branches are divided by."""


class ConvStem(nn.Module):
    """Three convolutions with BatchNorm and ReLU, then one that makes patches of their map: [n, patches, dim].

    The first has a 7x7 kernel and stride 2, the next two 3x3 and stride 1, all padded to keep the grid; the last has kernel
    and stride `patch_size` / 2.
    """

    def __init__(
        self, img_size: int | tuple[int, int], patch_size: int, in_chans: int, embed_dim: int, stem_channels: int = 64, **_: Any
    ) -> None:
        """Make the stem.

        Args:
            img_size: height and width in pixels, multiples of ``patch_size``; or one number for both.
            patch_size: side of a token's patch of the image in pixels, even.
            in_chans: image channels.
            embed_dim: channels of a token.
            stem_channels: channels of the three convolutions.
        """
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.img_size = (height, width)
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (height // patch_size, width // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.conv1 = nn.Conv2d(in_chans, stem_channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.conv2 = nn.Conv2d(stem_channels, stem_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem_channels)
        self.conv3 = nn.Conv2d(stem_channels, stem_channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(stem_channels)
        self.proj = nn.Conv2d(stem_channels, embed_dim, patch_size // 2, stride=patch_size // 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return tokens [n, patches, dim] of images [n, channels, height, width]."""
        features = self.bn1(self.conv1(images)).relu()
        features = self.bn2(self.conv2(features)).relu()
        features = self.bn3(self.conv3(features)).relu()
        return self.proj(features).flatten(2).transpose(1, 2)


class FixedScale(nn.Module):
    """Division by a constant, in LayerScale's place."""

    def __init__(self, divisor: float) -> None:
        """Divide by ``divisor``."""
        super().__init__()
        self.divisor = divisor

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """Return the branch, divided."""
        return branch / self.divisor


def create_lv_vit(
    *,
    img_size: tuple[int, int],
    patch_size: int,
    in_chans: int,
    num_classes: int,
    embed_dim: int,
    depth: int,
    num_heads: int,
    mlp_ratio: float,
    stem_channels: int = 64,
    qkv_bias: bool = False,
) -> nn.Module:
    """Return an LV-ViT with fresh weights, a timm ``VisionTransformer`` with ``patch_embed`` a `ConvStem`.

    Args:
        img_size: height and width in pixels.
        patch_size: side of a token's patch in pixels.
        in_chans: image channels.
        num_classes: logits.
        embed_dim: channels of the residual stream.
        depth: encoders.
        num_heads: attention heads.
        mlp_ratio: hidden channels of an MLP over ``embed_dim``.
        stem_channels: channels of the stem's convolutions.
        qkv_bias: whether queries, keys and values have biases.
    """
    import_timm()
    from timm.models.vision_transformer import VisionTransformer

    def stem(**arguments: Any) -> ConvStem:
        return ConvStem(**arguments, stem_channels=stem_channels)

    vit = VisionTransformer(
        img_size=img_size,
        patch_size=patch_size,
        in_chans=in_chans,
        num_classes=num_classes,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=mlp_ratio,
        qkv_bias=qkv_bias,
        embed_layer=stem,
    )
    for block in vit.blocks:
        block.ls1, block.ls2 = FixedScale(SKIP_LAM), FixedScale(SKIP_LAM)
    vit.aux_head = nn.Linear(embed_dim, num_classes)
    return vit

"""Attention skipping per encoder, around an unchanged timm VisionTransformer.

Encoder i of a path keeps both halves, ``x + attention(norm1(x))`` and then ``x + mlp(norm2(x))``, or skips the first.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

from hw.errors import InputError

Rows = Literal["class", "mean", "all"]


def validated_kept(kept: Iterable[int] | None, depth: int) -> frozenset[int]:
    """Return the kept set of a path; None keeps every attention.

    Args:
        kept: encoder indices from 0 whose attention is kept.
        depth: number of encoders.

    Raises:
        InputError: an index is not an integer of 0 ... depth - 1.
    """
    if kept is None:
        return frozenset(range(depth))
    chosen = frozenset(kept)
    for index in chosen:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < depth:
            raise InputError(f"Encoder index must be 0 to {depth - 1}, not {index}")
    return chosen


class PathVit(nn.Module):
    """A vision transformer that can leave out the attention of any of its encoders.

    Attributes:
        vit: the timm VisionTransformer, its code and parameters unchanged.
        kept: the path used where a call names none.
    """

    def __init__(self, vit: nn.Module, kept: Iterable[int] | None = None) -> None:
        """Wrap ``vit``; ``kept`` holds the encoders (from 0) whose attention is kept, None for all of them.

        Raises:
            InputError: an encoder index is out of range.
        """
        super().__init__()
        self.vit = vit
        self.kept = validated_kept(kept, len(vit.blocks))

    @property
    def depth(self) -> int:
        """Number of encoders."""
        return len(self.vit.blocks)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        height, width = self.vit.patch_embed.img_size
        return height, width

    def forward(self, images: torch.Tensor, kept: Iterable[int] | None = None) -> torch.Tensor:
        """Return the logits [n, classes] of images [n, channels, height, width] on one path.

        Args:
            images: float32 network inputs (see `sw.data.fashion_mnist.to_input`).
            kept: the path of this call; None for ``self.kept``.
        """
        path = self.kept if kept is None else validated_kept(kept, self.depth)
        tokens = self._embed(images)
        for index, block in enumerate(self.vit.blocks):
            tokens = block(tokens) if index in path else _mlp_half(block, tokens)
        return self.vit.forward_head(self.vit.norm(tokens))

    @torch.no_grad()
    def streams(
        self, images: torch.Tensor, kept: Iterable[int] | None = None, rows: Rows = "class"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the residual streams that enter each encoder, and those after each encoder's attention add.

        On a path, a skipped encoder's two streams are equal.

        Args:
            images: float32 [n, channels, height, width].
            kept: the path; None for ``self.kept``.
            rows: ``class`` the class token's row, ``mean`` the mean over the patch tokens, ``all`` every token.

        Returns:
            Two float32 tensors [n, depth, dim]; for ``all`` [n, depth, tokens, dim].
        """
        if rows not in ("class", "mean", "all"):
            raise InputError(f"Stream rows must be 'class', 'mean' or 'all', not {rows!r}")
        path = self.kept if kept is None else validated_kept(kept, self.depth)
        tokens = self._embed(images)
        entering, attended = [], []
        for index, block in enumerate(self.vit.blocks):
            entering.append(self._select(tokens, rows))
            if index in path:
                tokens = tokens + block.drop_path1(block.ls1(block.attn(block.norm1(tokens))))
            attended.append(self._select(tokens, rows))
            tokens = _mlp_half(block, tokens)
        return torch.stack(entering, 1), torch.stack(attended, 1)

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.vit.patch_embed(images)  # [n, patches, dim]
        return self.vit.norm_pre(self.vit.patch_drop(self.vit._pos_embed(tokens)))  # [n, tokens, dim]

    def _select(self, tokens: torch.Tensor, rows: Rows) -> torch.Tensor:
        if rows == "class":
            return tokens[:, 0]
        return tokens[:, self.vit.num_prefix_tokens :].mean(1) if rows == "mean" else tokens


def _mlp_half(block: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))

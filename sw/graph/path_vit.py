"""Paths through an unchanged timm VisionTransformer.

An encoder is ``x + attention(norm1(x))`` and then ``x + mlp(norm2(x))``; a path leaves out what its kind does not run.
"""

from typing import Literal

import torch
from torch import nn

from hw.errors import InputError
from sw.graph.branch import BranchKind
from sw.graph.path import Path, path_or_full

Rows = Literal["class", "mean", "all"]


class PathVit(nn.Module):
    """A vision transformer that can leave out branches of any of its encoders.

    Attributes:
        vit: the timm VisionTransformer, its code and parameters unchanged.
        path: the path used where a call names none.
    """

    def __init__(self, vit: nn.Module, path: Path | None = None) -> None:
        """Wrap ``vit``; ``path`` None leaves nothing out.

        Raises:
            InputError: the path is of another depth.
        """
        super().__init__()
        self.vit = vit
        self.path = path_or_full(path, len(vit.blocks))

    @property
    def depth(self) -> int:
        """Number of encoders."""
        return len(self.vit.blocks)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        height, width = self.vit.patch_embed.img_size
        return height, width

    def forward(self, images: torch.Tensor, path: Path | None = None) -> torch.Tensor:
        """Return the logits [n, classes] of images [n, channels, height, width] on one path.

        Args:
            images: float32 network inputs (see `sw.data.pixels.to_input`).
            path: of this call; None for ``self.path``.
        """
        path = path_or_full(path or self.path, self.depth)
        tokens = self._embed(images)
        for index, block in enumerate(self.vit.blocks):
            if path.keeps(index):
                tokens = _attention_half(block, tokens)
            if path.runs(index, BranchKind.MLP):
                tokens = _mlp_half(block, tokens)
        return self.vit.forward_head(self.vit.norm(tokens))

    @torch.no_grad()
    def streams(
        self, images: torch.Tensor, path: Path | None = None, rows: Rows = "class"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the residual streams that enter each encoder, and those after each encoder's attention add.

        The two streams of an encoder whose attention does not run are equal.

        Args:
            images: float32 [n, channels, height, width].
            path: None for ``self.path``.
            rows: ``class`` the class token's row, ``mean`` the mean over the patch tokens, ``all`` every token.

        Returns:
            Two float32 tensors [n, depth, dim]; for ``all`` [n, depth, tokens, dim].
        """
        if rows not in ("class", "mean", "all"):
            raise InputError(f"Stream rows must be 'class', 'mean' or 'all', not {rows!r}")
        path = path_or_full(path or self.path, self.depth)
        tokens = self._embed(images)
        entering, attended = [], []
        for index, block in enumerate(self.vit.blocks):
            entering.append(self._select(tokens, rows))
            if path.keeps(index):
                tokens = _attention_half(block, tokens)
            attended.append(self._select(tokens, rows))
            if path.runs(index, BranchKind.MLP):
                tokens = _mlp_half(block, tokens)
        return torch.stack(entering, 1), torch.stack(attended, 1)

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.vit.patch_embed(images)  # [n, patches, dim]
        return self.vit.norm_pre(self.vit.patch_drop(self.vit._pos_embed(tokens)))  # [n, tokens, dim]

    def _select(self, tokens: torch.Tensor, rows: Rows) -> torch.Tensor:
        if rows == "class":
            return tokens[:, 0]
        return tokens[:, self.vit.num_prefix_tokens :].mean(1) if rows == "mean" else tokens


def _attention_half(block: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return tokens + block.drop_path1(block.ls1(block.attn(block.norm1(tokens))))


def _mlp_half(block: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))

"""Random weights that exercise the machine.

timm's initial weights would not: biases and class token are zero, LayerScale is 1e-5, attention is nearly uniform, so
errors of most parts would leave the logits alone. These have LayerScale in [0.1, 1], norms, biases, class token and
positions that matter, attention scores of a standard deviation of about 2, and logits of a few nats.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Size, Tensor, nn

SCORE_DEVIATION = 2.0
LOGIT_DEVIATION = 2.0
_PROBE_IMAGES = 8
# Measured scales are rounded to this grid, so that they do not depend on the last bits of a float sum.
_SCALE_GRID = 64


def draw_weights(vit: "nn.Module", seed: int) -> None:
    """Replace every parameter and BatchNorm statistic of a timm ViT by a draw from ``seed``; leave it in eval mode.

    Query and key weights are scaled encoder by encoder until the scores on random images deviate by
    `SCORE_DEVIATION` within their rows, and the head until logits deviate by `LOGIT_DEVIATION` nats.
    """
    import torch
    from torch import nn

    from sw.importing import module_image_shape

    random = torch.Generator().manual_seed(seed)
    vit.eval()
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            parameter.copy_(_draw(name, parameter.shape, random))
        for part in vit.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.copy_(0.2 * torch.randn(part.running_mean.shape, generator=random))
                part.running_var.copy_(0.5 + torch.rand(part.running_var.shape, generator=random))
        images = (torch.randint(0, 256, (_PROBE_IMAGES, *module_image_shape(vit)), generator=random) - 128) / 128
        tokens = vit._pos_embed(vit.patch_embed(images))
        for block in vit.blocks:
            _scale_scores(block, tokens)
            tokens = block(tokens)
        logits = vit.forward_head(vit.norm(tokens))
        scale = _on_grid(LOGIT_DEVIATION / float(logits.std()))
        for head in (vit.head, getattr(vit, "head_dist", None)):
            if head is not None:
                head.weight.mul_(scale)
                head.bias.mul_(scale)


def _draw(name: str, shape: "Size", random: "Generator") -> "Tensor":
    import torch

    kind = name.split(".")[-1]
    if kind == "gamma":  # LayerScale
        return 0.1 + 0.9 * torch.rand(shape, generator=random)
    if kind == "weight" and len(shape) == 1:  # of a norm
        return 0.5 + torch.rand(shape, generator=random)
    normal = torch.randn(shape, generator=random)
    if kind == "weight":
        return normal / math.sqrt(math.prod(shape[1:]))
    return normal * (0.5 if kind in ("cls_token", "dist_token", "reg_token", "pos_embed") else 0.2)


def _scale_scores(block: "nn.Module", tokens: "Tensor") -> None:
    """Scale the query and key weights of a block so that its scores on ``tokens`` deviate as they should."""
    attention = block.attn
    count, length, dim = tokens.shape
    qkv = attention.qkv(block.norm1(tokens)).reshape(count, length, 3, attention.num_heads, -1)
    query, key, _ = qkv.permute(2, 0, 3, 1, 4)  # each [count, heads, length, head dim]
    scores = (query * attention.scale) @ key.transpose(-2, -1)
    deviation = float((scores - scores.mean(-1, keepdim=True)).square().mean().sqrt())
    scale = _on_grid(math.sqrt(SCORE_DEVIATION / deviation))
    attention.qkv.weight[: 2 * dim].mul_(scale)
    if attention.qkv.bias is not None:
        attention.qkv.bias[: 2 * dim].mul_(scale)


def _on_grid(scale: float) -> float:
    return max(1, round(scale * _SCALE_GRID)) / _SCALE_GRID

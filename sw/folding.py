"""A ViT with LayerNorm's affine parts and LayerScale folded into the linear layers beside them.

W (gamma ⊙ x̂ + beta) + b = (W · diag gamma) x̂ + (W beta + b), and scale ⊙ (W x + b) = (diag scale · W) x + scale ⊙ b;
so every LayerNorm is a pure normalisation and every branch ends in a linear layer.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class FloatLinear:
    """``x @ weight.T + bias``: torch float32 weight [outputs, inputs] and bias [outputs]."""

    weight: Any
    bias: Any

    def __call__(self, inputs: Any) -> Any:
        """Return the outputs [..., outputs] of float32 inputs [..., inputs]."""
        return inputs @ self.weight.T + self.bias


@dataclass(frozen=True, eq=False)
class FoldedConvolution:
    """A convolution of a stem with BatchNorm folded in, and the elementwise activation behind it.

    Attributes:
        weight: float32 [outputs, inputs, kernel height, kernel width].
        bias: float32 [outputs].
        stride: of both axes.
        padding: zeros on all four sides.
        activation: a callable on float tensors, such as a ReLU.
    """

    weight: Any
    bias: Any
    stride: int
    padding: int
    activation: Any

    def __call__(self, maps: Any) -> Any:
        """Return the activated map [n, outputs, height', width'] of float32 maps [n, inputs, height, width]."""
        from torch.nn.functional import conv2d

        return self.activation(conv2d(maps, self.weight, self.bias, stride=self.stride, padding=self.padding))


@dataclass(frozen=True, eq=False)
class FoldedEncoder:
    """Linear layers of one encoder and the epsilons of its norms; `activation` is the MLP's GELU as a module."""

    query: FloatLinear
    key: FloatLinear
    value: FloatLinear
    projection: FloatLinear
    fc1: FloatLinear
    fc2: FloatLinear
    epsilons: tuple[float, float]
    activation: Any


@dataclass(frozen=True, eq=False)
class FoldedNetwork:
    """A plain ViT, folded.

    Attributes:
        image_size, channels, heads: as in `sw.network.NetworkSpec`.
        patch_size: side of a patch in pixels of the map that the embedding reads: the picture, or the stem's last map.
        embedding: weight [dim, patch_size² · channels of that map] in the order (ky, kx, channel).
        positions: float32 [tokens, dim]: initial residual stream, the class token included.
        encoders: in order.
        head: classifier.
        epsilon: of the final norm.
        stem: convolutions before the embedding; empty for a plain ViT.
    """

    image_size: tuple[int, int]
    channels: int
    patch_size: int
    heads: int
    embedding: FloatLinear
    positions: Any
    encoders: tuple[FoldedEncoder, ...]
    head: FloatLinear
    epsilon: float
    stem: tuple[FoldedConvolution, ...] = ()

    def patches(self, images: Any) -> Any:
        """Return the embedding's input rows [n, patches, patch_size² · channels] of images [n, channels, height, width]."""
        for convolution in self.stem:
            images = convolution(images)
        count, channels, height, width = images.shape
        side = self.patch_size
        grid = images.reshape(count, channels, height // side, side, width // side, side)
        return grid.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, side * side * channels)


def normalized(tokens: Any, epsilon: float) -> Any:
    """Return (x - mean) / sqrt(variance + epsilon) over the last axis of a float tensor."""
    centred = tokens - tokens.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()


def fold_network(vit: Any) -> FoldedNetwork:
    """Fold a plain timm VisionTransformer (as `sw.network.build_network` makes them); its parameters are left alone."""
    import torch

    with torch.no_grad():
        projection = vit.patch_embed.proj
        weight = projection.weight.permute(0, 2, 3, 1).flatten(1)
        embedding = FloatLinear(weight.detach(), _bias(projection).detach())
        classes = vit.cls_token[0]
        if vit.no_embed_class:  # such as deit3: the class token has no position
            positions = torch.cat([classes, vit.pos_embed[0]])
        else:
            positions = vit.pos_embed[0] + torch.cat([classes, torch.zeros_like(vit.pos_embed[0, 1:])])
        return FoldedNetwork(
            image_size=tuple(vit.patch_embed.img_size),
            channels=projection.in_channels,
            patch_size=projection.kernel_size[0],
            heads=vit.blocks[0].attn.num_heads,
            embedding=embedding,
            positions=positions.detach(),
            encoders=tuple(_fold_encoder(block) for block in vit.blocks),
            head=_after_norm(vit.head.weight, _bias(vit.head), vit.norm),
            epsilon=vit.norm.eps,
        )


def _fold_encoder(block: Any) -> FoldedEncoder:
    attention, mlp = block.attn, block.mlp
    dim = attention.proj.in_features
    bias = _bias(attention.qkv)
    parts = [slice(part * dim, (part + 1) * dim) for part in range(3)]
    query, key, value = (_after_norm(attention.qkv.weight[part], bias[part], block.norm1) for part in parts)
    return FoldedEncoder(
        query=query,
        key=key,
        value=value,
        projection=_before_scale(attention.proj, block.ls1),
        fc1=_after_norm(mlp.fc1.weight, _bias(mlp.fc1), block.norm2),
        fc2=_before_scale(mlp.fc2, block.ls2),
        epsilons=(block.norm1.eps, block.norm2.eps),
        activation=mlp.act,
    )


def _bias(layer: Any) -> Any:
    return layer.weight.new_zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias


def _after_norm(weight: Any, bias: Any, norm: Any) -> FloatLinear:
    if norm.weight is not None:
        bias = bias if norm.bias is None else bias + weight @ norm.bias
        weight = weight * norm.weight
    return FloatLinear(weight.detach(), bias.detach())


def _before_scale(layer: Any, scale: Any) -> FloatLinear:
    gamma = getattr(scale, "gamma", None)
    weight, bias = layer.weight, _bias(layer)
    if gamma is not None:
        weight, bias = weight * gamma[:, None], bias * gamma
    return FloatLinear(weight.detach(), bias.detach())

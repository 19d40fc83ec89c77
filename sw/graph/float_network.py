"""A ViT with LayerNorm's affine parts and LayerScale folded into the linear layers beside them.

W (gamma ⊙ x̂ + beta) + b = (W · diag gamma) x̂ + (W beta + b), and scale ⊙ (W x + b) = (diag scale · W) x + scale ⊙ b;
so every LayerNorm is a pure normalisation and every branch ends in a linear layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Tap = Callable[[str, Any], Any]
"""Called with a tensor's name and the tensor; what it returns takes the tensor's place."""


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

    def convolved(self, maps: Any) -> Any:
        """Return the map before the activation, [n, outputs, height', width'], of float32 maps [n, inputs, height, width]."""
        from torch.nn.functional import conv2d

        return conv2d(maps, self.weight, self.bias, stride=self.stride, padding=self.padding)

    def __call__(self, maps: Any) -> Any:
        """Return the activated map [n, outputs, height', width'] of float32 maps [n, inputs, height, width]."""
        return self.activation(self.convolved(maps))


@dataclass(frozen=True, eq=False)
class FoldedEncoder:
    """Linear layers of one encoder and the epsilons of its norms; `activation` is the MLP's function on tensors."""

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
        image_size, channels, heads: as in `sw.networks.network.NetworkSpec`.
        patch_size: side of a patch in pixels of the map that the embedding reads: the picture, or the stem's last map.
        embedding: weight [dim, patch_size² · channels of that map] in the order (ky, kx, channel).
        positions: float32 [tokens, dim]: initial residual stream, the class token included.
        encoders: in order.
        head: classifier; its inputs are the normalised rows of the first `head_tokens` tokens, one behind the other.
        epsilon: of the final norm.
        stem: convolutions before the embedding; empty for a plain ViT.
        prefix_tokens: tokens without a patch (class, distillation and register tokens), before all others.
        head_tokens: tokens that the head reads: 1, or 2 with a distillation token.
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
    prefix_tokens: int = 1
    head_tokens: int = 1

    def patches(self, images: Any) -> Any:
        """Return the embedding's input rows [n, patches, patch_size² · channels] of images [n, channels, height, width]."""
        for convolution in self.stem:
            images = convolution(images)
        return self.patches_of(images)

    def patches_of(self, maps: Any) -> Any:
        """Return the same of the maps [n, channels, height, width] that the embedding reads."""
        count, channels, height, width = maps.shape
        side = self.patch_size
        grid = maps.reshape(count, channels, height // side, side, width // side, side)
        return grid.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, side * side * channels)


def normalized(tokens: Any, epsilon: float) -> Any:
    """Return (x - mean) / sqrt(variance + epsilon) over the last axis of a float tensor."""
    centred = tokens - tokens.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()


def walk(network: FoldedNetwork, inputs: Any, key_means: Sequence[Any], tap: Tap) -> Any:
    """Compute a folded network and show every tensor that the machine has, too.

    Args:
        network: the float network.
        inputs: float32 tensor [n, channels, height, width].
        key_means: what is subtracted from each encoder's keys; None where its attention is skipped.
        tap: sees tensors [n, tokens, channels], maps [n, channels, height, width] and scores [n, heads, tokens, tokens].

    Returns:
        Logits [n, classes].
    """
    maps = inputs
    for index, convolution in enumerate(network.stem):
        maps = tap(f"stem{index}", convolution(maps))
    tokens = network.positions.expand(len(inputs), -1, -1).clone()
    tokens[:, network.prefix_tokens :] += network.embedding(network.patches_of(maps))
    tokens = tap("embedding", tokens)
    for index, (encoder, key_mean) in enumerate(zip(network.encoders, key_means, strict=True)):
        name = f"encoder{index}"
        if key_mean is not None:
            rows = tap(f"{name}.norm1", normalized(tokens, encoder.epsilons[0]))
            parts = (encoder.query(rows), rows @ encoder.key.weight.T - key_mean, encoder.value(rows))
            named = (tap(f"{name}.{part}", values) for part, values in zip(("query", "key", "value"), parts, strict=True))
            query, key, value = (part.unflatten(-1, (network.heads, -1)).transpose(1, 2) for part in named)
            scores = tap(f"{name}.scores", query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5)
            context = tap(f"{name}.context", (scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
            tokens = tap(f"{name}.attention", tokens + encoder.projection(context))
        rows = tap(f"{name}.norm2", normalized(tokens, encoder.epsilons[1]))
        hidden = tap(f"{name}.fc1", encoder.activation(encoder.fc1(rows)))
        tokens = tap(f"{name}.mlp", tokens + encoder.fc2(hidden))
    final = tap("norm", normalized(tokens[:, : network.head_tokens], network.epsilon))
    return tap("logits", network.head(final.flatten(1))[:, None])[:, 0]


def fold_network(vit: Any) -> FoldedNetwork:
    """Fold a torch network whose images are of `image_shape`; its parameters are left alone.

    Raises:
        InputError: it is not a plain ViT; see `sw.importing.import_network`.
    """
    from sw.importing import import_network

    return import_network(vit, image_shape(vit))


def image_shape(vit: Any) -> tuple[int, int, int]:
    """Return channels, height and width of a network's images: its ``patch_embed.img_size``, or else timm's configuration."""
    from torch import nn

    channels = next((part.in_channels for part in vit.modules() if isinstance(part, nn.Conv2d)), 3)
    size = getattr(getattr(vit, "patch_embed", None), "img_size", None) or vit.pretrained_cfg["input_size"][1:]
    return channels, int(size[0]), int(size[1])


def after_norm(weight: Any, bias: Any, norm: Any) -> FloatLinear:
    """Return the layer ``weight``, ``bias`` on a LayerNorm's output as a layer on the pure normalisation.

    Args:
        weight: [outputs, inputs].
        bias: [outputs].
        norm: anything with the LayerNorm's ``weight`` and ``bias`` [inputs], each of which may be None.
    """
    if norm.weight is not None:
        bias = bias if norm.bias is None else bias + weight @ norm.bias
        weight = weight * norm.weight
    return FloatLinear(weight, bias)

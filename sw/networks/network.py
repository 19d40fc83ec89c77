"""The networks: ViTs from timm, named by a checkpoint, a timm name or their numbers.

- ``fmnist_vit_tiny``: the shipped checkpoint (28x28 grey images, patch 7, dim 96, depth 12, 3 heads);
- ``fmnist_lvvit``: LV-ViT (see `sw.networks.lv_vit`) for the same images padded to 32x32: 16 encoders of dim 96, MLP ratio 3;
- ``lvvit_s``: LV-ViT-S, 224x224;
- any timm name of a plain ViT, such as ``deit_small_patch16_224``, at its own image size or another;
- ``vit:dim=24,depth=2,heads=3,tokens=11,classes=7``, a network made on the spot; ``tokens`` counts the class token.

All are torch modules of timm, their code unchanged; LV-ViT with another patch embedding. What a network computes is found by
`sw.importing`.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hw.assignments import parse_assignments
from hw.errors import InputError
from sw.networks.normalization import Normalization
from sw.networks.spec import NetworkSpec
from sw.networks.timm_shapes import timm_shape

if TYPE_CHECKING:
    from torch import nn

CHECKPOINTS = Path(__file__).parents[1] / "assets"
SHIPPED = ("fmnist_vit_tiny",)
COLOURS = 3
"""Channels of images that ImageNet's normalisation is of."""
RANDOM = "random"
PRETRAINED = "pretrained"
_MADE_PREFIX = "vit:"
_MADE_NEEDED = ("dim", "depth", "heads", "tokens", "classes")
_MADE_FIELDS: dict[str, type[float]] = dict.fromkeys((*_MADE_NEEDED, "patch", "channels", "stem"), int) | {"mlp_ratio": float}


_KNOWN = {
    "fmnist_vit_tiny": NetworkSpec("fmnist_vit_tiny", (28, 28), 1, 7, 96, 12, 3, 4.0, 10),
    "fmnist_lvvit": NetworkSpec("fmnist_lvvit", (32, 32), 1, 8, 96, 16, 3, 3.0, 10, stem_channels=32),
    "lvvit_s": NetworkSpec("lvvit_s", (224, 224), 3, 16, 384, 16, 6, 3.0, 1000, stem_channels=64),
}


def parse_network(name: str, image_size: tuple[int, int] | None = None, classes: int | None = None) -> NetworkSpec:
    """Return the shape of a network by name; imports timm only for a timm name.

    Args:
        name: see above.
        image_size: height and width in place of its own.
        classes: number of logits in place of its own.

    Raises:
        InputError: the name is unknown, the numbers do not fit, the timm model is not a plain ViT, or another image size or number
            of classes is asked of a network whose name has them.
    """
    if name.startswith(_MADE_PREFIX):
        if image_size is not None or classes is not None:
            raise InputError(f"Network {name!r} must be given its image size and classes in its name, by tokens, patch and classes")
        return _parse_made(name)
    known = _KNOWN.get(name) or timm_shape(name)
    if known is None:
        return parse_timm(name, image_size, classes)
    return replace(known, image_size=image_size or known.image_size, classes=known.classes if classes is None else classes)


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """Return height and width of ``98x98``; None for None.

    Raises:
        InputError: it is something else.
    """
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise InputError(f"Image size must be HEIGHTxWIDTH, such as 98x98, not {text!r}")
    return int(sides[0]), int(sides[1])


def _parse_made(name: str) -> NetworkSpec:
    values = dict(parse_assignments(name.removeprefix(_MADE_PREFIX), _MADE_FIELDS, f"Network {name!r}:"))
    missing = [field for field in _MADE_NEEDED if field not in values]
    if missing:
        raise InputError(f"Network {name!r}: must also give {', '.join(missing)}")
    if values["tokens"] < 2:
        raise InputError(
            f"Network {name!r}: tokens counts the class token and must be at least 2, not {values['tokens']}"
        )
    patch = int(values.get("patch", 4))
    if patch < 1:
        raise InputError(f"Network {name!r}: patch must be a positive integer, not {patch}")
    rows, columns = _grid(int(values["tokens"]) - 1)
    return NetworkSpec(
        name=name,
        image_size=(patch * rows, patch * columns),
        channels=int(values.get("channels", 1)),
        patch_size=patch,
        dim=int(values["dim"]),
        depth=int(values["depth"]),
        heads=int(values["heads"]),
        mlp_ratio=float(values.get("mlp_ratio", 4.0)),
        classes=int(values["classes"]),
        stem_channels=int(values["stem"]) if "stem" in values else None,
    )


def _grid(patches: int) -> tuple[int, int]:
    """Return the most square grid of that many patches, rows <= columns (a single row for a prime number)."""
    rows = next(rows for rows in range(int(patches**0.5), 0, -1) if patches % rows == 0)
    return rows, patches // rows


def parse_timm(name: str, image_size: tuple[int, int] | None = None, classes: int | None = None) -> NetworkSpec:
    """Return the shape of a timm model by importing it; arguments and errors are those of `parse_network`."""
    from sw.graph.float_network import FloatMlp
    from sw.importing import import_network
    from sw.networks.plain_vit import create_by_name

    vit = create_by_name(name, image_size, classes, device="meta")
    try:
        network = import_network(vit)
    except InputError as error:
        raise InputError(f"{error} (network {name!r})") from None
    dim = len(network.embedding.weight)
    hidden = next(len(branch.fc1.weight) for branch in network.encoders[0].branches if isinstance(branch, FloatMlp))
    sides, patches = network.image_size, len(network.positions) - network.prefix_tokens
    return NetworkSpec(
        name=name,
        image_size=sides,
        channels=network.channels,
        patch_size=math.isqrt(sides[0] * sides[1] // patches),
        dim=dim,
        depth=network.depth,
        heads=network.heads,
        mlp_ratio=hidden / dim,
        classes=len(network.head.weight),
        timm_name=name,
        prefix_tokens=network.prefix_tokens,
        head_tokens=network.head_tokens,
    )


def untrained_network(spec: NetworkSpec, seed: int = 0) -> "nn.Module":
    """Return the network's module in training mode with timm's own initial weights, drawn from ``seed``."""
    import torch

    from sw.networks.lv_vit import create_lv_vit
    from sw.networks.plain_vit import create_by_name, create_from_arguments

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.stem_channels is not None:
            vit = create_lv_vit(**spec.arguments(), stem_channels=spec.stem_channels)
        elif spec.timm_name is None:
            vit = create_from_arguments(spec.arguments())
        else:
            vit = create_by_name(spec.timm_name, spec.image_size, spec.classes)
    return _unfused(vit)


def _unfused(vit: "nn.Module") -> "nn.Module":
    """The module with plain attention: at 17 tokens it trains 960 images/s under bfloat16, torch's fused attention 600."""
    for block in vit.blocks:
        block.attn.fused_attn = False
    return vit


def build_network(
    name: str,
    weights: str | Path | None = None,
    seed: int = 0,
    *,
    image_size: tuple[int, int] | None = None,
    classes: int | None = None,
    strip_prefix: str = "",
    normalization: Normalization | None = None,
) -> "nn.Module":
    """Return the named network, a torch module in eval mode.

    Weights of a file and `pretrained` ones are of images normalised as their data set is; that normalisation is folded into the
    first convolution (`sw.networks.normalization`), so that every network takes (pixel - 128) / 128.

    Args:
        name: see `parse_network`.
        weights: a safetensors file or a state dict of torch; ``random`` for weights that exercise the machine, drawn from
            ``seed``; ``pretrained`` for timm's; None for those that the repository ships with a checkpoint name.
        seed: of random weights.
        image_size: as for `parse_network`.
        classes: the same.
        strip_prefix: as for `sw.networks.weights.load_weights`.
        normalization: of the images that a file's weights were trained on; None for timm's configuration of the model, and
            ImageNet's for LV-ViT of colour images. Other networks then take (pixel - 128) / 128 as it is.

    Raises:
        InputError: the name is unknown, or the weights are missing, corrupt or of another network.
    """
    from sw.networks.weights import load_weights

    spec = parse_network(name, image_size, classes)
    if weights == PRETRAINED:
        from sw.networks.plain_vit import create_by_name

        if spec.timm_name is None:
            raise InputError(f"Weights '{PRETRAINED}' take a timm name, not {name!r}")
        vit = _unfused(create_by_name(name, spec.image_size, pretrained=True))
        return _normalized(vit, spec, normalization).eval()
    vit = untrained_network(spec, seed)
    if weights == RANDOM:
        from sw.networks.random_weights import draw_weights

        draw_weights(vit, seed)
        return vit.eval()
    if weights is None:
        if name not in SHIPPED:
            raise InputError(f"Network {name!r} has no shipped weights: give '{RANDOM}', '{PRETRAINED}' or a file of weights")
        weights = CHECKPOINTS / name / "model.safetensors"
    load_weights(vit, Path(weights), strip_prefix)
    return _normalized(vit, spec, normalization).eval()


def _normalized(vit: "nn.Module", spec: NetworkSpec, normalization: Normalization | None) -> "nn.Module":
    """The network with its training images' normalisation in its weights."""
    from sw.networks.normalization import fold_normalization
    from sw.networks.plain_vit import import_timm

    timm = import_timm()
    if normalization is None and spec.timm_name is not None:
        known = timm.get_pretrained_cfg(spec.timm_name)
        normalization = Normalization(tuple(known.mean), tuple(known.std))
    elif normalization is None and spec.stem_channels is not None and spec.channels == COLOURS:
        normalization = Normalization(timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)
    if normalization is not None:
        fold_normalization(vit, normalization)
    return vit

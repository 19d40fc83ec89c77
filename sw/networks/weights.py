"""Loads a file of weights into a network, and says what keeps it from fitting."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from hw.errors import InputError
from sw.networks.checkpoint import load_state_dict, load_tensors

if TYPE_CHECKING:
    from torch import nn

_LAYER_SCALE = (r"\.gamma_([12])$", r".ls\1.gamma")
"""Names of LayerScale in the original checkpoints, and timm's."""
_OTHER_SHAPES = {"head": "--classes", "pos_embed": "--image-size"}
"""The option that changes the shape of what a name begins with."""


def load_weights(vit: "nn.Module", path: Path, strip_prefix: str = "") -> None:
    """Load a safetensors file, or a state dict that torch saved, into ``vit``.

    Args:
        vit: the network.
        path: the file.
        strip_prefix: what the network's names follow in the file's, as in ``module.head.bias``, with or without its last dot;
            tensors whose names begin otherwise are left out.

    Raises:
        InputError: the file is missing or corrupt, or its tensors are not this network's.
    """
    read = load_tensors(path) if path.suffix == ".safetensors" or not path.is_file() else load_state_dict(path)
    named = f"Checkpoint file {path}"
    if strip_prefix:
        prefix = strip_prefix.removesuffix(".") + "."
        stripped = {name.removeprefix(prefix): value for name, value in read.items() if name.startswith(prefix)}
        if not stripped:
            raise InputError(f"{named} must hold names that begin with --strip-prefix {prefix!r}; it has {_some(read)}")
        read = stripped
    wanted = vit.state_dict()
    tensors = {name if name in wanted else re.sub(*_LAYER_SCALE, name): value for name, value in read.items()}
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors:
            missing = f"{named} must hold {name!r}, and has no such tensor; it has {_some(tensors)}"
            raise InputError(missing + _prefix_to_strip(tensors, wanted))
        if name not in wanted:
            raise InputError(f"{named} must not hold {name!r}, for the network has no such tensor; it has {_some(wanted)}")
        shape, found = tuple(wanted[name].shape), tuple(tensors[name].shape)
        if shape != found:
            option = next((option for start, option in _OTHER_SHAPES.items() if name.startswith(start)), None)
            other = f"; {option} makes the network fit" if option else ""
            raise InputError(f"{named} must hold {name!r} of shape {shape}, not {found}{other}")
        if wanted[name].is_floating_point() != tensors[name].is_floating_point():
            kind = "floats" if wanted[name].is_floating_point() else "integers"
            raise InputError(f"{named} must hold {name!r} in {kind}, not {str(tensors[name].dtype).removeprefix('torch.')}")
        if not tensors[name].isfinite().all():
            raise InputError(f"{named} must hold finite numbers, not so in {name!r}")
    vit.load_state_dict(tensors)


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(map(repr, found[:3])) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _prefix_to_strip(found: Iterable[str], wanted: Iterable[str]) -> str:
    """What to give as --strip-prefix, if the file has most of the network's names behind one prefix."""
    names = list(wanted)
    prefixes = Counter(
        name.removesuffix(end) for name in found for end in names if name.endswith(f".{end}")
    )
    prefix, count = prefixes.most_common(1)[0] if prefixes else ("", 0)
    return f"; --strip-prefix {prefix} takes the names behind {prefix!r}" if 2 * count > len(names) else ""

"""Shapes of timm models that are often asked for, as importing them gave once: known without torch, in a millisecond.

``sw/assets/timm_shapes.json`` holds them for one version of timm; models of another version are imported.
``benchmarks.importing.timm_shapes`` writes the file.
"""

from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hw.files import read_json
from sw.networks.spec import NetworkSpec

SHAPES = Path(__file__).parents[1] / "assets" / "timm_shapes.json"


def timm_shape(name: str) -> NetworkSpec | None:
    """Return the shape of a timm model; None for one that the file does not have, or has of another timm."""
    known = _shapes()
    if known["timm"] != version("timm") or name not in known["shapes"]:
        return None
    shape = known["shapes"][name]
    return NetworkSpec(name, **{**shape, "image_size": tuple(shape["image_size"])}, timm_name=name)


@cache
def _shapes() -> dict[str, Any]:
    found: dict[str, Any] = read_json(SHAPES)
    return found

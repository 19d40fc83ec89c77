"""Imports the timm models that are often asked for, and writes their shapes, which the package then knows without torch.

    python -m benchmarks.importing.timm_shapes

The file is sw/assets/timm_shapes.json; to be written anew for another version of timm.
"""

import argparse
import re
import sys
from dataclasses import fields
from importlib.metadata import version
from typing import Any

from hw.errors import command
from hw.files import write_json
from hw.progress import progress, stage
from sw.networks.network import parse_timm
from sw.networks.plain_vit import import_timm
from sw.networks.timm_shapes import SHAPES

NAMES = re.compile(
    r"deit3?_(tiny|small|medium|base)(_distilled)?_patch16_(224|384)|vit_(tiny|small|base|large)_patch(8|14|16|32)_(224|384)"
    r"|vit_(small|base)_patch14_(reg4_)?dinov2"
)
_UNSAID = ("name", "timm_name", "stem_channels")
"""Fields of a `NetworkSpec` that follow from its being timm's of that name."""


def shapes() -> dict[str, dict[str, Any]]:
    """Fields of every model's `sw.networks.spec.NetworkSpec`, as importing it gives them."""
    found = {}
    for name in filter(NAMES.fullmatch, import_timm().list_models()):
        with stage(name):
            spec = parse_timm(name)
        found[name] = {field.name: getattr(spec, field.name) for field in fields(spec) if field.name not in _UNSAID}
    return found


@command()
def main(arguments: list[str] | None = None) -> int:
    """Import and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.importing.timm_shapes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    with progress():
        write_json(SHAPES, {"timm": version("timm"), "shapes": shapes()})
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Lets timm import torchvision where torch is a CPU-only build and torchvision is not.

timm 1.0 imports torchvision unconditionally. torchvision's compiled operators do not load into a torch of another
build, and its import then fails with ``operator torchvision::nms does not exist``. Defining the operators' schemas
first cures that; nothing here ever calls them.
"""

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def ensure_torchvision() -> None:
    """Import torchvision, defining the operator schemas that a mismatched build lacks.

    Does nothing more than the import where the builds match. Call before the first ``import timm``.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return
    import sys

    import torch

    # A failed import leaves half-initialised submodules behind.
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    for operator, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(f"torchvision::{operator}", schema)
    import torchvision  # noqa: F401

"""Makes networks: timm's own by name, and timm's VisionTransformer from numbers."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hw.errors import InputError

if TYPE_CHECKING:
    from torch import nn

NEW_CLASSES = 1000
"""Classes of the head that a model defined without one gets."""


def import_timm() -> Any:
    """Return the timm module, imported so that it works beside a CPU-only torch."""
    from sw.networks.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    import timm

    return timm


def create_from_arguments(arguments: dict[str, Any]) -> "nn.Module":
    """Return ``timm.models.vision_transformer.VisionTransformer(**arguments)``."""
    import_timm()
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(**arguments)


def create_by_name(
    name: str,
    image_size: tuple[int, int] | None = None,
    classes: int | None = None,
    *,
    device: str = "cpu",
    pretrained: bool = False,
) -> "nn.Module":
    """Return the timm model of that name; one that timm defines without a classifier gets one of `NEW_CLASSES` classes.

    Args:
        name: a timm name.
        image_size: height and width; the model's own where None.
        classes: number of logits; the model's own where None.
        device: ``meta`` for the shapes alone.
        pretrained: with timm's weights, which need a network the first time; otherwise timm's initial ones.

    Raises:
        InputError: timm does not know the name, or the model has no such image size, or its weights cannot be had.
    """
    import torch
    from torch import nn

    timm = import_timm()
    if not timm.is_model(name):
        raise InputError(f"Network must be fmnist_vit_tiny, a timm name or 'vit:dim=24,depth=2,...', not {name!r}")
    own: dict[str, Any] = {} if image_size is None else {"img_size": tuple(image_size)}
    if classes is not None:
        if classes < 1:
            raise InputError(f"Network {name!r}: classes must be a positive integer, not {classes}")
        own["num_classes"] = classes
    try:
        with torch.device(device), warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            vit = timm.create_model(name, pretrained=pretrained, **own)
    except Exception as error:  # a model's own code may raise anything, and so may the way to its weights
        reason = " ".join(str(error).split()).split(". ")[0][:160]
        if pretrained:
            raise InputError(
                f"Weights 'pretrained' of {name!r} must be reachable through timm, or give a file: {type(error).__name__}: {reason}"
            ) from None
        wanted = "" if image_size is None else f" at {image_size[0]}x{image_size[1]}"
        raise InputError(f"Network {name!r} must be one that timm can make{wanted}: {type(error).__name__}: {reason}") from None
    if isinstance(getattr(vit, "head", None), nn.Identity) and hasattr(vit, "reset_classifier"):
        if pretrained:
            raise InputError(f"Weights 'pretrained' of {name!r} have no classifier; give a file that has one")
        vit.reset_classifier(NEW_CLASSES)
        vit.head.to(device)
    return vit


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines below errors: a hub that cannot be reached would tell of every attempt."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

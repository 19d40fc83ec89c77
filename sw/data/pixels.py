"""Pixels as they are stored, as a network takes them, and as the machine takes them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from hw.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

CALIBRATION_IMAGES = 512
"""Images that quantization scales are chosen on."""
_FEW_IMAGES = 32
_MANY_NUMBERS = 1 << 18
"""Pixels of an image times channels of a network from which noise calibrates with `_FEW_IMAGES`."""


def padded(images: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Return uint8 images [n, height, width, channels] in the middle of black ones of ``image_size``.

    Raises:
        InputError: the images are larger.
    """
    extra = [wanted - found for wanted, found in zip(image_size, images.shape[1:3], strict=True)]
    if min(extra) < 0:
        raise InputError(f"Images must be at most {image_size[0]}x{image_size[1]}, not {images.shape[1]}x{images.shape[2]}")
    return np.pad(images, ((0, 0), *((size // 2, size - size // 2) for size in extra), (0, 0)))


def fitted(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return uint8 images [n, height, width, channels] as a network takes them.

    Args:
        images: of its size or smaller, and its channels or one less.
        shape: the network's channels, height and width (`sw.importing.module_image_shape`). One channel more than the images
            have is the plane of `sw.networks.normalization`, 255 throughout.

    Raises:
        InputError: the images are larger or have other channels.
    """
    images = padded(images, shape[1:])
    if images.shape[3] + 1 == shape[0] > 1:
        images = np.concatenate([images, np.full((*images.shape[:3], 1), 255, np.uint8)], axis=3)
    if images.shape[3] != shape[0]:
        raise InputError(f"Images must have {shape[0]} channels, not {images.shape[3]}")
    return images


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Return uint8 images as the accelerator takes them: int8 of the same shape, pixel - 128."""
    return (images.astype(np.int16) - 128).astype(np.int8)


def to_input(images: np.ndarray) -> "Tensor":
    """Return the network's input, float32 tensor [n, 1, 28, 28], of uint8 images [n, 28, 28, 1].

    The value is (pixel - 128) / 128, so pixel - 128 is the accelerator's int8 input at a scale of exactly 1/128, and
    quantizing the input rounds nothing. Images of any height, width and channel count are accepted.
    """
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return (pixels.float() - 128.0) / 128.0


def random_pixels(spec: Any, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images to calibrate on and ``count`` others, uint8 [n, height, width, channels], all of them noise.

    Few images calibrate a network on noise as well as many do, and large ones are slow.

    Args:
        spec: the network, a `sw.networks.spec.NetworkSpec`.
        count: of the others.
        seed: of the noise.
    """
    shape = (*spec.image_size, spec.channels)
    calibrating = CALIBRATION_IMAGES if np.prod(shape) * spec.dim < _MANY_NUMBERS else _FEW_IMAGES
    drawn = np.random.default_rng(seed).integers(0, 256, (calibrating + count, *shape), dtype=np.uint8)
    return drawn[:calibrating], drawn[calibrating:]

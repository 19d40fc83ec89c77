"""Picture files as a network's pixels.

A file is resized and cropped by timm's own evaluation transform (`timm.data.create_transform` with the model's
`resolve_data_config`), up to and without its normalisation, which is in the network's weights (`sw.networks.normalization`): what
comes out are the pixels that the accelerator gets.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hw.errors import InputError
from sw.data.fashion_mnist import takes_fashion_mnist
from sw.data.idx import IMAGE_SIDE
from sw.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from PIL.Image import Image

BACKGROUND = (255, 255, 255)
"""What transparent pixels show: white, as on a page."""
_EIGHT_BITS = frozenset(("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"))
_SIXTEEN_BITS = frozenset(("I;16", "I;16L", "I;16B", "I;16N"))
_TRANSPARENT = frozenset(("LA", "PA", "RGBA"))
"""Pillow's modes."""


def eight_bits(picture: "Image", name: str = "Picture") -> "Image":
    """Return a PIL image upright and opaque, in mode L or RGB, whatever its own mode.

    Named orientations (EXIF) are carried out, 16 bits scaled to 8, and what is transparent shows `BACKGROUND`. Of several frames
    it is the first.

    Args:
        picture: of any size.
        name: in messages.

    Raises:
        InputError: its numbers have no range of their own, as floats and 32-bit integers have none.
    """
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode in _SIXTEEN_BITS:
        numbers = np.asarray(picture)
        grey = np.rint(numbers / 257.0).astype(np.uint8)
        grey[numbers == picture.info.get("transparency", -1)] = BACKGROUND[0]
        return Image.fromarray(grey)
    if picture.mode in _TRANSPARENT or (picture.mode in _EIGHT_BITS and "transparency" in picture.info):
        shown = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, (*BACKGROUND, 255)), shown).convert("RGB")
    if picture.mode not in _EIGHT_BITS:
        raise InputError(f"{name} must have 8 or 16 bits a channel, not Pillow's mode {picture.mode!r}")
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")


@dataclass(frozen=True)
class PictureFormat:
    """How a picture becomes pixels.

    Attributes:
        size: height and width that it is resized and cropped to.
        channels: 1 for grey, 3 for colour.
        crop_pct: share of the resized picture's shorter side that the crop keeps.
        interpolation, crop_mode: as timm names them.
    """

    size: tuple[int, int]
    channels: int
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    crop_mode: str = "center"

    @cached_property
    def _transform(self) -> Any:
        from sw.networks.plain_vit import import_timm

        import_timm()
        from timm.data import create_transform

        # Made for a prefetcher, timm's transform ends in uint8 pixels, and the prefetcher would normalise.
        return create_transform(
            (self.channels, *self.size), crop_pct=self.crop_pct, interpolation=self.interpolation, crop_mode=self.crop_mode,
            use_prefetcher=True,
        )  # fmt: skip

    def pixels(self, picture: "Image", name: str = "Picture") -> np.ndarray:
        """Return uint8 [height, width, channels] of a PIL image of any size; arguments and errors are those of `eight_bits`."""
        whole = eight_bits(picture, name).convert("L" if self.channels == 1 else "RGB")
        return np.asarray(self._transform(whole)).transpose(1, 2, 0)

    def read(self, path: Path) -> np.ndarray:
        """Return uint8 [height, width, channels] of an image file.

        Raises:
            InputError: the file is missing, no image, too large, or of a kind without a range (`eight_bits`).
        """
        from PIL import Image

        name = f"Image file {path}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of large pictures, and of damage that does not matter
                with Image.open(path) as picture:
                    return self.pixels(picture, name)
        except InputError:
            raise
        except FileNotFoundError:
            raise InputError(f"{name} must exist") from None
        except Image.DecompressionBombError:
            most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            raise InputError(f"{name} must have at most {most // 10**6} million pixels; make it smaller first") from None
        except Exception as error:  # whatever the decoders of forty formats raise
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"{name} must be a whole JPEG, PNG or other picture: {reason or type(error).__name__}") from None


def picture_format(spec: NetworkSpec) -> PictureFormat:
    """Return the format of a network's pictures: Fashion-MNIST's, the timm model's own, or its image size alone."""
    if takes_fashion_mnist(spec):
        return PictureFormat((IMAGE_SIDE, IMAGE_SIDE), 1)
    if spec.timm_name is None:
        return PictureFormat(spec.image_size, spec.channels)
    from sw.networks.plain_vit import import_timm

    timm = import_timm()
    from timm.data import resolve_data_config

    known = timm.get_pretrained_cfg(spec.timm_name).to_dict()
    found = resolve_data_config({"input_size": (spec.channels, *spec.image_size)}, pretrained_cfg=known)
    return PictureFormat(spec.image_size, spec.channels, found["crop_pct"], found["interpolation"], found["crop_mode"])

"""Image files as a network's pixels, and folders of them as a data set.

A file is resized and cropped by timm's own evaluation transform (`timm.data.create_transform` with the model's
`resolve_data_config`), up to and without its normalisation, which is in the network's weights (`sw.networks.normalization`): what
comes out are the pixels that the accelerator gets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hw.errors import InputError
from sw.data.fashion_mnist import CLASS_NAMES, FashionMnist, takes_fashion_mnist
from sw.data.idx import IMAGE_SIDE
from sw.data.split import Split
from sw.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET_CLASSES = 1000
_CALIBRATION_SHARE = 5
"""Of a folder without parts, every so many images of a class are for calibration."""
_TRAIN_PARTS, _TEST_PARTS = ("train",), ("val", "validation", "test")


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

    def pixels(self, picture: "Image") -> np.ndarray:
        """Return uint8 [height, width, channels] of a PIL image of any size."""
        return np.asarray(self._transform(picture.convert("L" if self.channels == 1 else "RGB"))).transpose(1, 2, 0)

    def read(self, path: Path) -> np.ndarray:
        """Return uint8 [height, width, channels] of an image file.

        Raises:
            InputError: the file is missing or no image.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as picture:
                return self.pixels(picture)
        except FileNotFoundError:
            raise InputError(f"Image file {path} must exist") from None
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"Image file {path} must be a whole JPEG, PNG or other picture: {reason}") from None


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


def class_names(spec: NetworkSpec) -> tuple[str, ...] | None:
    """Return the names of a network's classes where the network tells: Fashion-MNIST's, or ImageNet's of 1,000; else None."""
    if takes_fashion_mnist(spec):
        return CLASS_NAMES
    if spec.classes != IMAGENET_CLASSES:
        return None
    from sw.networks.plain_vit import import_timm

    import_timm()
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return tuple(info.index_to_description(index).split(",")[0] for index in range(IMAGENET_CLASSES))


@dataclass(frozen=True)
class FolderSplit:
    """Image files with labels, read when they are taken.

    Attributes:
        name: ``calibration`` or ``test``.
        files: in the order of their class, then of their name.
        labels: int64 [n].
        format: how a file becomes pixels.
    """

    name: str
    files: tuple[Path, ...]
    labels: np.ndarray
    format: PictureFormat

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def take(self, count: int) -> Split:
        """Return ``count`` images, evenly spread over the files and so over the classes, always the same ones.

        Raises:
            InputError: there are fewer, or a file is no image.
        """
        if not 1 <= count <= len(self):
            raise InputError(f"Image count must be 1 to {len(self)} (split {self.name!r}), not {count}")
        chosen = np.arange(count, dtype=np.int64) * len(self) // count
        images = np.stack([self.format.read(self.files[index]) for index in chosen])
        return Split(self.name, images, self.labels[chosen], chosen)


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images, one folder per class, split.

    Attributes:
        calibration: of the part ``train`` where there is one, else every fifth image of a class.
        test: of the part ``val``, ``validation`` or ``test`` where there is one, else the other images.
        source: the folder.
        class_names: the classes' folders in the order of their labels.
    """

    calibration: FolderSplit
    test: FolderSplit
    source: str
    class_names: tuple[str, ...]

    @property
    def test_all(self) -> FolderSplit:
        """Every test image."""
        return self.test


def load_image_folder(root: Path | str, spec: NetworkSpec) -> ImageFolder:
    """Return the data set in ``root/<class>/<image>``, or ``root/train/<class>/<image>`` and ``root/val/<class>/<image>``.

    Labels are the classes' places in the order of their names. For a network of ImageNet's 1,000 classes, folders may also be
    some of ImageNet's (``n01440764``), with ImageNet's labels.

    Args:
        root: the folder.
        spec: the network; its size and transform are the images'.

    Raises:
        InputError: the folder is not there, has no images, or not the network's classes.
    """
    directory = Path(root)
    parts = {name: directory / name for name in (*_TRAIN_PARTS, *_TEST_PARTS) if (directory / name).is_dir()}
    train = next((parts[name] for name in _TRAIN_PARTS if name in parts), None)
    test = next((parts[name] for name in _TEST_PARTS if name in parts), None)
    holders = (train, test) if train is not None and test is not None else (directory, directory)
    names = sorted({found.name for holder in holders for found in _folders(holder)})
    labels = _labels(directory, names, spec)
    calibration, tested = (_files(holder, labels) for holder in holders)
    if holders[0] == holders[1]:
        place = _place_in_class(tested)
        calibration = [item for item, at in zip(tested, place, strict=True) if at % _CALIBRATION_SHARE == 0]
        tested = [item for item, at in zip(tested, place, strict=True) if at % _CALIBRATION_SHARE]
    splits = {"calibration": calibration, "test": tested}
    for name, found in splits.items():
        if not found:
            raise InputError(f"Data directory {directory} must hold images for {name}, such as {names[0]}/1.jpg, not none")
    form = picture_format(spec)
    made = {
        name: FolderSplit(name, tuple(path for path, _ in found), np.array([label for _, label in found], np.int64), form)
        for name, found in splits.items()
    }
    return ImageFolder(**made, source=str(directory), class_names=tuple(names))


def load_data(root: Path | str | None, spec: NetworkSpec) -> FashionMnist | ImageFolder:
    """Return a network's data: Fashion-MNIST for networks that take it, else the `ImageFolder` at ``root``.

    Both have ``source``, ``class_names``, and ``calibration``, ``test`` and ``test_all`` whose ``take(count)`` gives a
    `sw.data.split.Split`.

    Raises:
        InputError: the data is absent or not what it should be.
    """
    from sw.data.fashion_mnist import load_fashion_mnist

    if takes_fashion_mnist(spec):
        return load_fashion_mnist(root)
    if root is None:
        raise InputError(f"Network {spec.name!r} needs --data DIR with its images as DIR/<class>/<image>.jpg")
    return load_image_folder(root, spec)


def _folders(directory: Path) -> Sequence[Path]:
    if not directory.is_dir():
        raise InputError(f"Data directory {directory} must exist and hold <class>/<image>.jpg")
    found = sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not found:
        raise InputError(f"Data directory {directory} must hold a folder per class, such as {directory}/cat/1.jpg, not none")
    return found


def _labels(directory: Path, names: list[str], spec: NetworkSpec) -> dict[str, int]:
    if len(names) == spec.classes:
        return {name: index for index, name in enumerate(names)}
    if spec.classes == IMAGENET_CLASSES:
        from sw.networks.plain_vit import import_timm

        import_timm()
        from timm.data import ImageNetInfo

        known = {name: index for index, name in enumerate(ImageNetInfo().label_names())}
        if all(name in known for name in names):
            return {name: known[name] for name in names}
    raise InputError(f"Data directory {directory} must have the {spec.classes} classes of network {spec.name!r}, not {len(names)}")


def _files(directory: Path, labels: dict[str, int]) -> list[tuple[Path, int]]:
    """(file, label) by class, then name."""
    from sw.networks.plain_vit import import_timm

    import_timm()
    from timm.data.readers.reader_image_folder import find_images_and_targets

    found, _ = find_images_and_targets(str(directory), class_to_idx=labels)
    return sorted(((Path(path), label) for path, label in found), key=lambda item: (item[1], item[0]))


def _place_in_class(files: list[tuple[Path, int]]) -> list[int]:
    """Place of each file among those of its class."""
    seen: dict[int, int] = {}
    places = []
    for _, label in files:
        places.append(seen.get(label, 0))
        seen[label] = places[-1] + 1
    return places

"""Folders of picture files as a data set."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw.errors import InputError
from sw.data.fashion_mnist import CLASS_NAMES, FashionMnist, takes_fashion_mnist
from sw.data.picture import PictureFormat, picture_format
from sw.data.split import Split
from sw.networks.spec import NetworkSpec

IMAGENET_CLASSES = 1000
_CALIBRATION_SHARE = 5
"""Of a folder without parts, every so many images of a class are for calibration."""
_TRAIN_PARTS, _TEST_PARTS = ("train", "training"), ("val", "valid", "validation", "test", "testing")
"""In any case; the first that is there."""
_LAYOUTS = "DIR/<class>/<image>, or DIR/train/<class>/<image> and DIR/val/<class>/<image>"
_NOT_DECODED = frozenset(("BUFR", "GRIB", "HDF5", "MPEG", "WMF"))
"""Formats that Pillow knows by name alone."""


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
        left_out: files that are no images by their names or in no class's folder, as ``2 .txt, 1 in no class's folder``.
    """

    calibration: FolderSplit
    test: FolderSplit
    source: str
    class_names: tuple[str, ...]
    left_out: str

    @property
    def test_all(self) -> FolderSplit:
        """Every test image."""
        return self.test


def load_image_folder(root: Path | str, spec: NetworkSpec) -> ImageFolder:
    """Return the data set in ``root/<class>/.../<image>``, or ``root/train/<class>/...`` and ``root/val/<class>/...``.

    The first folder below the root, or below its part, is the class. Labels are the classes' places in the order of their names.
    For a network of ImageNet's 1,000 classes, folders may also be some of ImageNet's (``n01440764``), with ImageNet's labels.
    Images are what Pillow reads by the file's extension; hidden files do not count.

    Args:
        root: the folder.
        spec: the network; its size and transform are the images'.

    Raises:
        InputError: the folder is not there, has no images, or not the network's classes.
    """
    directory = Path(root)
    if not directory.is_dir():
        raise InputError(f"Data directory {directory} must exist and hold images as {_LAYOUTS}")
    train, test = (_part(directory, names) for names in (_TRAIN_PARTS, _TEST_PARTS))
    holders = (directory,) if train is None or test is None else (train, test)
    names = sorted({found.name for holder in holders for found in _folders(holder)})
    if not names:
        raise InputError(f"Data directory {directory} must hold a folder per class, as {_LAYOUTS}, not none")
    labels = _labels(directory, names, spec)
    left_out: Counter[str] = Counter()
    found = [_files(holder, labels, left_out) for holder in holders]
    if len(found) == 1:
        place = _place_in_class(found[0])
        found = [
            [item for item, at in zip(found[0], place, strict=True) if (at % _CALIBRATION_SHARE == 0) == calibrates]
            for calibrates in (True, False)
        ]
    form = picture_format(spec)

    def split(name: str, files: list[tuple[Path, int]]) -> FolderSplit:
        if not files:
            without = f"; {_told(left_out)} left out" if left_out else ""
            raise InputError(f"Data directory {directory} must hold images for {name}, such as {names[0]}/1.jpg, not none{without}")
        return FolderSplit(name, tuple(path for path, _ in files), np.array([label for _, label in files], np.int64), form)

    calibration, tested = found
    return ImageFolder(
        split("calibration", calibration), split("test", tested), str(directory), class_names=tuple(names), left_out=_told(left_out)
    )


def load_data(root: Path | str | None, spec: NetworkSpec) -> FashionMnist | ImageFolder:
    """Return a network's data for a command: Fashion-MNIST for networks that take it, else the `ImageFolder` at ``root``.

    Both have ``source``, ``class_names``, and ``calibration``, ``test`` and ``test_all`` whose ``take(count)`` gives a
    `sw.data.split.Split`. What a folder holds beside images is told on stderr.

    Raises:
        InputError: the data is absent or not what it should be.
    """
    from sw.data.fashion_mnist import load_fashion_mnist

    if takes_fashion_mnist(spec):
        return load_fashion_mnist(root)
    if root is None:
        raise InputError(f"Network {spec.name!r} needs --data DIR with its images as {_LAYOUTS}")
    data = load_image_folder(root, spec)
    if data.left_out:
        print(f"note: left out of {root}: {data.left_out}", file=sys.stderr)
    return data


def _folders(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))


def _part(directory: Path, names: tuple[str, ...]) -> Path | None:
    """The folder of a part's first name that is there, in any case."""
    found = {path.name.lower(): path for path in reversed(_folders(directory))}
    return next((found[name] for name in names if name in found), None)


def _told(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(left_out.items(), key=lambda item: (-item[1], item[0])))


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
    first = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    raise InputError(
        f"Data directory {directory} must have the {spec.classes} classes of network {spec.name!r} as {_LAYOUTS}, "
        f"not {len(names)} ({first})"
    )


def _files(directory: Path, labels: dict[str, int], left_out: Counter[str]) -> list[tuple[Path, int]]:
    """(file, label) by class, then name; counts what it leaves out."""
    from PIL import Image

    Image.init()
    extensions = {end for end, form in Image.registered_extensions().items() if form in Image.OPEN and form not in _NOT_DECODED}
    found = []
    for path in _visible_files(directory):
        label = labels.get(path.relative_to(directory).parts[0])
        if label is None:
            left_out["in no class's folder"] += 1
        elif path.suffix.lower() not in extensions:
            left_out[path.suffix.lower() or "without an extension"] += 1
        else:
            found.append((path, label))
    return sorted(found, key=lambda item: (item[1], item[0]))


def _visible_files(directory: Path) -> Iterator[Path]:
    """Files below a directory, by way of links too, but not those that hide; of a circle of links every folder once."""
    seen = set()
    for place, folders, files in os.walk(directory, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = [
            name for name in folders if not name.startswith(".") and os.path.realpath(os.path.join(place, name)) not in seen
        ]
        yield from (Path(place, name) for name in files if not name.startswith("."))


def _place_in_class(files: list[tuple[Path, int]]) -> list[int]:
    """Place of each file among those of its class."""
    seen: dict[int, int] = {}
    places = []
    for _, label in files:
        places.append(seen.get(label, 0))
        seen[label] = places[-1] + 1
    return places

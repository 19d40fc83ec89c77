"""Fashion-MNIST through one loader, and the splits that everything in this project keeps to.

The data set (Xiao, Rasul, Vollgraf, arXiv 1708.07747; MIT licence, (c) 2017 Zalando SE) is 60,000 training and 10,000
test images, grey, 28x28, in 10 classes, as four gzipped idx files. The repository ships its first 10,000 training and
first 2,000 test images, so that everything runs without a download.

    python -m sw.data show [--data DIR]      what the loader finds
    python -m sw.data fetch --out DIR        fetch the full set through torchvision
    python -m sw.data embed --data DIR       write the embedded subset and its manifest (maintainers)

Splits, fixed in ``assets/fashion_mnist/splits.json``:

- *calibration*: training images 8000 ... 9999, the last 2,000 of the embedded ones; never trained on, in any form;
- *train*: all other training images: 58,000 of the full set, 8,000 of the embedded subset;
- *test*: test images 0 ... 1999; *test_all*: every test image there is.
"""

import gzip
import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hw.errors import InputError
from hw.files import json_text, write_files

ASSETS = Path(__file__).parents[1] / "assets" / "fashion_mnist"
DEBIAN_LOCATION = Path("/usr/share/datasets/fashion-mnist")
ENVIRONMENT_VARIABLE = "PIVOT_DATA"
EMBEDDED = "embedded"
IMAGE_SIDE = 28
CLASSES = 10
MOST_PADDED = 32
"""Greatest side of the images that the data set's are padded to."""
CLASS_NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

_FULL_COUNT = {"train": 60_000, "test": 10_000}
_EMBEDDED_COUNT = {"train": 10_000, "test": 2_000}
_PREFIX = {"train": "train", "test": "t10k"}
_IMAGE_MAGIC = 0x0803
_LABEL_MAGIC = 0x0801


@dataclass(frozen=True)
class Split:
    """Some images of one file of the data set.

    Attributes:
        name: ``train``, ``calibration``, ``test`` or ``test_all``.
        images: uint8 [n, 28, 28, 1], pixels 0 ... 255.
        labels: int64 [n], classes 0 ... 9.
        indices: int64 [n], each image's place in its file (the training file, or for test splits the test file).
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def take(self, count: int) -> "Split":
        """Return the first ``count`` images as a split of the same name."""
        if not 1 <= count <= len(self):
            raise InputError(f"Image count must be 1 to {len(self)} (split {self.name!r}), not {count}")
        return Split(self.name, self.images[:count], self.labels[:count], self.indices[:count])


@dataclass(frozen=True)
class FashionMnist:
    """The data set, split.

    Attributes:
        train: 58,000 images of the full set, or 8,000 of the embedded subset.
        calibration: 2,000 images that nothing is ever trained on.
        test: the first 2,000 test images.
        test_all: all test images present (10,000 of the full set, 2,000 of the embedded subset).
        source: ``embedded`` or the directory read.
        digest: SHA-256 over the uncompressed content of the four files, as hexadecimal digits.
    """

    train: Split
    calibration: Split
    test: Split
    test_all: Split
    source: str
    digest: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their labels."""
        return CLASS_NAMES


def takes_fashion_mnist(spec: Any) -> bool:
    """Whether a network (`sw.networks.network.NetworkSpec`) takes the data set's images, as they are or in a black border."""
    height, width = spec.image_size
    fits = min(height, width) >= IMAGE_SIDE and max(height, width) <= MOST_PADDED
    return bool(fits and spec.channels == 1 and spec.classes == CLASSES)


def split_indices(*, full: bool) -> dict[str, np.ndarray]:
    """Return the committed index lists of ``train``, ``calibration``, ``test`` and ``test_all``, int64, ascending.

    Args:
        full: of the full data set; otherwise of the embedded subset.
    """
    ranges = json.loads((ASSETS / "splits.json").read_text())["full" if full else "embedded"]
    return {
        name: np.concatenate([np.arange(start, stop, dtype=np.int64) for start, stop in spans])
        for name, spans in ranges.items()
    }


def find_data(root: Path | str | None = None) -> Path:
    """Return the directory to read: ``root``, else $PIVOT_DATA, else Debian's, else the embedded subset's.

    ``embedded`` (as ``root`` or in the environment variable) forces the embedded subset.
    """
    chosen = root if root is not None else os.environ.get(ENVIRONMENT_VARIABLE) or None
    if chosen is None:
        return DEBIAN_LOCATION if _path(DEBIAN_LOCATION, "train", "images") else ASSETS
    if str(chosen) == EMBEDDED:
        return ASSETS
    directory = Path(chosen)
    if not directory.is_dir():
        raise InputError(f"Data directory must exist and hold {_file_name('train', 'images')}.gz, not {directory}")
    nested = directory / "FashionMNIST" / "raw"  # where torchvision puts the files
    return nested if nested.is_dir() else directory


def load_fashion_mnist(root: Path | str | None = None) -> FashionMnist:
    """Read and check the data set.

    Args:
        root: directory of the idx files (gzipped or not), ``embedded``, or None (see `find_data`).

    Raises:
        InputError: a file is missing, truncated, renamed or not what it should be; for the embedded subset, its
            SHA-256 differs from the committed manifest.
    """
    directory = find_data(root)
    embedded = directory.resolve() == ASSETS.resolve()
    if embedded:
        _check_manifest(directory)
    arrays, digest = {}, hashlib.sha256()
    for part in ("train", "test"):
        images, labels = _read_images(directory, part), _read_labels(directory, part)
        allowed = {_EMBEDDED_COUNT[part], _FULL_COUNT[part]}
        if len(images) not in allowed or len(labels) != len(images):
            raise InputError(
                f"{directory / _file_name(part, 'images')} must hold {_FULL_COUNT[part]} images and its label file as "
                f"many labels, not {len(images)} and {len(labels)}"
            )
        arrays[part] = images, labels
        digest.update(images.tobytes())
        digest.update(labels.astype(np.uint8).tobytes())
    full = len(arrays["train"][0]) == _FULL_COUNT["train"]
    if full != (len(arrays["test"][0]) == _FULL_COUNT["test"]):
        raise InputError(f"{directory} must hold both files of the full data set or both of the subset, not a mixture")
    splits = {}
    for name, indices in split_indices(full=full).items():
        images, labels = arrays["test" if name.startswith("test") else "train"]
        splits[name] = Split(name, images[indices], labels[indices], indices)
    return FashionMnist(**splits, source=EMBEDDED if embedded else str(directory), digest=digest.hexdigest())


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
        shape: the network's channels, height and width (`sw.graph.float_network.image_shape`). One channel more than the images
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


def to_input(images: np.ndarray):
    """Return the network's input, float32 tensor [n, 1, 28, 28], of uint8 images [n, 28, 28, 1].

    The value is (pixel - 128) / 128, so pixel - 128 is the accelerator's int8 input at a scale of exactly 1/128, and
    quantizing the input rounds nothing. Images of any height, width and channel count are accepted.
    """
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return (pixels.float() - 128.0) / 128.0


def _file_name(part: str, kind: str) -> str:
    return f"{_PREFIX[part]}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"


def _path(directory: Path, part: str, kind: str) -> Path | None:
    name = _file_name(part, kind)
    return next((path for path in (directory / f"{name}.gz", directory / name) if path.is_file()), None)


def _read_idx(directory: Path, part: str, kind: str) -> tuple[Path, bytes]:
    path = _path(directory, part, kind)
    if path is None:
        raise InputError(f"Data directory {directory} must hold {_file_name(part, kind)}.gz (or the file unpacked)")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} must be a whole gzip file: {error}") from None
    return path, content


def _parse_idx(path: Path, content: bytes, magic: int, item_shape: tuple[int, ...]) -> np.ndarray:
    header = 4 * (2 + len(item_shape))
    words = np.frombuffer(content[:header], ">u4") if len(content) >= header else np.zeros(1, ">u4")
    found = f"0x{int(words[0]):08x}" if len(content) >= 4 else f"{len(content)} bytes"
    if int(words[0]) != magic:
        what = "an idx image file" if magic == _IMAGE_MAGIC else "an idx label file"
        raise InputError(f"{path} must be {what} (magic 0x{magic:08x}), not {found}; is it renamed?")
    shape = tuple(int(word) for word in words[2:])
    if shape != item_shape:
        raise InputError(f"{path} must hold items of shape {item_shape}, not {shape}")
    count, item_bytes = int(words[1]), int(np.prod(item_shape, dtype=np.int64))
    if len(content) - header != count * item_bytes:
        raise InputError(
            f"{path} must hold {count * item_bytes} bytes of data for its {count} items, not {len(content) - header}; "
            "is it truncated?"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(count, *item_shape)


def _read_images(directory: Path, part: str) -> np.ndarray:
    path, content = _read_idx(directory, part, "images")
    return _parse_idx(path, content, _IMAGE_MAGIC, (IMAGE_SIDE, IMAGE_SIDE))[..., np.newaxis]


def _read_labels(directory: Path, part: str) -> np.ndarray:
    path, content = _read_idx(directory, part, "labels")
    labels = _parse_idx(path, content, _LABEL_MAGIC, ())
    if labels.size and labels.max() >= CLASSES:
        raise InputError(f"{path} must hold labels 0 to {CLASSES - 1}, not {labels.max()}")
    return labels.astype(np.int64)


def _check_manifest(directory: Path) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    for name, expected in manifest["sha256"].items():
        path = directory / name
        if not path.is_file():
            raise InputError(f"Embedded data file {path} must exist; restore it from the repository")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise InputError(
                f"Embedded data file {path} must have SHA-256 {expected[:12]}..., not {found[:12]}...; "
                "restore it from the repository"
            )


def write_embedded(source: Path, directory: Path = ASSETS) -> None:
    """Write the embedded subset: the first images of the full set at ``source``, and their manifest.

    The files are the same bytes on every run of one zlib (gzip header without a time or name).
    """
    files: dict[str, str | bytes] = {}
    digests = {}
    for part in ("train", "test"):
        count = _EMBEDDED_COUNT[part]
        for kind, magic, shape in (("images", _IMAGE_MAGIC, (IMAGE_SIDE, IMAGE_SIDE)), ("labels", _LABEL_MAGIC, ())):
            path, content = _read_idx(source, part, kind)
            items = _parse_idx(path, content, magic, shape)[:count]
            header = np.array([magic, count, *shape], ">u4").tobytes()
            name = f"{_file_name(part, kind)}.gz"
            packed = gzip.compress(header + items.tobytes(), compresslevel=9, mtime=0)
            files[name] = packed
            digests[name] = hashlib.sha256(packed).hexdigest()
    files["manifest.json"] = json_text({"counts": _EMBEDDED_COUNT, "sha256": digests})
    write_files(directory, files)


def fetch_full(directory: Path) -> Path:
    """Fetch the full data set through torchvision into ``directory``; return the directory of its files."""
    from sw.networks.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    from torchvision.datasets import FashionMNIST

    for train in (True, False):
        FashionMNIST(root=str(directory), train=train, download=True)
    return find_data(directory)

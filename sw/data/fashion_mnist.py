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

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw.errors import InputError
from sw.data.idx import CLASSES, IMAGE_SIDE, file_name, find_file, read_images, read_labels
from sw.data.split import Split
from sw.networks.spec import NetworkSpec

ASSETS = Path(__file__).parents[1] / "assets" / "fashion_mnist"
DEBIAN_LOCATION = Path("/usr/share/datasets/fashion-mnist")
ENVIRONMENT_VARIABLE = "PIVOT_DATA"
EMBEDDED = "embedded"
MOST_PADDED = 32
"""Greatest side of the images that the data set's are padded to."""
CLASS_NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

_FULL_COUNT = {"train": 60_000, "test": 10_000}
EMBEDDED_COUNT = {"train": 10_000, "test": 2_000}


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


def takes_fashion_mnist(spec: NetworkSpec) -> bool:
    """Whether a network takes the data set's images, as they are or in a black border."""
    height, width = spec.image_size
    fits = min(height, width) >= IMAGE_SIDE and max(height, width) <= MOST_PADDED
    return bool(fits and spec.channels == 1 and spec.classes == CLASSES)


def split_indices(*, full: bool) -> dict[str, np.ndarray]:
    """Return the committed index lists of ``train``, ``calibration``, ``test`` and ``test_all``, int64, ascending.

    Args:
        full: of the full data set; otherwise of the embedded subset.
    """
    ranges = json.loads((ASSETS / "splits.json").read_text(encoding="utf-8"))["full" if full else "embedded"]
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
        return DEBIAN_LOCATION if find_file(DEBIAN_LOCATION, "train", "images") else ASSETS
    if str(chosen) == EMBEDDED:
        return ASSETS
    directory = Path(chosen)
    if not directory.is_dir():
        raise InputError(f"Data directory must exist and hold {file_name('train', 'images')}.gz, not {directory}")
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
        images, labels = read_images(directory, part), read_labels(directory, part)
        allowed = {EMBEDDED_COUNT[part], _FULL_COUNT[part]}
        if len(images) not in allowed or len(labels) != len(images):
            raise InputError(
                f"{directory / file_name(part, 'images')} must hold {_FULL_COUNT[part]} images and its label file as "
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


def _check_manifest(directory: Path) -> None:
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
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

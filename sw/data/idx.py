"""The idx files that Fashion-MNIST comes in."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from hw.errors import InputError

IMAGE_SIDE = 28
CLASSES = 10
IMAGE_MAGIC = 0x0803
LABEL_MAGIC = 0x0801
_PREFIX = {"train": "train", "test": "t10k"}


def file_name(part: str, kind: str) -> str:
    """Return the name of the file of ``train`` or ``test`` with ``images`` or ``labels``."""
    return f"{_PREFIX[part]}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"


def find_file(directory: Path, part: str, kind: str) -> Path | None:
    """Return a data set's file in a directory, gzipped or not; None where it is not there."""
    name = file_name(part, kind)
    return next((path for path in (directory / f"{name}.gz", directory / name) if path.is_file()), None)


def read_idx(directory: Path, part: str, kind: str) -> tuple[Path, bytes]:
    """Return the file and its unpacked content.

    Raises:
        InputError: it is missing or not whole.
    """
    path = find_file(directory, part, kind)
    if path is None:
        raise InputError(f"Data directory {directory} must hold {file_name(part, kind)}.gz (or the file unpacked)")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} must be a whole gzip file: {error}") from None
    return path, content


def parse_idx(path: Path, content: bytes, magic: int, item_shape: tuple[int, ...]) -> np.ndarray:
    """Return a file's items, uint8 [n, *item_shape].

    Args:
        path: for messages.
        content: of the file.
        magic: its first word.
        item_shape: of an item.

    Raises:
        InputError: it is another file, or truncated.
    """
    header = 4 * (2 + len(item_shape))
    words = np.frombuffer(content[:header], ">u4") if len(content) >= header else np.zeros(1, ">u4")
    found = f"0x{int(words[0]):08x}" if len(content) >= 4 else f"{len(content)} bytes"
    if int(words[0]) != magic:
        what = "an idx image file" if magic == IMAGE_MAGIC else "an idx label file"
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


def read_images(directory: Path, part: str) -> np.ndarray:
    """Return the images of a part, uint8 [n, 28, 28, 1].

    Raises:
        InputError: their file is missing or not what it should be.
    """
    path, content = read_idx(directory, part, "images")
    return parse_idx(path, content, IMAGE_MAGIC, (IMAGE_SIDE, IMAGE_SIDE))[..., np.newaxis]


def read_labels(directory: Path, part: str) -> np.ndarray:
    """Return the labels of a part, int64 [n].

    Raises:
        InputError: their file is missing or not what it should be.
    """
    path, content = read_idx(directory, part, "labels")
    labels = parse_idx(path, content, LABEL_MAGIC, ())
    if labels.size and labels.max() >= CLASSES:
        raise InputError(f"{path} must hold labels 0 to {CLASSES - 1}, not {labels.max()}")
    return labels.astype(np.int64)

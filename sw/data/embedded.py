"""The embedded subset's files: made from the full set, which is fetched here."""

import gzip
import hashlib
from pathlib import Path

import numpy as np

from hw.files import json_text, write_files
from sw.data.fashion_mnist import ASSETS, EMBEDDED_COUNT, find_data
from sw.data.idx import IMAGE_MAGIC, IMAGE_SIDE, LABEL_MAGIC, file_name, parse_idx, read_idx


def write_embedded(source: Path, directory: Path = ASSETS) -> None:
    """Write the embedded subset: the first images of the full set at ``source``, and their manifest.

    The files are the same bytes on every run of one zlib (gzip header without a time or name).
    """
    files: dict[str, str | bytes] = {}
    digests = {}
    for part in ("train", "test"):
        count = EMBEDDED_COUNT[part]
        for kind, magic, shape in (("images", IMAGE_MAGIC, (IMAGE_SIDE, IMAGE_SIDE)), ("labels", LABEL_MAGIC, ())):
            path, content = read_idx(source, part, kind)
            items = parse_idx(path, content, magic, shape)[:count]
            header = np.array([magic, count, *shape], ">u4").tobytes()
            name = f"{file_name(part, kind)}.gz"
            packed = gzip.compress(header + items.tobytes(), compresslevel=9, mtime=0)
            files[name] = packed
            digests[name] = hashlib.sha256(packed).hexdigest()
    files["manifest.json"] = json_text({"counts": EMBEDDED_COUNT, "sha256": digests})
    write_files(directory, files)


def fetch_full(directory: Path) -> Path:
    """Fetch the full data set through torchvision into ``directory``; return the directory of its files."""
    from sw.networks.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    from torchvision.datasets import FashionMNIST

    for train in (True, False):
        FashionMNIST(root=str(directory), train=train, download=True)
    return find_data(directory)

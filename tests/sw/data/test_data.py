import gzip
import hashlib
import json
import shutil

import numpy as np
import pytest

from hw.errors import InputError
from sw.data import fashion_mnist as data_module
from sw.data.__main__ import main
from sw.data.embedded import write_embedded
from sw.data.fashion_mnist import ASSETS, DEBIAN_LOCATION, load_fashion_mnist, split_indices
from sw.data.pixels import to_input

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"


@pytest.fixture(scope="module")
def embedded():
    return load_fashion_mnist("embedded")


@pytest.fixture
def copy(tmp_path):
    for path in ASSETS.glob("*.gz"):
        shutil.copy(path, tmp_path)
    return tmp_path


def repack(path, content):
    path.write_bytes(gzip.compress(content, compresslevel=1))


def test_embedded_sizes_and_types(embedded):
    assert (len(embedded.train), len(embedded.calibration), len(embedded.test), len(embedded.test_all)) == (
        8000,
        2000,
        2000,
        2000,
    )
    assert embedded.source == "embedded"
    for split in (embedded.train, embedded.calibration, embedded.test):
        assert split.images.shape == (len(split), 28, 28, 1) and split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64 and set(split.labels) == set(range(10))
        assert split.indices.dtype == np.int64


def test_embedded_is_the_known_data_set(embedded):
    # Fashion-MNIST's first training images are an ankle boot and two t-shirts, its first test image an ankle boot.
    assert list(embedded.train.labels[:6]) == [9, 0, 0, 3, 0, 2]
    assert list(embedded.test.labels[:6]) == [9, 2, 1, 1, 6, 1]
    manifest = json.loads((ASSETS / "manifest.json").read_text())["sha256"]
    for name, expected in manifest.items():
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == expected
    assert "MIT" in (ASSETS / "LICENSE").read_text() and "2017 Zalando SE" in (ASSETS / "LICENSE").read_text()


@pytest.mark.parametrize("full", [False, True])
def test_split_indices_are_disjoint(full):
    indices = split_indices(full=full)
    train, calibration = set(indices["train"]), set(indices["calibration"])
    assert calibration == set(range(8000, 10_000))
    assert not train & calibration
    assert train | calibration == set(range(60_000 if full else 10_000))
    assert list(indices["test"]) == list(range(2000))
    assert set(indices["test"]) <= set(indices["test_all"]) == set(range(10_000 if full else 2000))


def hashes(split):
    return {image.tobytes() for image in split.images}


def test_split_images_are_disjoint(embedded):
    # The data set holds no picture twice (checked over all 70,000), so pictures must be disjoint as indices are.
    sets = [hashes(split) for split in (embedded.train, embedded.calibration, embedded.test)]
    assert [len(pictures) for pictures in sets] == [8000, 2000, 2000]
    assert len(set.union(*sets)) == 12_000


@pytest.mark.skipif(not (DEBIAN_LOCATION / TRAIN_IMAGES).exists(), reason="the full data set is not installed")
def test_full_set_keeps_the_same_calibration_and_test_images(embedded, monkeypatch):
    monkeypatch.delenv("PIVOT_DATA", raising=False)
    full = load_fashion_mnist()
    assert (len(full.train), len(full.calibration), len(full.test), len(full.test_all)) == (58_000, 2000, 2000, 10_000)
    assert np.array_equal(full.calibration.images, embedded.calibration.images)
    assert np.array_equal(full.test.images, embedded.test.images)
    assert np.array_equal(full.test.labels, embedded.test.labels)
    assert not hashes(full.train) & (hashes(full.calibration) | hashes(full.test_all))


def test_input_is_exact_in_int8(embedded):
    inputs = to_input(embedded.test.images[:50])
    assert inputs.shape == (50, 1, 28, 28)
    integers = (inputs * 128).numpy()[:, 0]
    assert np.array_equal(integers, embedded.test.images[:50, :, :, 0].astype(np.int16) - 128)


def test_directory_by_argument_and_by_environment(copy, monkeypatch):
    assert load_fashion_mnist(copy).source == str(copy)
    monkeypatch.setenv("PIVOT_DATA", str(copy))
    assert load_fashion_mnist().source == str(copy)
    monkeypatch.setenv("PIVOT_DATA", "embedded")
    assert load_fashion_mnist().source == "embedded"


def test_no_directory_falls_back_to_the_embedded_subset(monkeypatch, tmp_path):
    monkeypatch.delenv("PIVOT_DATA", raising=False)
    monkeypatch.setattr(data_module, "DEBIAN_LOCATION", tmp_path / "absent")
    assert load_fashion_mnist().source == "embedded"


def test_unpacked_files_read_the_same(copy, embedded):
    for path in copy.glob("*.gz"):
        (copy / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert load_fashion_mnist(copy).digest == embedded.digest


def rejection(directory):
    with pytest.raises(InputError) as caught:
        load_fashion_mnist(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_directory_and_file(copy):
    assert "must exist" in rejection(copy / "absent")
    (copy / TEST_LABELS).unlink()
    assert "t10k-labels-idx1-ubyte.gz" in rejection(copy)


def test_truncated_gzip(copy):
    content = (copy / TRAIN_IMAGES).read_bytes()
    (copy / TRAIN_IMAGES).write_bytes(content[: len(content) // 2])
    message = rejection(copy)
    assert TRAIN_IMAGES in message and "whole gzip file" in message


def test_not_gzip(copy):
    (copy / TRAIN_IMAGES).write_bytes(b"not a gzip file")
    assert "whole gzip file" in rejection(copy)


def test_truncated_content(copy):
    repack(copy / TRAIN_IMAGES, gzip.decompress((copy / TRAIN_IMAGES).read_bytes())[:-1])
    assert "truncated" in rejection(copy)
    repack(copy / TRAIN_IMAGES, b"\0\0")
    assert "2 bytes" in rejection(copy)


def test_images_and_labels_swapped(copy):
    images, labels = (copy / TEST_IMAGES).read_bytes(), (copy / TEST_LABELS).read_bytes()
    (copy / TEST_IMAGES).write_bytes(labels)
    (copy / TEST_LABELS).write_bytes(images)
    message = rejection(copy)
    assert TEST_IMAGES in message and "0x00000803" in message and "renamed" in message


def test_train_and_test_swapped(copy):
    for kind in ("images-idx3", "labels-idx1"):
        train, test = copy / f"train-{kind}-ubyte.gz", copy / f"t10k-{kind}-ubyte.gz"
        train.rename(copy / "other")
        test.rename(train)
        (copy / "other").rename(test)
    assert "must hold 60000 images" in rejection(copy)


def test_wrong_image_size_and_label(copy):
    content = bytearray(gzip.decompress((copy / TEST_IMAGES).read_bytes()))
    content[11] = 14
    repack(copy / TEST_IMAGES, bytes(content))
    assert "(28, 28)" in rejection(copy)
    shutil.copy(ASSETS / TEST_IMAGES, copy)
    labels = bytearray(gzip.decompress((copy / TEST_LABELS).read_bytes()))
    labels[100] = 10
    repack(copy / TEST_LABELS, bytes(labels))
    assert "labels 0 to 9" in rejection(copy)


def test_embedded_file_changed(copy, monkeypatch):
    for name in ("manifest.json", "splits.json"):
        shutil.copy(ASSETS / name, copy)
    labels = bytearray(gzip.decompress((copy / TEST_LABELS).read_bytes()))
    labels[100] ^= 1
    repack(copy / TEST_LABELS, bytes(labels))
    monkeypatch.setattr(data_module, "ASSETS", copy)
    assert "SHA-256" in rejection("embedded")


def test_embedding_reproduces_the_subset(tmp_path):
    write_embedded(ASSETS, tmp_path)
    for path in ASSETS.glob("*.gz"):
        # Compressed bytes are a matter of the zlib version, so what they hold is compared.
        assert gzip.decompress((tmp_path / path.name).read_bytes()) == gzip.decompress(path.read_bytes())
        assert path.read_bytes()[4:8] == b"\0\0\0\0"


def test_command(capsys, tmp_path):
    assert main(["show", "--data", "embedded"]) == 0
    assert "train 8000, calibration 2000" in capsys.readouterr().out
    assert main(["show", "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1

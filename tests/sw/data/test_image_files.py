"""Image files and folders as a network's pixels, and the normalisation that its weights take over."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hw.errors import InputError
from sw.data.fashion_mnist import CLASS_NAMES, load_fashion_mnist
from sw.data.image_folder import PictureFormat, class_names, load_data, load_image_folder, picture_format
from sw.data.pixels import fitted, to_input, to_pixels
from sw.networks.network import parse_network
from sw.networks.normalization import fold_normalization
from sw.networks.plain_vit import import_timm

SPEC = parse_network("vit:dim=8,depth=1,heads=2,tokens=13,classes=3,patch=4,channels=3")  # 12x16 pixels
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def draw_picture(path, seed, size=(20, 14), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Seven pictures of each of three classes."""
    for index, name in enumerate(("cat", "dog", "emu")):
        for number in range(7):
            draw_picture(tmp_path / name / f"{number}.{('png', 'jpg')[number % 2]}", 10 * index + number)
    return tmp_path


def test_a_folder_is_split_within_each_class(folder):
    data = load_image_folder(folder, SPEC)
    assert data.class_names == ("cat", "dog", "emu")
    assert [file.name for file in data.calibration.files] == ["0.png", "5.jpg"] * 3
    assert data.test.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert not set(data.calibration.files) & set(data.test.files)
    taken = data.test.take(3)
    assert taken.labels.tolist() == [0, 1, 2] and taken.images.shape == (3, 12, 16, 3) and taken.images.dtype == np.uint8
    with pytest.raises(InputError, match="1 to 15"):
        data.test.take(16)


def test_parts_are_used_where_there_are_some(folder, tmp_path):
    for name in ("cat", "dog", "emu"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "train").mkdir(exist_ok=True)
        draw_picture(tmp_path / "val" / name / "1.png", 3)
        (tmp_path / name).rename(tmp_path / "train" / name)
    data = load_image_folder(folder, SPEC)
    assert len(data.calibration) == 21 and [file.parts[-3] for file in data.test.files] == ["val"] * 3


def test_imagenet_folders_have_imagenet_labels(tmp_path):
    for name in ("n01443537", "n02123045"):
        draw_picture(tmp_path / name / "1.jpg", 1)
        draw_picture(tmp_path / name / "2.jpg", 2)
    spec = replace(SPEC, classes=1000)
    assert load_image_folder(tmp_path, spec).test.labels.tolist() == [1, 281]
    assert class_names(spec)[281].startswith("tabby") and class_names(SPEC) is None


def test_folders_that_do_not_fit(folder, tmp_path):
    for wrong, spec, message in (
        (tmp_path / "absent", SPEC, "must exist"),
        (tmp_path / "cat", SPEC, "a folder per class"),
        (folder, replace(SPEC, classes=5), "the 5 classes of network .*not 3"),
        (None, SPEC, "needs --data DIR"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            load_data(wrong, spec)
        assert "\n" not in str(caught.value)
    (folder / "dog" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"dog/1\.jpg must be a whole JPEG"):
        load_data(folder, SPEC).test.take(15)


def test_pixels_are_timms_without_the_normalisation(tmp_path):
    """(pixel / 255 - mean) / std of what is read is what timm's evaluation transform gives."""
    draw_picture(tmp_path / "picture.png", 5, size=(300, 260))
    timm = import_timm()
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg("deit3_small_patch16_224").to_dict())
    with Image.open(tmp_path / "picture.png") as picture:
        expected = timm.data.create_transform(**config, is_training=False)(picture)
    spec = replace(SPEC, timm_name="deit3_small_patch16_224", image_size=(224, 224))
    pixels = picture_format(spec).read(tmp_path / "picture.png").astype(np.float32)
    found = (pixels / 255 - np.float32(config["mean"])) / np.float32(config["std"])
    np.testing.assert_allclose(found.transpose(2, 0, 1), expected.numpy(), atol=1e-5)


def test_grey_networks_read_any_picture(tmp_path):
    spec = parse_network("fmnist_vit_tiny")
    image = load_fashion_mnist("embedded").test.images[0]
    Image.fromarray(image[..., 0]).save(tmp_path / "exact.png")
    assert np.array_equal(picture_format(spec).read(tmp_path / "exact.png"), image)
    draw_picture(tmp_path / "colour.jpg", 1, size=(60, 40))
    assert picture_format(spec).read(tmp_path / "colour.jpg").shape == (28, 28, 1)
    assert class_names(spec) == CLASS_NAMES
    assert picture_format(parse_network("fmnist_lvvit")) == PictureFormat((28, 28), 1)


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_normalisation_in_the_weights(padding, bias):
    """Also at the border of a convolution that pads: zeros there are zeros of the normalised image."""
    torch.manual_seed(padding)
    convolution = nn.Conv2d(3, 5, 4, stride=2, padding=padding, bias=bias)
    images = np.random.default_rng(1).integers(0, 256, (2, 12, 8, 3), dtype=np.uint8)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    normal = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        expected = convolution(normal)
        fold_normalization(convolution, MEAN, STD)
        found = convolution(to_input(fitted(images, (convolution.in_channels, 12, 8))))
    assert convolution.in_channels == 3 + bool(padding)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_images_are_fitted_to_the_network():
    images = np.full((1, 2, 2, 3), 7, np.uint8)
    assert fitted(images, (3, 4, 4))[0, :, :, 0].tolist() == [[0] * 4, [0, 7, 7, 0], [0, 7, 7, 0], [0] * 4]
    assert fitted(images, (4, 2, 2))[..., 3].tolist() == [[[255, 255], [255, 255]]]
    with pytest.raises(InputError, match="must have 1 channels, not 3"):
        fitted(images, (1, 2, 2))
    assert to_pixels(np.uint8([0, 128, 255])).tolist() == [-128, 0, 127]

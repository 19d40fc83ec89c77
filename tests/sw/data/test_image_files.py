"""Image files and folders as a network's pixels, and the normalisation that its weights take over."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import nn

from hw.errors import InputError
from sw.data.fashion_mnist import CLASS_NAMES, load_fashion_mnist
from sw.data.image_folder import class_names, load_data, load_image_folder
from sw.data.picture import PictureFormat, picture_format
from sw.data.pixels import fitted, to_input, to_pixels
from sw.networks.network import parse_network
from sw.networks.normalization import Normalization, fold_normalization
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


@pytest.mark.parametrize(("train", "test"), [("Train", "valid"), ("TRAINING", "Testing"), ("train", "Validation")])
def test_names_of_parts(folder, tmp_path, train, test):
    root = tmp_path / "parts"
    for part in (train, test):
        for name in ("cat", "dog", "emu"):
            draw_picture(root / part / name / "1.png", 3)
    draw_picture(root / "annotations" / "1.png", 3)
    data = load_image_folder(root, SPEC)
    assert data.class_names == ("cat", "dog", "emu")
    assert {file.parts[-3] for file in data.calibration.files} == {train} and {file.parts[-3] for file in data.test.files} == {test}


def test_a_class_may_be_named_like_a_part(tmp_path):
    for name in ("boat", "car", "train"):
        for number in range(2):
            draw_picture(tmp_path / name / f"{number}.png", number)
    assert load_image_folder(tmp_path, SPEC).class_names == ("boat", "car", "train")


def test_every_picture_of_a_class_counts_and_the_rest_is_told(folder, capsys):
    """Folders within a class's, every format that Pillow reads, links; other files are counted, hidden ones are not."""
    kinds = ("webp", "WEBP", "bmp", "tiff", "gif", "jpeg", "ppm")
    for number, kind in enumerate(kinds):
        draw_picture(folder / "cat" / "dog" / f"x{number}.{kind}", number)
    (folder / "cat" / "again").symlink_to(folder / "cat", target_is_directory=True)
    for name in ("cat/notes.txt", "dog/more.txt", "emu/film.mp4", "emu/README", "list.csv", "emu/.DS_Store", "emu/.thumbs/1.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    data = load_data(folder, SPEC)
    assert len(data.calibration) + len(data.test) == 21 + len(kinds)
    labels = dict(zip(data.test.files + data.calibration.files, [*data.test.labels, *data.calibration.labels], strict=True))
    assert {label for file, label in labels.items() if "dog" in file.parts and "cat" in file.parts} == {0}
    assert data.test.take(len(data.test)).images.shape[1:] == (12, 16, 3)
    assert data.left_out == "2 .txt, 1 .mp4, 1 in no class's folder, 1 without an extension"
    assert capsys.readouterr().err == f"note: left out of {folder}: {data.left_out}\n"


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
        (tmp_path / "cat", SPEC, "a folder per class, as DIR/<class>/<image>, or DIR/train/<class>/<image> and DIR/val/"),
        (folder, replace(SPEC, classes=5), r"the 5 classes of network .*as DIR/<class>/<image>, .*not 3 \(cat, dog, emu\)"),
        (None, SPEC, "needs --data DIR"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            load_data(wrong, spec)
        assert "\n" not in str(caught.value)
    (folder / "dog" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"dog/1\.jpg must be a whole JPEG"):
        load_data(folder, SPEC).test.take(15)


RAMP = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)


def read(path, channels=1):
    return PictureFormat((16, 16), channels).read(path)


@pytest.mark.parametrize(("kind", "order"), [("png", "<"), ("tiff", "<"), ("tiff", ">")])
def test_sixteen_bits_are_scaled(tmp_path, kind, order):
    path = tmp_path / f"deep.{kind}"
    Image.fromarray((RAMP.astype(np.uint16) * 257).astype(f"{order}u2")).save(path)
    assert np.array_equal(read(path)[..., 0], RAMP)
    assert np.array_equal(read(path, channels=3), np.repeat(RAMP[..., None], 3, axis=2))


@pytest.mark.parametrize("numbers", [RAMP / np.float32(255), RAMP.astype(np.int32)])
def test_numbers_without_a_range_are_refused(tmp_path, numbers):
    picture = Image.fromarray(numbers)
    picture.save(tmp_path / "numbers.tiff")
    with pytest.raises(InputError, match=rf"Image file .*numbers\.tiff must have 8 or 16 bits a channel, not .* '{picture.mode}'"):
        read(tmp_path / "numbers.tiff")


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, RAMP), (2, RAMP[:, ::-1]), (3, RAMP[::-1, ::-1]), (4, RAMP[::-1]),
        (5, RAMP.T), (6, np.rot90(RAMP)), (7, RAMP[::-1, ::-1].T), (8, np.rot90(RAMP, -1)),
    ],
)  # fmt: skip
def test_named_orientations_are_carried_out(tmp_path, orientation, stored):
    """A viewer that knows EXIF's tag 274 shows the same picture for all eight."""
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read(tmp_path / "turned.png")[..., 0], RAMP)


def test_transparent_pixels_show_white(tmp_path):
    """Alpha channels, half of it included, and a colour that is named transparent; what lies under them does not matter."""
    alpha = np.zeros((16, 16), np.uint8)
    alpha[:8] = 255
    shown = np.where(alpha == 255, RAMP, 255)
    for under in (0, 77):
        grey = np.where(alpha == 255, RAMP, under).astype(np.uint8)
        Image.fromarray(np.stack([grey, alpha], axis=2)).save(tmp_path / "la.png")
        Image.fromarray(np.stack([grey] * 3 + [alpha], axis=2)).save(tmp_path / "rgba.png")
        for name in ("la", "rgba"):
            assert np.array_equal(read(tmp_path / f"{name}.png")[..., 0], shown), name
    half = np.full((16, 16, 4), 128, np.uint8)
    Image.fromarray(half).save(tmp_path / "half.webp", lossless=True, exact=True)
    assert read(tmp_path / "half.webp", channels=3)[0, 0].tolist() == [191] * 3
    Image.fromarray(RAMP).save(tmp_path / "named.png", transparency=5)
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "deep.png", transparency=5 * 257)
    for name in ("named", "deep"):
        assert np.array_equal(read(tmp_path / f"{name}.png")[..., 0], np.where(RAMP == 5, 255, RAMP)), name


def test_other_modes_become_colours(tmp_path):
    white = Image.fromarray(np.full((16, 16, 3), 255, np.uint8))
    profiles = [ImageCms.createProfile(space) for space in ("sRGB", "LAB")]
    made = {"tiff": ImageCms.applyTransform(white, ImageCms.buildTransformFromOpenProfiles(*profiles, "RGB", "LAB"))}
    made |= {"png": white.convert("1"), "gif": white.convert("P"), "jpg": white.convert("CMYK"), "jpeg": white.convert("YCbCr")}
    for kind, picture in made.items():
        picture.save(tmp_path / f"white.{kind}")
        assert read(tmp_path / f"white.{kind}", channels=3).min() >= 253, picture.mode


def test_damaged_and_huge_files_are_one_line(tmp_path):
    draw_picture(tmp_path / "whole.png", 1, size=(64, 64))
    whole = (tmp_path / "whole.png").read_bytes()
    rng = np.random.default_rng(1)
    broken = tmp_path / "broken.png"
    for _ in range(30):
        content = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.5 else whole)
        for place in rng.integers(0, len(content), 4):
            content[place] = rng.integers(256)
        broken.write_bytes(bytes(content))
        try:
            assert read(broken).shape == (16, 16, 1)  # damage that nobody sees
        except InputError as error:
            assert "\n" not in str(error) and str(error).startswith(f"Image file {broken} must ")
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(tmp_path / "huge.bmp")
    huge = bytearray((tmp_path / "huge.bmp").read_bytes())
    huge[18:26] = (20_000).to_bytes(4, "little") + (10_000).to_bytes(4, "little")
    (tmp_path / "huge.bmp").write_bytes(bytes(huge))
    with pytest.raises(InputError, match=r"huge\.bmp must have at most 178 million pixels; make it smaller first"):
        read(tmp_path / "huge.bmp")
    for place, message in ((tmp_path, "must be a whole"), (tmp_path / "absent.png", "must exist")):
        with pytest.raises(InputError, match=message):
            read(place)


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
        fold_normalization(convolution, Normalization(MEAN, STD))
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

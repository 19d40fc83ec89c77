"""Gated inference: a pair's directory, the devices' answers, and the command."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.golden import GoldenDevice
from sw import infer as command
from sw.compiler.memory_map import required_config
from sw.compiler.programs import compile_network
from sw.data.fashion_mnist import load_fashion_mnist
from sw.data.pixels import fitted, to_input, to_pixels
from sw.gated.inference import cascade, infer, infer_torch
from sw.gated.pair import ExitCost, Guarantee, Pair
from sw.graph.path import Path
from sw.graph.path_vit import PathVit
from sw.networks.network import build_network, parse_network
from sw.networks.normalization import Normalization, fold_normalization, match_first_convolution
from sw.quantization.quantize import quantize

NETWORK = "vit:dim=12,depth=2,heads=2,tokens=5,classes=10,mlp_ratio=2,patch=14"
PATHS = (Path.keeping([1], 2), Path.full(2))


@pytest.fixture(scope="module")
def images():
    return load_fashion_mnist("embedded").test.images[:40]


@pytest.fixture(scope="module")
def pair(images):
    """Two random networks whose gate divides the images in halves."""
    modules = [PathVit(build_network(NETWORK, "random", seed), path) for seed, path in enumerate(PATHS)]
    integer = [quantize(module, to_input(images)) for module in modules]
    config = AcceleratorConfig(rows=4, cols=4, pe_depth=4, **required_config(integer[1], 4, 4, 4))
    alone = GoldenDevice().run(compile_network(integer[0], config), to_pixels(images))
    return Pair(
        model=NETWORK,
        image_size=None,
        classes=None,
        preset="made",
        config=config,
        threshold=int(np.median(alone.entropy)),
        paths=PATHS,
        guarantee=Guarantee("calibration", 40, 0.5, 0.75, 0.751, 0.4, 0.002),
        costs=(ExitCost(1000, 1.0, 2.0), ExitCost(3000, 3.0, 7.0)),
        integer=tuple(integer),
        states=tuple(module.vit.state_dict() for module in modules),
    )


@pytest.fixture(scope="module")
def directory(pair, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    pair.save(path / "pair")
    return path


def test_a_pair_is_read_as_it_was_written(pair, directory):
    loaded = Pair.load(directory)
    assert loaded.program.memory == pair.program.memory and loaded.program.path_masks == (0b10, 0b11)
    for name in ("model", "image_size", "preset", "config", "threshold", "paths", "guarantee", "costs"):
        assert getattr(loaded, name) == getattr(pair, name)
    assert "40 images of the calibration split" in str(loaded.guarantee) and "0.7500 >= 0.7510 - 0.002" in str(loaded.guarantee)


def test_pairs_that_are_not_there_or_not_whole(directory, tmp_path):
    with pytest.raises(InputError, match=r"search\.cosearch wrote"):
        Pair.load(tmp_path)
    head = json.loads((directory / "pair" / "pair.json").read_text())
    assert head["kinds"] == [["mlp", "full"], ["full", "full"]]
    for change, message in (
        ({"format": "pivot-pair-2"}, "must have format pivot-pair-3; for another version's, run search.cosearch again"),
        ({"costs": {}}, "whole pair: KeyError"),
        ({"kinds": [["half", "full"], ["full", "full"]]}, "whole pair: ValueError: 'half' is not a valid Kind"),
        ({"kinds": [["full"], ["full", "full"]]}, "Path must be of 2 encoders, not 1"),
    ):
        shutil.copytree(directory / "pair", tmp_path, dirs_exist_ok=True)
        (tmp_path / "pair.json").write_text(json.dumps(head | change))
        with pytest.raises(InputError, match=message):
            Pair.load(tmp_path)


def test_the_machine_answers_as_its_networks_do(pair, images):
    """Either exit's logits are those of that network alone, and costs follow the exits."""
    answers = infer(pair, to_pixels(images), GoldenDevice(pair.config))
    low, high = (GoldenDevice().run(compile_network(network, pair.config), to_pixels(images)) for network in pair.integer)
    exits = low.entropy <= pair.threshold
    assert 10 < exits.sum() < 30 and np.array_equal(answers.exits_low, exits)
    assert np.array_equal(answers.logits * 4096, np.where(exits[:, None], low.logits, high.logits))
    assert np.array_equal(answers.gate_entropy * 4096, low.entropy)
    assert np.array_equal(answers.delay_ms, np.where(exits, 1.0, 3.0))
    assert np.array_equal(answers.energy_mj, np.where(exits, 2.0, 7.0))
    np.testing.assert_allclose(answers.entropy_share * np.log(10), answers.gate_entropy)


def test_torch_gathers_the_hard_images(pair, images):
    inputs = to_input(images)
    low, high = pair.modules
    passes = []

    def counted(network):
        return lambda batch: (passes.append((network is high, len(batch))), network(batch))[1]

    logits, exits, entropy = cascade(counted(low), counted(high), inputs, pair.threshold_nats, batch=16)
    hard = int((~exits).sum())
    assert [size for of_high, size in passes if not of_high] == [16, 16, 8]
    assert [size for of_high, size in passes if of_high] == [min(16, hard - start) for start in range(0, hard, 16)]
    with torch.no_grad():
        first, second = low(inputs), high(inputs)
    probabilities = first.softmax(-1)
    torch.testing.assert_close(entropy, -(probabilities * probabilities.log()).sum(-1))
    assert torch.equal(exits, entropy <= pair.threshold_nats)
    torch.testing.assert_close(logits, torch.where(exits[:, None], first, second))


def test_torch_and_machine_agree(pair, images):
    found, exact = infer_torch(pair, to_input(images), 7), infer(pair, to_pixels(images), GoldenDevice(pair.config))
    assert (found.exits_low != exact.exits_low).mean() <= 0.1
    same = found.exits_low == exact.exits_low
    assert np.abs(found.logits - exact.logits)[same].max() < 1.0


def test_best_answers_are_in_order(pair, images):
    answers = infer(pair, to_pixels(images[:3]), GoldenDevice(pair.config))
    order, probability = answers.best(10)
    assert np.array_equal(order[:, 0], answers.top1) and np.allclose(probability.sum(1), 1)
    assert (np.diff(probability, axis=1) <= 0).all()


def test_weights_with_a_folded_normalisation_are_loaded(images):
    """A convolution that pads has got a channel, and one that does not a bias."""
    spec = parse_network("fmnist_lvvit")
    from sw.networks.lv_vit import create_lv_vit

    made, fresh = (create_lv_vit(**spec.arguments(), stem_channels=8).eval() for _ in range(2))
    fold_normalization(made, Normalization((0.3,), (0.4,)))
    match_first_convolution(fresh, made.state_dict())
    fresh.load_state_dict(made.state_dict())
    inputs = to_input(fitted(images[:2], (2, 32, 32)))
    with torch.no_grad():
        assert torch.equal(fresh(inputs), made(inputs))


@pytest.mark.parametrize("device", ["golden", "torch"])
def test_command_on_pictures(pair, directory, images, tmp_path, capsys, device):
    for index in range(3):
        Image.fromarray(images[index, ..., 0]).save(tmp_path / f"{index}.png")
    files = [str(tmp_path / f"{index}.png") for index in range(3)]
    assert command.main(["--pair", str(directory), "--device", device, "--json", str(tmp_path / "out.json"), *files]) == 0
    printed = capsys.readouterr().out
    assert "F_low 0.5000 >= 0.4" in printed and "% of ln(classes)" in printed
    found = json.loads((tmp_path / "out.json").read_text())
    expected = infer(pair, to_pixels(images[:3]), GoldenDevice(pair.config))
    assert [image["name"] for image in found["images"]] == files and found["accuracy"] is None
    if device == "golden":
        assert [image["exit"] == "low" for image in found["images"]] == expected.exits_low.tolist()
        assert [image["top5"][0]["class"] for image in found["images"]] == expected.top1.tolist()
    names = {part["name"] for image in found["images"] for part in image["top5"]}
    assert names <= set(load_fashion_mnist("embedded").class_names) and all(len(image["top5"]) == 5 for image in found["images"])


def test_command_on_a_split(pair, directory, images, tmp_path, capsys):
    options = f"--pair {directory} --split test --count 40 --data embedded --json {tmp_path / 'out.json'}".split()
    assert command.main(options) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    labels = load_fashion_mnist("embedded").test.labels[:40]
    expected = infer(pair, to_pixels(images), GoldenDevice(pair.config))
    assert found["accuracy"] == (expected.top1 == labels).mean() and found["f_low"] == expected.exits_low.mean()
    assert "and 20 more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "files or by --split"),
        (("a.png", "--split", "test"), "files or by --split"),
        (("--split", "train"), "must be one of calibration, test, not 'train'"),
        (("a.png", "--count", "2"), "--count takes --split"),
        (("a.png", "--device", "board"), "golden, rtl, torch, not 'board'"),
        (("--split", "test", "--batch", "0"), "at least 1"),
        (("absent.png",), r"absent\.png must exist"),
    ],
)
def test_wrong_usage(directory, capsys, options, message):
    assert command.main(["--pair", str(directory), *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error)


def test_help_imports_nothing_heavy():
    code = "import sys; from sw.infer import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'numpy', 'timm', 'rich', 'sim', 'search'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

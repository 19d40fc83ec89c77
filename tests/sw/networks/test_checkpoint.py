import datetime
import json
from argparse import Namespace
from fractions import Fraction

import pytest
import torch

from hw.errors import InputError
from sw.data.fashion_mnist import load_fashion_mnist
from sw.graph.path_vit import PathVit
from sw.networks.checkpoint import load_run_state, load_tensors, save_run_state, save_tensors
from sw.networks.network import CHECKPOINTS, build_network
from sw.networks.plain_vit import create_from_arguments
from sw.networks.weights import load_weights
from sw.training.trainer import accuracy, evaluate_fp32

TINY = "vit:dim=12,depth=3,heads=2,tokens=5,classes=10,patch=14"


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, build_network(TINY, "random", 1).state_dict())
    return path


def rejection(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_weights_survive(saved):
    original, loaded = build_network(TINY, "random", 1), build_network(TINY, saved, seed=7)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in original.state_dict().items())
    assert [path.name for path in saved.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_truncated_weights(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    assert "whole safetensors file" in rejection(build_network, TINY, saved)


def test_corrupt_header(saved):
    content = bytearray(saved.read_bytes())
    content[8:40] = b"\xff" * 32
    saved.write_bytes(content)
    assert "whole safetensors file" in rejection(build_network, TINY, saved)


def test_missing_weights(tmp_path):
    assert "must exist" in rejection(build_network, TINY, tmp_path / "none.safetensors")
    assert "not a directory" in rejection(build_network, TINY, tmp_path)


def test_weights_of_another_network(saved):
    message = rejection(build_network, TINY.replace("dim=12", "dim=16"), saved)
    assert "of shape" in message and "'blocks.0." in message
    assert "'blocks.3." in rejection(build_network, TINY.replace("depth=3", "depth=4"), saved)
    assert "'blocks.2." in rejection(build_network, TINY.replace("depth=3", "depth=2"), saved)


def test_weights_that_are_not_finite(saved):
    tensors = load_tensors(saved)
    tensors["head.bias"][0] = torch.nan
    save_tensors(saved, tensors)
    assert "finite numbers" in rejection(build_network, TINY, saved)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "network"])
def test_a_training_checkpoint_is_read(saved, tmp_path, key):
    """Beside optimizer, epoch and the arguments of a training script."""
    path, tensors = tmp_path / "checkpoint.pth", load_tensors(saved)
    training = {"args": Namespace(lr=1e-3, model="deit"), "epoch": 3, "optimizer": {"state": {0: {"step": 1}}}}
    torch.save(training | {key: tensors}, path)
    loaded = build_network(TINY, path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in tensors.items())


def test_other_objects_of_torch(saved, tmp_path):
    path, tensors = tmp_path / "checkpoint.pth", load_tensors(saved)
    for content, message in (
        ({"model": tensors, "when": datetime.date(2024, 1, 1)}, "must hold tensors and plain values, not a datetime.date: save"),
        ({"model": tensors, "where": Fraction(1, 3)}, "not a fractions.Fraction"),
        (build_network(TINY, "random"), "not a "),
        ({"weights": tensors, "epoch": 3}, "model_state_dict, net, network; its top holds 'weights', 'epoch'"),
        ({"epoch": 3, **tensors}, "its top holds 'epoch', '"),
        ({0: tensors["head.bias"]}, "its top holds 0"),
        ([tensors], "a state dict of named tensors, not a list"),
    ):
        torch.save(content, path)
        found = rejection(build_network, TINY, path)
        assert message in found and str(path) in found, found


def test_original_names_of_layer_scale(tmp_path):
    shape = dict(img_size=8, patch_size=4, num_classes=3, embed_dim=8, depth=2, num_heads=2, init_values=0.1)
    network, other = (create_from_arguments(shape) for _ in range(2))
    tensors = network.state_dict()
    tensors["blocks.1.ls2.gamma"] = torch.arange(8.0)
    original = {name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): value for name, value in tensors.items()}
    assert "blocks.1.gamma_2" in original
    save_tensors(tmp_path / "original.safetensors", original)
    load_weights(other, tmp_path / "original.safetensors")
    assert all(torch.equal(value, tensors[name]) for name, value in other.state_dict().items())


def test_names_and_numbers_that_do_not_fit(saved):
    tensors = load_tensors(saved)
    for changed, message in (
        ({f"module.{name}": tensors[name] for name in tensors}, "'blocks.0.attn.proj.bias', and has no such tensor; it has 'mod"),
        (tensors | {"extra": torch.zeros(1)}, "must not hold 'extra', for the network has no such tensor; it has 'blocks.0.attn."),
        (tensors | {"head.bias": torch.zeros(10, dtype=torch.int8)}, "must hold 'head.bias' in floats, not int8"),
        (tensors | {"head.bias": torch.zeros(10, dtype=torch.bool)}, "must hold 'head.bias' in floats, not bool"),
        (tensors | {"head.bias": torch.zeros(9)}, "must hold 'head.bias' of shape (10,), not (9,)"),
    ):
        save_tensors(saved, changed)
        assert message in rejection(build_network, TINY, saved)
    save_tensors(saved, tensors | {"head.bias": torch.ones(10, dtype=torch.bfloat16)})
    assert build_network(TINY, saved).head.bias.tolist() == [1] * 10


def test_run_state_survives_and_replaces_the_one_before(tmp_path):
    assert load_run_state(tmp_path) is None
    for step in (5, 10):
        save_run_state(tmp_path, {"a": torch.full((3,), float(step))}, {"step": step, "history": [1]})
    tensors, values = load_run_state(tmp_path)
    assert torch.equal(tensors["a"], torch.full((3,), 10.0)) and values == {"step": 10, "history": [1]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-00000010.safetensors", "state.json"]


def test_killed_while_saving_keeps_the_state_before(tmp_path, monkeypatch):
    save_run_state(tmp_path, {"a": torch.zeros(3)}, {"step": 5})
    monkeypatch.setattr("sw.networks.checkpoint.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_run_state(tmp_path, {"a": torch.ones(3)}, {"step": 6})
    tensors, values = load_run_state(tmp_path)
    assert values["step"] == 5 and torch.equal(tensors["a"], torch.zeros(3))


def test_corrupt_run_state(tmp_path):
    save_run_state(tmp_path, {"a": torch.zeros(3)}, {"step": 5})
    path = tmp_path / "state-00000005.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "SHA-256" in rejection(load_run_state, tmp_path)
    path.unlink()
    assert "must exist" in rejection(load_run_state, tmp_path)
    (tmp_path / "state.json").write_text('{"step": 5}')
    assert "must name its tensors" in rejection(load_run_state, tmp_path)
    (tmp_path / "state.json").write_text('{"step": ')
    assert "JSON" in rejection(load_run_state, tmp_path)


def test_shipped_checkpoint_answers_as_its_card_says():
    directory = CHECKPOINTS / "fmnist_vit_tiny"
    assert (directory / "model.safetensors").stat().st_size <= 6_000_000
    config = json.loads((directory / "config.json").read_text())
    test = load_fashion_mnist("embedded").test
    found = accuracy(evaluate_fp32(PathVit(build_network("fmnist_vit_tiny")), test), test)
    # Float sums differ between machines in their last bits, which may turn a tie; two images are 0.001.
    assert found == pytest.approx(config["fp32"]["test"]["accuracy"], abs=0.001)
    assert found >= 0.88
    card = (directory / "README.md").read_text()
    for need in (
        "python -m sw.train",
        "seed",
        "Fashion-MNIST",
        "calibration",
        f"{config['fp32']['test']['accuracy']:.4f}",
    ):
        assert need in card

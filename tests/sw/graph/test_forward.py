"""The forward pass: what runs on a path, what an observer sees, and what it may change."""

from dataclasses import replace

import pytest
import torch

from hw.errors import InputError
from sw.graph.branch import TOKENS, BranchKind
from sw.graph.forward import Observer, forward
from sw.graph.path import Path
from sw.graph.path_vit import PathVit
from sw.importing import import_network
from sw.networks.network import build_network, parse_network

NETWORK = "vit:dim=12,depth=3,heads=2,tokens=7,classes=6,patch=4,channels=2,stem=5"


@pytest.fixture(scope="module")
def vit():
    return build_network(NETWORK, "random", 4)


@pytest.fixture(scope="module")
def images():
    spec = parse_network(NETWORK)
    return torch.rand(3, spec.channels, *spec.image_size, generator=torch.Generator().manual_seed(1)) * 2 - 1


class Names(Observer):
    def __init__(self):
        self.names, self.before = [], []

    def tensor(self, name, values):
        self.names.append(name)
        return values

    def activated(self, name, before, activation):
        self.before.append(name)
        return super().activated(name, before, activation)


@pytest.mark.parametrize("kept", [(0, 1, 2), (0, 2), ()])
def test_a_path_is_the_modules(vit, images, kept):
    path = Path.keeping(kept, 3)
    with torch.no_grad():
        torch.testing.assert_close(forward(import_network(vit), images, path), PathVit(vit, path)(images), rtol=1e-4, atol=1e-4)


def test_an_observer_sees_what_runs(vit, images):
    seen = Names()
    with torch.no_grad():
        forward(import_network(vit), images, Path.keeping([1], 3), seen)
    attention = ["norm1", "query", "key", "value", "scores", "context", "attention"]
    parts = [["norm2", "fc1", "mlp"], [*attention, "norm2", "fc1", "mlp"], ["norm2", "fc1", "mlp"]]
    encoders = [f"encoder{index}.{part}" for index, names in enumerate(parts) for part in names]
    assert seen.names == ["stem0", "stem1", "stem2", "embedding", *encoders, "norm", "logits"]
    assert seen.before == ["stem0", "stem1", "stem2", "encoder0.fc1", "encoder1.fc1", "encoder2.fc1"]


def test_what_an_observer_returns_takes_the_tensors_place(vit, images):
    observer = Observer()
    observer.tensor = lambda name, values: torch.zeros_like(values) if name == "logits" else values
    with torch.no_grad():
        assert not forward(import_network(vit), images, observer=observer).any()


def test_branches_say_what_they_read_and_add_to(vit, images):
    network = import_network(vit)
    kinds = [branch.kind for branch in network.encoders[0].branches]
    assert kinds == [BranchKind.ATTENTION, BranchKind.MLP]
    assert {(branch.reads, branch.adds_to) for encoder in network.encoders for branch in encoder.branches} == {(TOKENS, TOKENS)}
    *others, last = network.encoders
    aside = replace(last, branches=tuple(replace(branch, reads="none") for branch in last.branches))
    with torch.no_grad(), pytest.raises(KeyError, match="none"):
        forward(replace(network, encoders=(*others, aside)), images)


def test_a_path_of_another_depth_is_refused(vit, images):
    with pytest.raises(InputError, match="of 3 encoders, not 4"):
        forward(import_network(vit), images, Path.full(4))

"""Networks of one architecture share a graph, and no others do."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from sw.importing import export as exporting
from sw.importing import import_network
from sw.networks.network import build_network

NETWORK = "vit:dim=8,depth=1,heads=2,tokens=5,classes=3"


@pytest.fixture(autouse=True)
def nothing_kept():
    exporting._kept.clear()


@pytest.fixture
def exports(monkeypatch):
    """One entry for every call of `torch.export.export`."""
    calls, real = [], torch.export.export

    def count(*args, **kwargs):
        calls.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(torch.export, "export", count)
    return calls


def numbers(network):
    """All tensors of a network's imported form."""
    imported = import_network(network)
    branch = imported.encoders[0].branches[0]
    return [imported.embedding.weight, imported.positions, branch.query.weight, branch.projection.bias, imported.head.weight]


def test_copies_share_a_graph_and_keep_their_parameters(exports):
    networks = [build_network(NETWORK, "random", seed) for seed in range(3)]
    shared = [numbers(network) for network in networks]
    assert len(exports) == 1
    for network, found in zip(networks, shared, strict=True):
        exporting._kept.clear()
        assert all(map(torch.equal, found, numbers(network)))
    assert not torch.equal(shared[0][-1], shared[1][-1])


def test_any_other_difference_is_another_graph(exports):
    network = build_network(NETWORK, "random", 0)
    others = [copy.deepcopy(network) for _ in range(4)]
    others[0].blocks[0].attn.scale *= 2
    others[1].blocks[0].norm1.eps = 0.5
    others[2].norm.weight = others[2].blocks[0].norm1.weight  # tied
    others[3].pos_embed = nn.Parameter(others[3].pos_embed.double())
    exporting.export(network, (1, 8, 8))
    for count, other in enumerate(others, start=2):
        exporting.export(other, (1, 8, 8))
        assert len(exports) == count
    exporting.export(copy.deepcopy(network), (1, 8, 8))
    assert len(exports) == 1 + len(others)


class Shifted(nn.Module):
    """A network with a tensor that is no parameter and no buffer, and with a value that cannot be pickled, if one is given."""

    def __init__(self, network, shift, secret=None):
        super().__init__()
        self.network, self.shift, self.secret = network, torch.full((1,), shift), secret

    def forward(self, x):
        return self.network(x) + self.shift


def test_a_tensor_of_the_modules_own_belongs_to_its_graph(exports):
    network = build_network(NETWORK, "random", 0)
    for shift in (1.0, 2.0):
        graph = exporting.export(Shifted(network, shift), (1, 8, 8))
        assert [float(tensor) for tensor in graph.constants.values()] == [shift]
    assert len(exports) == 2


def test_what_cannot_be_pickled_shares_nothing(exports):
    network = Shifted(build_network(NETWORK, "random", 0), 1.0, secret=lambda: None)
    graphs = [exporting.export(network, (1, 8, 8)) for _ in range(2)]
    assert graphs[0].names == graphs[1].names and len(exports) == 2 and not exporting._kept


def test_few_graphs_are_kept_and_no_parameters():
    network = build_network(NETWORK, "random", 0)
    import_network(network)
    parameter = weakref.ref(network.head.weight)
    del network
    gc.collect()
    assert parameter() is None
    for classes in range(2, 2 + exporting._MOST_KEPT):
        exporting.export(build_network(f"{NETWORK[:-1]}{classes}", "random"), (1, 8, 8))
    assert len(exporting._kept) == exporting._MOST_KEPT

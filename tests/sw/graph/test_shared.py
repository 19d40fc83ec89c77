"""How far two networks are the same, in both forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sw.graph.path import Path
from sw.graph.shared import equal, shared_encoders
from sw.importing import import_network
from sw.networks.network import build_network, parse_network
from sw.quantization.quantize import quantize

NETWORK = "vit:dim=12,depth=3,heads=2,tokens=5,classes=4,patch=3"
FULL = Path.full(3)


@pytest.fixture(scope="module", params=["float", "integer"])
def network(request):
    vit, spec = build_network(NETWORK, "random", 4), parse_network(NETWORK)
    inputs = torch.rand(8, 1, *spec.image_size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return import_network(vit) if request.param == "float" else quantize(vit, inputs)


def changed(network, encoder: int, branch: int):
    """The network with another projection or fc2 in one branch of one encoder."""
    branches = list(network.encoders[encoder].branches)
    name = ("projection", "fc2")[branch]
    layer = getattr(branches[branch], name)
    branches[branch] = replace(branches[branch], **{name: replace(layer, bias=layer.bias + 1)})
    encoders = list(network.encoders)
    encoders[encoder] = replace(encoders[encoder], branches=tuple(branches))
    return replace(network, encoders=tuple(encoders))


def test_the_first_branch_that_differs_ends_it(network):
    assert shared_encoders(network, network, FULL, FULL) == 3
    assert shared_encoders(changed(network, 1, 0), network, FULL, FULL) == 1
    assert shared_encoders(network, changed(network, 2, 1), FULL, FULL) == 2


def test_paths_count_and_what_both_skip_does_not(network):
    path = Path.keeping([0, 2], 3)
    assert shared_encoders(network, network, path, FULL) == 1
    assert shared_encoders(changed(network, 1, 0), network, path, path) == 3


def test_another_embedding_shares_nothing(network):
    other = replace(network, embedding=replace(network.embedding, bias=network.embedding.bias + 1))
    assert shared_encoders(other, network, FULL, FULL) is None


def test_equal_is_by_numbers():
    assert equal((1, None, np.arange(3)), (1, None, np.arange(3))) and not equal((1,), (1, 2))
    assert equal(torch.arange(3), torch.arange(3)) and not equal(torch.arange(3), torch.arange(4))
    assert equal(torch.relu, torch.nn.functional.relu) and not equal(torch.relu, torch.sigmoid)
    assert not equal(np.arange(3), None) and not equal(torch.relu, 1)

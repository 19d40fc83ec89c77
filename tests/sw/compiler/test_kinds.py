"""There is room for kinds of encoders besides today's: here ``mlp`` stands for one that runs nothing."""

import copy

import numpy as np
import pytest
import torch

from hw.config import AcceleratorConfig
from hw.golden import GoldenDevice
from hw.isa import FLAG_WAIT, Opcode
from hw.presets import PRESETS
from sim.cycle_model import predict
from sw.compiler.memory_map import required_config
from sw.compiler.programs import compile_network, compile_pair
from sw.graph import path as kinds
from sw.graph.branch import BranchKind
from sw.graph.path import Kind, Path
from sw.graph.path_vit import PathVit
from sw.networks.network import build_network, parse_network
from sw.quantization.quantization_aware import QuantizationAware
from sw.quantization.quantize import quantize

NETWORK = "vit:dim=24,depth=3,heads=3,tokens=11,classes=7"
NANO = PRESETS["nano"]
PATH = Path((Kind.FULL, Kind.MLP, Kind.FULL))


@pytest.fixture(autouse=True)
def encoder_without_branches(monkeypatch):
    branches = {Kind.FULL: frozenset(BranchKind), Kind.MLP: frozenset()}
    monkeypatch.setattr(kinds, "_BRANCHES", branches)
    monkeypatch.setattr(kinds, "_KINDS", {runs: kind for kind, runs in branches.items()})


def network_and_images(name: str = NETWORK):
    spec = parse_network(name)
    images = np.random.default_rng(3).integers(-128, 128, (12, *spec.image_size, spec.channels), dtype=np.int8)
    return build_network(name, "random", 4), images, torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 128)


def without(vit, index: int):
    smaller = copy.deepcopy(vit)
    del smaller.blocks[index]
    return smaller


def logits(program, images) -> np.ndarray:
    return GoldenDevice().run(program, images).logits


def test_its_network_is_the_one_without_the_encoder():
    """In floating point, in integers, in cycles, and with the machine's roundings in training."""
    vit, images, inputs = network_and_images()
    smaller = without(vit, 1)
    with torch.no_grad():
        assert torch.equal(PathVit(vit, PATH).eval()(inputs), smaller.eval()(inputs))
        rounded = (QuantizationAware(PathVit(vit, PATH), inputs)(inputs, PATH), QuantizationAware(PathVit(smaller), inputs))
        assert torch.equal(rounded[0], rounded[1](inputs, Path.full(2)))
    own, expected = compile_network(quantize(vit, inputs, PATH), NANO), compile_network(quantize(smaller, inputs), NANO)
    np.testing.assert_array_equal(logits(own, images), logits(expected, images))
    assert predict(own).counters == predict(expected).counters


def test_it_is_left_out_of_a_whole_network_whose_masks_go_on():
    vit, images, inputs = network_and_images()
    whole = quantize(vit, inputs)
    program = compile_network(whole, NANO, path=PATH)
    assert {descriptor.encoder for descriptor in program.descriptors()} == {0, 2} and program.path_masks == (0b101, 0b101)
    compiled_in = compile_network(whole, NANO, path=PATH, mask_register=False)
    np.testing.assert_array_equal(logits(program, images), logits(compiled_in, images))
    pair = compile_pair(whole, whole, NANO, 1 << 31, low_path=PATH, resume=False)
    np.testing.assert_array_equal(logits(pair, images), logits(program, images))


def test_the_first_encoder_may_be_it():
    vit, images, inputs = network_and_images()
    first = Path((Kind.MLP, Kind.FULL, Kind.FULL))
    network = quantize(vit, inputs, first)
    assert network.path == first and network.hidden == 4 * 24
    np.testing.assert_array_equal(
        logits(compile_network(network, NANO), images), logits(compile_network(quantize(without(vit, 0), inputs), NANO), images)
    )


def test_norms_wait_until_a_sum_that_no_mask_skips():
    """Behind a stem that is computed in parts, the first encoder may add nothing."""
    vit, _, inputs = network_and_images("vit:dim=12,depth=3,heads=2,tokens=17,classes=6,patch=4,channels=2,stem=5")
    network = quantize(vit, inputs)
    config = AcceleratorConfig(rows=2, cols=3, pe_depth=4, **required_config(network, 2, 3, 4))
    program = compile_network(network, config, path=Path((Kind.MLP, Kind.FULL, Kind.FULL)))
    norms = [descriptor for descriptor in program.descriptors() if descriptor.opcode == Opcode.NORM]
    assert [bool(descriptor.flags & FLAG_WAIT) for descriptor in norms] == [True, True, False, False, False]

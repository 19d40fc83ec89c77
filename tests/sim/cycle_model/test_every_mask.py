"""Every mask from shared states, against a walk of its own for each; sim/benches/test_random_machines.py has random ones."""

import random

import numpy as np
import pytest

from hw.errors import InputError
from hw.isa import COUNTERS
from hw.memory_timing import MemoryTiming
from hw.presets import find_preset
from sim.cycle_model import predict, predict_every_mask
from sim.stimulus.workload import prepare_shape

NAMES = [name for name, _ in COUNTERS]


def check(program, timing, masks):
    every = predict_every_mask(program, timing)
    for mask in masks:
        walked = predict(program, timing, path_masks=(mask, mask)).counters
        assert dict(zip(NAMES, every[mask].tolist(), strict=True)) == walked, (mask, timing)
    return every


@pytest.fixture(scope="module")
def program():
    return prepare_shape("fmnist_vit_tiny", find_preset("nano")).program


@pytest.mark.parametrize("memory", ["", "latency=200,bytes_per_cycle=5,outstanding=1", "latency=1,bytes_per_cycle=7"])
def test_twelve_encoders(program, memory):
    """A fast and a starved prefetch, of which the second never fills up."""
    masks = random.Random(memory).sample(range(1 << 12), 40)
    every = check(program, MemoryTiming.parse(memory), [0, 0xFFF, *masks])
    assert every.shape == (1 << 12, len(NAMES))
    kept = np.array([mask.bit_count() for mask in range(1 << 12)])
    array = every[:, NAMES.index("attention_array_cycles")]
    assert np.array_equal(array, kept * array[-1] // 12), "attention's array cycles count the attentions that are kept"


def test_programs_that_have_no_every_mask():
    from sw.compiler.programs import compile_pair
    from sw.data.pixels import to_input
    from sw.networks.network import build_network, parse_network
    from sw.quantization.quantize import quantize

    name = "vit:dim=8,depth=1,heads=1,tokens=4,classes=3"
    pixels = np.zeros((4, *parse_network(name).image_size, 1), np.uint8)
    network = quantize(build_network(name, "random", 0), to_input(pixels))
    pair = compile_pair(network, network, find_preset("nano"), threshold=0)
    with pytest.raises(InputError, match="of one network"):
        predict_every_mask(pair)

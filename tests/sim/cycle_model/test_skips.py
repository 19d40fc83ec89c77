"""Skipped attentions on DeiT-S shapes and the flagship: what they save, and that register and recompilation agree."""

import random

import numpy as np
import pytest
import torch

from hw.golden import GoldenDevice
from hw.isa import FLAG_ATTENTION, FLAG_KV, Opcode
from hw.presets import find_preset
from sim.cycle_model import predict
from sw.compiler.programs import compile_network
from sw.data.pixels import to_input
from sw.graph.path import Path
from sw.networks.network import build_network, parse_network
from sw.quantization.quantize import quantize

CONFIG = find_preset("zcu102")
DEPTH = 4
MODEL = f"vit:dim=384,depth={DEPTH},heads=6,tokens=197,classes=1000,patch=16,channels=3"
FETCH_CYCLES = 8
"""Most cycles that a dropped descriptor costs the fetch: its beats and the decision."""


@pytest.fixture(scope="module")
def network():
    spec = parse_network(MODEL)
    pixels = np.random.default_rng(0).integers(0, 256, (8, *spec.image_size, spec.channels), dtype=np.uint8)
    with torch.no_grad():
        return quantize(build_network(MODEL, "random", 0), to_input(pixels))


@pytest.fixture(scope="module")
def whole(network):
    return compile_network(network, CONFIG)


def attention_work(program, encoders):
    """(array cycles, weight bytes) of these encoders' attentions, by their descriptors."""
    gemms = [d for d in program.descriptors() if d.opcode == Opcode.GEMM and d.flags & FLAG_ATTENTION and d.encoder in encoders]
    words = sum(d.row_tiles * d.column_tiles * d.k_words for d in gemms)
    streamed = [d for d in gemms if not d.flags & FLAG_KV]
    assert all(d.resident for d in streamed)  # weights stream once
    return words, sum(CONFIG.weight_ports * CONFIG.weight_port_bytes(d.k_words, d.column_tiles) for d in streamed)


@pytest.mark.parametrize("seed", range(3))
def test_a_skip_saves_exactly_its_attention(network, whole, seed):
    rng = random.Random(seed)
    path = Path.keeping([index for index in range(DEPTH) if rng.random() < 0.6], DEPTH)
    print(f"kept {path}")
    mask = path.mask
    recompiled = compile_network(network, CONFIG, path=path, mask_register=False)
    everything, masked, own = predict(whole), predict(whole, path_masks=(mask, mask)), predict(recompiled)

    words, weights = attention_work(whole, path.skipped)
    assert everything.counters["array_cycles"] - masked.counters["array_cycles"] == words
    assert everything.counters["weight_bytes"] - masked.counters["weight_bytes"] == weights
    for name in ("array_cycles", "weight_bytes", "tiles", "descriptors", "stall_norm", "norm_cycles"):
        assert masked.counters[name] == own.counters[name], name
    dropped = masked.counters["descriptors_skipped"]
    assert dropped == len(whole.descriptors()) - len(recompiled.descriptors()) > 0
    assert abs(masked.cycles - own.cycles) <= dropped * FETCH_CYCLES

    images = np.random.default_rng(seed).integers(-128, 128, (1, 224, 224, 3), dtype=np.int8)
    by_register = GoldenDevice().run(whole, images, path_masks=(mask, mask)).logits
    np.testing.assert_array_equal(by_register, GoldenDevice().run(recompiled, images).logits)
    assert np.any(by_register != GoldenDevice().run(whole, images).logits)

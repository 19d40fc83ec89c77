"""Pairs whose high effort resumes from the low effort's residual stream."""

import copy
import random
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.golden import GoldenDevice
from hw.isa import FLAG_ATTENTION, FLAG_HIGH, Opcode, Operation, Post
from hw.program import Program
from sim.cycle_model import predict
from sw.compiler.memory_map import required_config
from sw.compiler.programs import compile_network, compile_pair
from sw.graph.integer_network import IntegerNetwork
from sw.graph.path import Path
from sw.graph.path_vit import PathVit
from sw.graph.shared import shared_encoders
from sw.networks.network import build_network, parse_network
from sw.quantization.options import GREATEST, MSE, Options
from sw.quantization.quantize import quantize, quantize_jointly

NETWORK = "vit:dim=12,depth=4,heads=2,tokens=11,classes=6,patch=2,channels=2"
STEM = "vit:dim=12,depth=3,heads=2,tokens=7,classes=6,patch=4,channels=2,stem=5"


def random_inputs(name: str, count: int = 24) -> tuple[np.ndarray, torch.Tensor]:
    spec = parse_network(name)
    images = np.random.default_rng(5).integers(-128, 128, (count, *spec.image_size, spec.channels), dtype=np.int8)
    return images, torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 128)


def changed_from(vit, first: int):
    """A copy of the network whose encoders from ``first`` on, and head, have other weights."""
    other, source = copy.deepcopy(vit), torch.Generator().manual_seed(first)
    with torch.no_grad():
        for part in (*other.blocks[first:], other.head):
            for parameter in part.parameters():
                parameter.add_(0.3 * parameter.std(correction=0) * torch.randn(parameter.shape, generator=source))
    return other


def path_of(vit, kept) -> Path:
    return Path.keeping(kept, len(vit.blocks))


def quantized(name: str, frozen: int, low_kept, high_kept) -> tuple[IntegerNetwork, IntegerNetwork]:
    vit = build_network(name, "random", 4)
    low, high = quantize_jointly(
        (PathVit(changed_from(vit, frozen), path_of(vit, low_kept)), PathVit(vit, path_of(vit, high_kept))),
        random_inputs(name)[1],
    )
    return low, high


def roomy(shapes, seed: int) -> AcceleratorConfig:
    """A random machine that can hold two residual streams."""
    source = random.Random(seed)
    rows, cols, depth = source.randint(1, 7), source.randint(1, 6), source.randint(1, 9)
    sizes = required_config(shapes, rows, cols, depth)
    sizes |= {name: 2 * sizes[name] for name in ("residual_words", "row_tiles")}
    exp_units = source.choice((0, rows))
    return AcceleratorConfig(rows=rows, cols=cols, pe_depth=depth, exp_units=exp_units, **sizes)


def results_are_equal(one: Program, other: Program, images: np.ndarray, threshold: int) -> None:
    first, second = (GoldenDevice().run(program, images, threshold=threshold) for program in (one, other))
    for name in ("logits", "exits", "entropy", "gate_entropy"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


CASES = [
    (NETWORK, 2, (0, 1, 2, 3), (0, 1, 2, 3), 2),
    (NETWORK, 2, (0, 3), (0, 2, 3), 2),
    (NETWORK, 3, (0, 2), (0, 2, 3), 3),
    (NETWORK, 4, (1, 2), (1, 2), 4),
    (NETWORK, 0, (0,), (0, 1, 2, 3), 0),
    (STEM, 1, (0,), (0, 1, 2), 1),
    (STEM, 0, (), (0, 1, 2), 0),
]


@pytest.mark.parametrize("name, frozen, low_kept, high_kept, shared", CASES)
def test_resuming_changes_no_number(name, frozen, low_kept, high_kept, shared):
    """Of fine-tuned paths, quantized together."""
    low, high = quantized(name, frozen, low_kept, high_kept)
    assert shared_encoders(low, high, low.path, high.path) == shared
    images, _ = random_inputs(name)
    for seed in range(4):
        config = roomy(high, seed)
        resumed = compile_pair(low, high, config, 0)
        plain = compile_pair(low, high, config, 0, resume=False)
        assert (resumed.shared_encoders, plain.shared_encoders) == (shared, None)
        threshold = int(np.median(GoldenDevice().run(compile_network(low, config), images).entropy))
        results_are_equal(resumed, plain, images, threshold)


@pytest.mark.parametrize("mask", [0b1111, 0b0101, 0b0010])
def test_paths_of_one_network_share_what_their_masks_have_in_common(mask):
    vit = build_network(NETWORK, "random", 4)
    images, inputs = random_inputs(NETWORK)
    network = quantize(vit, inputs)
    low_path = Path.from_mask(mask, 4)
    config = roomy(network, 1)
    resumed = compile_pair(network, network, config, 0, low_path=low_path)
    plain = compile_pair(network, network, config, 0, low_path=low_path, resume=False)
    assert resumed.shared_encoders == next((index for index in range(4) if not mask >> index & 1), 4)
    threshold = int(np.median(GoldenDevice().run(plain, images, threshold=1 << 31).entropy))
    results_are_equal(resumed, plain, images, threshold)


def test_what_is_shared_runs_once():
    low, high = quantized(NETWORK, 2, (0, 3), (0, 2, 3))
    config = roomy(high, 2)
    resumed, plain = (compile_pair(low, high, config, 0, resume=resume) for resume in (True, False))
    behind = [d for d in resumed.descriptors() if d.flags & FLAG_HIGH]
    assert behind[0].opcode == Opcode.NORM and {d.encoder for d in behind if d.flags & FLAG_ATTENTION} == {2, 3}
    assert not any(d.operation == Operation.EMBEDDING for d in behind)
    high_part = predict(compile_network(high, config)).cycles
    saved = predict(plain).cycles - predict(resumed).cycles
    # Embedding and two of four encoders, but for what the second network's first words could be fetched ahead.
    assert 0.15 * high_part < saved < 0.5 * high_part
    low_only = [predict(program, exits_low=True).cycles for program in (resumed, plain)]
    assert abs(low_only[0] - low_only[1]) < 0.01 * low_only[1]


def test_the_shared_stream_stays_as_it_was():
    """Behind the fork every sum goes to the second region and row state; the high effort's first NORM reads the first."""
    low, high = quantized(NETWORK, 2, (0, 1, 2, 3), (0, 1, 2, 3))
    config = roomy(high, 3)
    program = compile_pair(low, high, config, 0)
    tiles, words = -(-high.tokens // config.rows), -(-high.dim // config.pe_depth) * -(-high.tokens // config.rows)
    sums = [d for d in program.descriptors() if d.opcode == Opcode.GEMM and d.post == Post.RESIDUAL]
    places = [(d.addend_base, d.base, d.first_row_tile) for d in sums]
    first, second = (0, 0, 0), (words, words, tiles)
    assert places == [first] * 5 + [(0, words, tiles)] + [second] * 3 + [first] * 4
    norm = next(d for d in program.descriptors() if d.opcode == Opcode.NORM and d.flags & FLAG_HIGH)
    assert (norm.source_base, norm.first_row_tile) == (0, 0)


def test_a_pair_without_room_runs_as_two_networks():
    low, high = quantized(NETWORK, 2, (0, 1, 2, 3), (0, 1, 2, 3))
    roomy_config = roomy(high, 1)
    for field in ("residual_words", "row_tiles"):
        config = replace(roomy_config, **{field: getattr(roomy_config, field) - 1})
        assert compile_pair(low, high, config, 0).shared_encoders is None
        need = getattr(roomy_config, field)
        with pytest.raises(InputError, match=f"its networks need {field} of {need}, not {need - 1}"):
            compile_pair(low, high, config, 0, resume=True)


def test_networks_that_share_nothing_do_not_resume():
    _, inputs = random_inputs(NETWORK)
    low, high = (quantize(build_network(NETWORK, "random", seed), inputs) for seed in (1, 2))
    assert shared_encoders(low, high, low.path, high.path) is None
    config = roomy(high, 1)
    assert compile_pair(low, high, config, 0).shared_encoders is None
    with pytest.raises(InputError, match="its networks begin differently"):
        compile_pair(low, high, config, 0, resume=True)


def test_networks_quantized_apart_have_scales_of_their_own():
    """Why `quantize_jointly` is there: the low network's later encoders decide over the scale of its whole residual stream."""
    vit = build_network(NETWORK, "random", 4)
    _, inputs = random_inputs(NETWORK)
    low, high = (quantize(PathVit(network), inputs) for network in (changed_from(vit, 2), vit))
    assert shared_encoders(low, high, low.path, high.path) is None


@pytest.mark.parametrize("scales", [MSE, GREATEST])
def test_any_two_of_networks_quantized_jointly_resume(scales: str):
    """Three efforts with one stem: the scales that they share are the last one's, whichever pair is compiled."""
    vit, (images, inputs) = build_network(STEM, "random", 4), random_inputs(STEM)
    efforts = [PathVit(changed_from(vit, 0), path_of(vit, [0])), PathVit(changed_from(vit, 1), path_of(vit, [0, 2])), PathVit(vit)]
    integers = quantize_jointly(efforts, inputs, Options(scales))
    pairs = [(integers[first], integers[second]) for first, second in ((0, 1), (0, 2), (1, 2))]
    assert [shared_encoders(low, high, low.path, high.path) for low, high in pairs] == [0, 0, 1]
    for low, high in combinations(integers, 2):
        resumed, plain = (compile_pair(low, high, roomy(high, 5), 0, resume=resume) for resume in (True, False))
        threshold = int(np.median(GoldenDevice().run(plain, images, threshold=1 << 31).entropy))
        results_are_equal(resumed, plain, images, threshold)

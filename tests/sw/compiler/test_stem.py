"""Convolution stems: pixels and their places, and golden machines against a plain padded convolution of the integer network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hw import numerics
from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.golden import GoldenDevice
from hw.isa import FLAG_WAIT, Opcode, Operation, Post
from hw.presets import PRESETS
from hw.program import ImageLayout, Program
from sim.program_counts import count_program
from sw.compiler.memory_map import required_config, stem_geometry
from sw.compiler.programs import compile_network, compile_pair
from sw.compiler.stem_compiler import patch_runs, pixel_runs
from sw.compiler.stem_geometry import StemGeometry
from sw.compiler.stem_layout import choose_plan, chunks
from sw.compiler.stem_window import picture_windows
from sw.graph.convolution import ConvolutionShape
from sw.graph.float_network import FloatConvolution, FloatLinear, FloatNetwork
from sw.graph.integer_file import load_integer_network, save_integer_network
from sw.graph.integer_network import IntegerNetwork
from sw.graph.path import Path
from sw.graph.path_vit import PathVit
from sw.importing import import_network
from sw.networks.network import build_network, parse_network
from sw.quantization.calibration import calibrate
from sw.quantization.integer_layers import QuantizationError
from sw.quantization.quantize import logits_sqnr_db, quantize, quantize_calibrated

NETWORK = "vit:dim=12,depth=2,heads=2,tokens=10,classes=5,patch=6,channels=3,stem=8"
MACHINES = [(4, 4, 4), (3, 2, 8), (1, 1, 1), (7, 5, 7), (9, 1, 16), (33, 16, 8), (2, 1, 64), (5, 3, 5), (2, 3, 6)]


def draw_images(shapes, count: int, seed: int) -> tuple[np.ndarray, torch.Tensor]:
    shape = (count, *shapes.image_size, shapes.channels)
    pixels = np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8)
    return pixels, torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 128)


def machine_for(shapes, rows: int, cols: int, depth: int, **changes: int) -> AcceleratorConfig:
    return AcceleratorConfig(rows=rows, cols=cols, pe_depth=depth, **(required_config(shapes, rows, cols, depth) | changes))


def made(name: str, seed: int) -> tuple[IntegerNetwork, np.ndarray]:
    spec = parse_network(name)
    images, inputs = draw_images(spec, 6, seed)
    return quantize(build_network(name, "random", seed), inputs), images


def with_stem(folded: FloatNetwork, stem: list[tuple[int, ...]], side: int, image_size: tuple[int, int]) -> FloatNetwork:
    """The network with other convolutions, (outputs, kernel, stride, padding) each, and random weights for them."""
    random = torch.Generator().manual_seed(len(stem) + side)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random) / int(np.prod(shape[1:])) ** 0.5

    convolutions, channels = [], folded.channels
    for outputs, kernel, stride, padding in stem:
        bias = 0.2 * torch.randn(outputs, generator=random)
        convolutions.append(FloatConvolution(draw(outputs, channels, kernel, kernel), bias, stride, padding, torch.relu))
        channels = outputs
    dim = folded.embedding.weight.shape[0]
    embedding = FloatLinear(draw(dim, side * side * channels), folded.embedding.bias)
    return replace(folded, stem=tuple(convolutions), embedding=embedding, patch_size=side, image_size=image_size)


# Even kernels, strides of 3, halos wider than a patch, no padding, one pixel per patch, wide and narrow maps, one convolution.
STEMS = [
    ([(5, 7, 2, 3), (3, 3, 1, 1)], 1, (6, 6)),
    ([(4, 2, 2, 0)], 1, (6, 6)),
    ([(6, 4, 3, 1), (7, 3, 1, 1), (9, 5, 1, 2)], 2, (18, 18)),
    ([(8, 3, 1, 0), (16, 3, 1, 0)], 3, (13, 13)),
    ([(8, 1, 1, 0), (8, 5, 1, 2), (4, 3, 2, 1)], 2, (12, 12)),
]


@pytest.fixture(scope="module", params=[NETWORK, *range(len(STEMS))])
def network_and_images(request) -> tuple[IntegerNetwork, np.ndarray]:
    if isinstance(request.param, str):
        return made(request.param, 1)
    folded = import_network(build_network("vit:dim=6,depth=1,heads=1,tokens=10,classes=3,patch=2,channels=2", "random", 2))
    folded = with_stem(folded, *STEMS[request.param])
    images, inputs = draw_images(folded, 6, request.param)
    return quantize_calibrated(folded, calibrate(folded, inputs, Path.full(1))), images


def reference(network: IntegerNetwork, images: np.ndarray) -> np.ndarray:
    """The residual stream [n, tokens, dim] after the embedding: convolutions of whole pictures, padded with the code of 0."""
    maps, zero = images.astype(np.int64), 0
    for convolution in network.stem:
        pad, size, stride = convolution.padding, convolution.kernel, convolution.stride
        maps = np.pad(maps, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=zero)
        windows = np.lib.stride_tricks.sliding_window_view(maps, (size, size), axis=(1, 2))[:, ::stride, ::stride]
        rows = windows.transpose(0, 1, 2, 4, 5, 3).reshape(*windows.shape[:3], -1)
        linear = convolution.linear
        codes = numerics.requantize(rows @ linear.weights.astype(np.int64).T, linear.bias, linear.multiplier, linear.shift, 8)
        maps = convolution.table.view(np.int8)[codes + 128].astype(np.int64)
        zero = int(convolution.table.view(np.int8)[0])
    count, height, width, channels = maps.shape
    side = network.patch_size
    grid = maps.reshape(count, height // side, side, width // side, side, channels).transpose(0, 1, 3, 2, 4, 5)
    patches = grid.reshape(count, -1, side * side * channels)
    classes = np.full((count, network.prefix_tokens, patches.shape[2]), zero)
    embedding = network.embedding
    sums = np.concatenate([classes, patches], axis=1) @ embedding.weights.astype(np.int64).T
    added = numerics.requantize(sums, embedding.bias, embedding.multiplier, embedding.shift, 16)
    return numerics.saturate(network.initial_residual + added, 16)


def embedded(program: Program, images: np.ndarray) -> np.ndarray:
    """The residual stream after the embedding on the golden machine."""
    parts = []

    def watch(_, descriptor, values):
        if descriptor.operation == Operation.EMBEDDING and descriptor.post == Post.RESIDUAL:
            parts.append(values)

    GoldenDevice(observer=watch).run(program, images)
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("rows, cols, depth", MACHINES)
def test_every_machine_computes_the_padded_convolutions(network_and_images, rows, cols, depth):
    network, images = network_and_images
    expected = reference(network, images)
    assert expected.std() > 100
    np.testing.assert_array_equal(embedded(compile_network(network, machine_for(network, rows, cols, depth)), images), expected)


def test_room_for_more_row_tiles_changes_no_number(network_and_images):
    """Another way to load the picture, longer runs of pixels, and an embedding of several row tiles at once."""
    network, images = network_and_images
    small = machine_for(network, 2, 3, 4)
    large = replace(small, activation_words=8 * small.activation_words, row_tiles=40, weight_words=500)
    assert choose_plan(stem_geometry(network), network.dim, 5, large).row_tiles == 5
    np.testing.assert_array_equal(embedded(compile_network(network, large), images), reference(network, images))


@pytest.mark.parametrize("depth", [1, 4, 5, 8, 64])
def test_every_way_to_load_the_picture_gives_the_same(network_and_images, depth, monkeypatch):
    network, images = network_and_images
    geometry, expected = stem_geometry(network), reference(network, images)
    config = machine_for(network, 3, 2, depth, activation_words=1 << 14, weight_words=1 << 12)
    for window in list(picture_windows(geometry, depth)):
        monkeypatch.setattr("sw.compiler.stem_layout.picture_windows", lambda *_, window=window: [window])
        np.testing.assert_array_equal(embedded(compile_network(network, config), images), expected)


def test_the_logits_are_near_the_float_network():
    spec, vit = parse_network(NETWORK), build_network(NETWORK, "random", 3)
    network = quantize(vit, draw_images(spec, 64, 0)[1])
    images, inputs = draw_images(spec, 64, 1)
    with torch.no_grad():
        logits = PathVit(vit)(inputs).numpy()
    assert logits_sqnr_db(logits, GoldenDevice().run(compile_network(network, machine_for(network, 4, 4, 4)), images).logits) > 26


def test_a_norm_waits_behind_the_embedding_of_some_row_tiles():
    """Also where a path mask drops encoder 0's attention and with it the first NORM."""
    network, _ = made(NETWORK, 1)
    program = compile_network(network, machine_for(network, 2, 4, 4))
    norms = [d for d in program.descriptors() if d.opcode == Opcode.NORM]
    assert [bool(d.flags & FLAG_WAIT) for d in norms] == [True, True, False, False, False]
    whole = compile_network(network, machine_for(network, 33, 4, 4))
    assert not any(d.flags & FLAG_WAIT for d in whole.descriptors() if d.opcode == Opcode.NORM)


def test_waits_are_few():
    """A GEMM waits where it reads the map that the GEMM before has just written: at most once per convolution and row tile."""
    network, _ = made(NETWORK, 1)
    program = compile_network(network, machine_for(network, 2, 4, 4))
    gemms = [d for d in program.descriptors() if d.opcode == Opcode.GEMM and d.operation == Operation.EMBEDDING]
    assert len(gemms) > 100 and 0 < sum(bool(d.flags & FLAG_WAIT) for d in gemms) <= 5 * 4


def test_macs_are_the_convolutions_own():
    """Height x width x channels x kernel elements, whatever the halos; a pair has two stems, one if the image exits low."""
    network, _ = made(NETWORK, 1)
    config = machine_for(network, 3, 2, 8)
    program = compile_network(network, config)
    plain = count_program(replace(program, redundant_macs=0)).macs
    gemms = [d for d in program.descriptors() if d.opcode == Opcode.GEMM and d.operation == Operation.EMBEDDING]
    fed = sum(d.tokens * d.columns * d.k_elements for d in gemms)
    useful = 9 * 9 * 8 * (7 * 7 * 3 + 2 * 9 * 8) + 10 * 12 * 3 * 3 * 8
    assert count_program(program).macs == plain - fed + useful < plain
    pair = compile_pair(network, network, config, 0)
    assert count_program(pair, exit_low=True).macs == count_program(program).macs == count_program(pair).macs / 2


def test_a_stem_is_saved_and_loaded(tmp_path):
    network, _ = made(NETWORK, 1)
    save_integer_network(network, tmp_path / "network.safetensors")
    again = load_integer_network(tmp_path / "network.safetensors")
    config = machine_for(network, 4, 4, 4)
    assert again.stem_shapes == network.stem_shapes == parse_network(NETWORK).stem_shapes
    assert compile_network(again, config).memory == compile_network(network, config).memory


def test_specification_and_network_need_the_same_machine():
    network, _ = made(NETWORK, 1)
    for shape in MACHINES:
        assert required_config(network, *shape) == required_config(parse_network(NETWORK), *shape)


@pytest.mark.parametrize("field", ["activation_words", "weight_words"])
def test_a_machine_that_is_too_small_is_refused(field):
    network, _ = made(NETWORK, 1)
    need = required_config(network, 4, 4, 4)[field]
    with pytest.raises(InputError, match=f"{field} must be at least {need} for this network, not {need - 1}"):
        compile_network(network, machine_for(network, 4, 4, 4, **{field: need - 1}))


def test_presets_hold_lv_vit():
    for preset, name in (("nano", "fmnist_lvvit"), ("zcu102", "lvvit_s"), ("pivot", "lvvit_s")):
        config = PRESETS[preset]
        for field, need in required_config(parse_network(name), config.rows, config.cols, config.pe_depth).items():
            assert getattr(config, field) >= need, (preset, field)


def test_the_picture_is_loaded_in_many_ways():
    geometry = stem_geometry(parse_network(NETWORK))
    counts = {depth: len(list(picture_windows(geometry, depth))) for depth in (1, 4, 8, 64)}
    assert counts == {1: 2, 4: 3, 8: 5, 64: 17}
    for window in picture_windows(geometry, 64):
        assert {window.strip(pixel)[0] for pixel in range(window.pixels)} == set(range(window.strips))


def test_a_stem_that_makes_no_whole_patches_is_refused():
    with pytest.raises(InputError, match=r"whole patches of 4x4 pixels, not \(14, 14\)"):
        StemGeometry((ConvolutionShape(1, 8, 3, 1, 0),), (16, 16), 4)


def test_an_activation_that_does_not_end_at_zero_is_refused():
    folded = import_network(build_network(NETWORK, "random", 1))
    inputs = draw_images(folded, 4, 0)[1]
    sigmoid = replace(folded.stem[1], activation=torch.sigmoid)
    folded = replace(folded, stem=(folded.stem[0], sigmoid, folded.stem[2]))
    with pytest.raises(QuantizationError, match="stem1 must have an activation that takes its least input to 0"):
        quantize_calibrated(folded, calibrate(folded, inputs, Path.full(2)))


def test_a_pair_of_unlike_stems_is_refused():
    network, _ = made(NETWORK, 1)
    plain, _ = made(NETWORK.removesuffix(",stem=8"), 1)
    with pytest.raises(InputError, match="stems of the same shape, or none"):
        compile_pair(network, plain, machine_for(network, 4, 4, 4), 0)


def test_patches_are_walked_in_rectangles():
    rows = [(row, patch) for row, patch in enumerate(range(2, 17), start=1)]
    assert list(patch_runs(rows, 5)) == [(1, 2, 3, 1), (4, 5, 5, 2), (14, 15, 2, 1)]
    assert list(patch_runs([(0, 7), (1, 8), (2, 3)], 5)) == [(0, 7, 2, 1), (2, 3, 1, 1)]


def test_runs_cover_a_block_once():
    for lines, pixels, most, across in [(3, 8, 8, True), (8, 2, 3, True), (2, 8, 8, False), (5, 5, 2, True)]:
        runs = pixel_runs(1, lines, 2, pixels, most, across=across)
        covered = [(run.line + i * run.down, run.pixel + i * (not run.down)) for run in runs for i in range(run.length)]
        assert sorted(covered) == [(line, pixel) for line in range(1, 1 + lines) for pixel in range(2, 2 + pixels)]
        assert all(run.length <= most for run in runs) and (across or all(run.down for run in runs))
    assert chunks(10, 4) == [4, 3, 3]


def test_images_are_laid_out_with_their_border():
    layout = ImageLayout(height=2, width=3, channels=2, top=1, left=2, bottom=0, right=1, pixel_bytes=4)
    images = np.arange(1, 25, dtype=np.int8).reshape(2, 2, 3, 2)
    laid = layout.pack(images).reshape(2, 3, 6, 4)
    np.testing.assert_array_equal(laid[:, 1:, 2:5, :2], images)
    assert layout.image_bytes == 72 and np.count_nonzero(laid) == 24

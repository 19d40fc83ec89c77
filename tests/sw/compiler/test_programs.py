"""Compiler: Programs that fit, wait where they must, and mean the same on every machine."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from hw.config import RANGES, AcceleratorConfig
from hw.errors import InputError
from hw.golden import GoldenDevice
from hw.isa import (
    FLAG_ATTENTION,
    FLAG_HIGH,
    FLAG_KV,
    FLAG_NORMALIZED,
    FLAG_PER_COLUMN,
    FLAG_WAIT,
    Descriptor,
    Opcode,
    Post,
)
from hw.presets import PRESETS
from hw.program import Program
from hw.program_image import pack_weights
from hw.timing import LANE_LATENCY, Timing
from sw.compiler.memory_map import required_config
from sw.compiler.programs import compile_network, compile_pair
from sw.graph.integer_network import IntegerNetwork
from sw.graph.path import Path
from sw.networks.network import build_network, parse_network
from sw.quantization.quantize import quantize

NETWORK = "vit:dim=18,depth=2,heads=3,tokens=11,classes=7,patch=2,channels=3"
SEED = 7


def make_network(name: str, seed: int) -> tuple[IntegerNetwork, np.ndarray]:
    spec = parse_network(name)
    images = np.random.default_rng(seed).integers(-128, 128, (12, *spec.image_size, spec.channels), dtype=np.int8)
    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 128)
    return quantize(build_network(name, "random", seed), inputs), images


def draw_config(shapes, source: random.Random) -> AcceleratorConfig:
    rows, cols, depth = source.randint(1, 9), source.randint(1, 9), source.randint(1, 8)
    if source.random() < 0.2:
        cols, depth = 1, source.randint(1, 20)
    sizes = required_config(shapes, rows, cols, depth)
    for name in sorted(sizes.keys() - {"classes"}):
        sizes[name] += source.randint(0, 3)
    ports, beat = source.randint(1, 3), source.choice((8, 16, 32))
    return AcceleratorConfig(rows=rows, cols=cols, pe_depth=depth, weight_ports=ports, axi_bytes=beat, **sizes)


def minimal_config(shapes, **changes: int) -> AcceleratorConfig:
    return AcceleratorConfig(rows=4, cols=4, pe_depth=4, **(required_config(shapes, 4, 4, 4) | changes))


@pytest.fixture(scope="module")
def network_and_images():
    return make_network(NETWORK, SEED)


@pytest.fixture(scope="module")
def network(network_and_images) -> IntegerNetwork:
    return network_and_images[0]


@pytest.fixture(scope="module")
def convolutional() -> IntegerNetwork:
    """A network with a convolution stem."""
    return make_network("vit:dim=6,depth=1,heads=2,tokens=7,classes=3,patch=4,channels=2,stem=5", SEED)[0]


@pytest.fixture(scope="module")
def images(network_and_images) -> np.ndarray:
    return network_and_images[1]


@pytest.fixture(scope="module")
def other() -> IntegerNetwork:
    """Another network with the same images and classes."""
    return make_network(NETWORK.replace("dim=18", "dim=20").replace("heads=3", "heads=2"), SEED + 1)[0]


def gemms(program: Program) -> list[Descriptor]:
    return [descriptor for descriptor in program.descriptors() if descriptor.opcode == Opcode.GEMM]


@pytest.mark.parametrize("seed", range(12))
def test_logits_do_not_depend_on_the_machine(network, images, seed):
    config = draw_config(network, random.Random(seed))
    expected = GoldenDevice().run(compile_network(network, minimal_config(network)), images).logits
    assert len(np.unique(expected, axis=0)) > 1
    np.testing.assert_array_equal(GoldenDevice().run(compile_network(network, config), images).logits, expected)


def test_the_class_token_follows_every_row(images, network):
    """On one row and on more rows than tokens, where patches start in another row tile or row."""
    expected = GoldenDevice().run(compile_network(network, minimal_config(network)), images).logits
    for rows in (1, 2, 13):
        config = AcceleratorConfig(rows=rows, cols=3, pe_depth=5, **required_config(network, rows, 3, 5))
        np.testing.assert_array_equal(GoldenDevice().run(compile_network(network, config), images).logits, expected)


def test_a_compiled_path_equals_the_masked_one(network, images):
    config = minimal_config(network)
    whole, path = compile_network(network, config), compile_network(network, config, path=Path.keeping([1], 2), mask_register=False)
    masked = compile_network(network, config, path=Path.keeping([1], 2))
    assert (whole.path_masks, masked.path_masks, path.path_masks) == ((3, 3), (2, 2), (2, 2))
    assert masked.memory == whole.memory and len(path.memory) < len(whole.memory)
    assert not any(descriptor.flags & FLAG_ATTENTION and descriptor.encoder == 0 for descriptor in path.descriptors())
    expected = GoldenDevice().run(masked, images).logits
    np.testing.assert_array_equal(GoldenDevice().run(path, images).logits, expected)
    np.testing.assert_array_equal(GoldenDevice().run(whole, images, path_masks=(2, 2)).logits, expected)
    assert np.any(GoldenDevice().run(whole, images).logits != expected)


def test_a_path_beyond_the_network_is_refused():
    network = quantize(build_network(NETWORK, "random", SEED), torch.ones(1, 3, 4, 10), Path.keeping([1], 2))
    with pytest.raises(InputError, match="no branch but those that the network has, 1, not 0,1"):
        compile_network(network, minimal_config(network), path=Path.full(2))
    with pytest.raises(InputError, match="no branch but those that the network has, 1, not 0"):
        compile_pair(network, network, minimal_config(network), 0, high_path=Path.keeping([0], 2))


def test_attention_descriptors_are_the_skipped_ones(network):
    """All of an attention, and nothing else, belongs to a path mask's bit."""
    descriptors = compile_network(network, minimal_config(network)).descriptors()
    flagged = [descriptor for descriptor in descriptors if descriptor.flags & FLAG_ATTENTION]
    # Per encoder a norm and the projection; per head queries, keys, values, scores and context.
    assert len(flagged) == network.depth * (2 + 5 * network.heads)
    assert {descriptor.encoder for descriptor in flagged} == {0, 1}
    # LOADs, embedding, two norms... : 3 + 1, per encoder norm, fc1 and fc2, then norm, head and END.
    assert len(descriptors) - len(flagged) == 4 + 3 * network.depth + 3


def test_a_pair_takes_both_ways(network, other, images):
    config = draw_config(other, random.Random(1))
    config = replace(config, **{k: max(v, getattr(config, k)) for k, v in _sizes(network, config).items()})
    low = GoldenDevice().run(compile_network(network, config, path=Path.keeping([1], 2)), images)
    high = GoldenDevice().run(compile_network(other, config), images)
    threshold = int(np.median(low.entropy))
    program = compile_pair(network, other, config, threshold, low_path=Path.keeping([1], 2))
    assert program.threshold == threshold and program.path_masks == (2, 3)
    result = GoldenDevice().run(program, images)
    stays = low.entropy <= threshold
    assert 0 < stays.sum() < len(images)
    np.testing.assert_array_equal(result.exits, ~stays)
    np.testing.assert_array_equal(result.logits, np.where(stays[:, None], low.logits, high.logits))
    descriptors = program.descriptors()
    gate = [descriptor.opcode for descriptor in descriptors].index(Opcode.GATE)
    assert not any(descriptor.flags & FLAG_HIGH for descriptor in descriptors[: gate + 1])
    assert all(descriptor.flags & FLAG_HIGH for descriptor in descriptors[gate + 1 :])


def _sizes(shapes, config: AcceleratorConfig) -> dict[str, int]:
    return required_config(shapes, config.rows, config.cols, config.pe_depth)


def test_a_pair_of_paths_of_one_network_stores_its_weights_once(network):
    config = minimal_config(network)
    single, pair = compile_network(network, config), compile_pair(network, network, config, 100, low_path=Path.keeping([], 2))
    assert len(pair.memory) - len(single.memory) == 64 * (pair.descriptor_count - single.descriptor_count)
    assert pair.region("low.encoder0.fc1.weights") == pair.region("high.encoder0.fc1.weights")


def test_a_pair_that_does_not_match_is_refused(network, other):
    config = minimal_config(network)
    with pytest.raises(InputError, match="equal classes, not 7 and 3"):
        compile_pair(network, make_network(NETWORK.replace("classes=7", "classes=3"), 1)[0], config, 0)
    with pytest.raises(InputError, match=r"threshold must be 0 to .* not -1"):
        compile_pair(network, network, config, -1)


@pytest.mark.parametrize(
    "field", ["activation_words", "normalized_words", "residual_words", "weight_words", "kv_words", "row_tiles", "classes"]
)
def test_a_machine_that_is_too_small_is_refused(network, field):
    need = required_config(network, 4, 4, 4)[field]
    with pytest.raises(InputError, match=f"{field} must be at least {need} for this network, not {need - 1}"):
        compile_network(network, minimal_config(network, **{field: need - 1}))


def test_what_no_machine_holds_is_refused(network):
    most = RANGES["classes"][1]
    large, _ = make_network(NETWORK.replace("classes=7", f"classes={most + 1}"), 1)
    with pytest.raises(InputError, match=f"Network needs classes of {most + 1}, and no machine has more than {most}"):
        compile_network(large, minimal_config(network))


def test_too_few_address_bits_are_refused(network):
    with pytest.raises(InputError, match=r"address_width must be at least \d+ .* not 16"):
        compile_network(make_network("vit:dim=48,depth=4,heads=3,tokens=5,classes=4", 1)[0], _wide(16))


def _wide(address_width: int) -> AcceleratorConfig:
    return replace(PRESETS["nano"], address_width=address_width)


def test_presets_hold_what_they_are_sized_for():
    for preset, name in (("nano", "fmnist_vit_tiny"), ("zcu102", "deit_base_patch16_224")):
        config = PRESETS[preset]
        for field, need in _sizes(parse_network(name), config).items():
            assert getattr(config, field) >= need, (preset, field)


def test_regions_are_aligned_and_apart(network):
    program = compile_network(network, minimal_config(network))
    end = 0
    for name, offset, size in program.regions:
        assert offset % program.config.axi_bytes == 0 and offset >= end, name
        end = offset + size
    assert end <= len(program.memory)
    for name in ("encoder1.fc1.weights", "encoder1.fc1.parameters", "encoder0.exp.table", "encoder1.activation.table"):
        assert program.region(name)[1] > 0


@pytest.mark.parametrize("seed", range(6))
def test_weights_lie_as_the_ports_read_them(seed):
    """Byte by byte after the contract's words: column (g * ports + m) * columns_per_beat + j at byte j * depth."""
    source = random.Random(seed)
    config = draw_config(parse_network(NETWORK), source)
    outputs, inputs = source.randint(1, 20), source.randint(1, 20)
    weights = np.random.default_rng(seed).integers(-127, 128, (outputs, inputs), dtype=np.int8)
    content = np.frombuffer(pack_weights(config, weights), np.int8)
    tiles, words = -(-outputs // config.cols), -(-inputs // config.pe_depth)
    size, beat = config.weight_port_bytes(words, tiles), config.columns_per_beat * config.pe_depth
    assert len(content) == size * config.weight_ports
    rebuilt = np.zeros((tiles * config.cols, words * config.pe_depth), np.int8)
    for port in range(config.weight_ports):
        position = port * size
        for tile in range(tiles):
            for word in range(words):
                for group in range(config.groups_per_port):
                    for j in range(config.columns_per_beat):
                        column = (group * config.weight_ports + port) * config.columns_per_beat + j
                        start = position + j * config.pe_depth
                        if column < config.cols:
                            span = slice(word * config.pe_depth, (word + 1) * config.pe_depth)
                            rebuilt[tile * config.cols + column, span] = content[start : start + config.pe_depth]
                    position += beat
    np.testing.assert_array_equal(rebuilt[:outputs, :inputs], weights)
    assert not rebuilt[outputs:].any() and not rebuilt[:, inputs:].any()


def tiles_of(d: Descriptor):
    """(row tile, column tile) in the order of the loops."""
    group = min(d.resident, d.column_tiles) or d.column_tiles
    for start in range(0, d.column_tiles, group):
        for row_tile in range(d.row_tiles):
            for column_tile in range(start, min(start + group, d.column_tiles)):
                yield row_tile, column_tile


def words_read(d: Descriptor, row_tile: int, column_tile: int) -> set[tuple[str, int]]:
    """(memory, word) of what a tile feeds from, but for normalised rows, which the machine waits for."""
    words = set()
    if not d.flags & FLAG_NORMALIZED:
        first, run = d.source_base + row_tile * d.source_stride, d.segment_words or d.k_words
        words |= {("activation", first + k // run * d.segment_stride + k % run) for k in range(d.k_words)}
    if d.flags & FLAG_KV:
        words |= {("kv", d.kv_base + column_tile * d.k_words + k) for k in range(d.k_words)}
    return words


def words_written(d: Descriptor, row_tile: int, column_tile: int, config: AcceleratorConfig) -> set[tuple[str, int]]:
    """(memory, word) of what a tile's lanes and the collector write to activations, K and V."""
    post = Post(d.post)
    if post in (Post.RESIDUAL, Post.LOGITS):
        return set()
    tokens = range(row_tile * config.rows, min((row_tile + 1) * config.rows, d.tokens))
    channels = range(column_tile * config.cols, min((column_tile + 1) * config.cols, d.columns))
    elements = {(d.element + channel) // config.pe_depth for channel in channels}
    if post == Post.KEY:
        return {("kv", d.base + t // config.cols * d.stride + w) for t in tokens for w in elements}
    if post == Post.VALUE:
        return {("kv", d.base + column_tile * d.stride + t // config.pe_depth) for t in tokens}
    return {("activation", d.base + row_tile * d.stride + w) for w in elements}


def hazards(program: Program) -> tuple[list[int], int]:
    """GEMMs that, issued as fast as the timing allows, feed a word before it is written; and how many of those that wait
    would do so without waiting. Tile by tile, from the descriptors alone."""
    timing, config = Timing(program.config), program.config
    written: dict[tuple[str, int], int] = {}  # first cycle in which the word may be fed
    broken, needed, last, interval = [], 0, 0, 0
    for index, d in enumerate(program.descriptors()):
        if d.opcode != Opcode.GEMM:
            if d.opcode != Opcode.NORM:
                written.clear()
            continue
        post, early, fresh = Post(d.post), False, {}
        if d.flags & FLAG_WAIT:
            before, written = written, {}
        else:
            before = written
        group = min(d.resident, d.column_tiles) or d.column_tiles
        end = last + max(interval, d.k_words)
        for row_tile, column_tile in tiles_of(d):
            early |= any(before.get(word, -1) > end - d.k_words + 1 for word in words_read(d, row_tile, column_tile))
            kv = post in (Post.KEY, Post.VALUE)
            delay = timing.settle(post) if kv else timing.drain_latency + config.cols + LANE_LATENCY
            fresh |= dict.fromkeys(words_written(d, row_tile, column_tile, config), end + delay)
            ends = (column_tile + 1) % group == 0 or column_tile + 1 == d.column_tiles  # of the row tile's group
            sends = not config.gathers or ends or (d.element + column_tile) % config.pe_depth == config.pe_depth - 1
            last, end = end, end + timing.tile_interval(d.k_words, post, False, sends=sends)
        written = written | fresh
        interval = timing.drain_interval(post, False)
        if d.flags & FLAG_WAIT:
            needed += early
        elif early:
            broken.append(index)
    return broken, needed


@pytest.mark.parametrize("order", ["auto", "weight_major", "token_major", "2"])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("stem", [False, True])
def test_gemms_wait_for_words_under_way(network, convolutional, seed, order, stem):
    chosen = convolutional if stem else network
    config = draw_config(chosen, random.Random(100 + seed))
    assert hazards(compile_network(chosen, config, loop_order=order))[0] == []


def test_waits_are_needed(network):
    """Row tile by row tile little is left to wait for; nearly all waits are for a word that would be read too early."""
    waits = needed = 0
    for seed in range(20):
        program = compile_network(network, draw_config(network, random.Random(200 + seed)))
        waits += sum(bool(descriptor.flags & FLAG_WAIT) for descriptor in gemms(program))
        needed += hazards(program)[1]
    assert waits > 0 and needed > 0.9 * waits, (needed, waits)


def test_a_masked_path_still_waits(network):
    """Dropping an attention must not bring a reader too near to its writer."""
    for seed in range(6):
        config = draw_config(network, random.Random(300 + seed))
        program = compile_network(network, config)
        for mask in range(4):
            running = [d for d in program.descriptors() if not d.flags & FLAG_ATTENTION or mask >> d.encoder & 1]
            memory = b"".join(d.encode() for d in running)
            assert hazards(replace(program, memory=memory, descriptor_count=len(running)))[0] == []


def test_loop_orders(network, images):
    """Every order gives the same logits; token_major streams weights again, and nothing is resident beyond the rings."""
    config = minimal_config(network, weight_words=64, parameter_tiles=5)
    expected = GoldenDevice().run(compile_network(network, config), images).logits
    for order, allowed in (("weight_major", {1}), ("token_major", {0}), ("3", {1, 2, 3}), ("auto", set(range(65)))):
        program = compile_network(network, config, loop_order=order)
        assert {d.resident for d in gemms(program)} <= allowed
        for d in gemms(program):
            assert d.flags & FLAG_KV or (d.resident * d.k_words <= config.weight_words and d.resident <= config.parameter_tiles)
        np.testing.assert_array_equal(GoldenDevice().run(program, images).logits, expected)
    with pytest.raises(InputError, match="Loop order must be auto, weight_major, token_major or a number"):
        compile_network(network, config, loop_order="0")


def test_gemm_fields_follow_the_shape(network):
    config = minimal_config(network)
    for d in gemms(compile_network(network, config)):
        assert d.k_words == -(-d.k_elements // config.pe_depth)
        assert d.column_tiles == -(-d.columns // config.cols)
        assert d.row_tiles == -(-d.tokens // config.rows)
        assert bool(d.flags & FLAG_PER_COLUMN) != bool(d.flags & FLAG_KV)

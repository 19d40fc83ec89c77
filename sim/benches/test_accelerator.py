"""The whole machine in RTL against the golden machine: real network, skips, faults, counters and the gate."""

from dataclasses import replace

import numpy as np
import pytest

from hw.device import mismatches
from hw.golden import GoldenDevice
from hw.memory_timing import MemoryTiming
from hw.presets import find_preset
from sim.cycle_model import predict
from sim.measurement import breakdown
from sim.program_counts import count_program
from sim.rtl.device import Job, RtlDevice
from sim.stimulus.small_machines import SMALL_NETWORK
from sim.stimulus.workload import prepare

CONFIG = find_preset("nano")


@pytest.fixture(scope="module")
def device():
    return RtlDevice(CONFIG, timeout_s=600)


@pytest.fixture(scope="module")
def small():
    return prepare(SMALL_NETWORK, CONFIG, images=4)


@pytest.fixture(scope="module")
def default_vit():
    return prepare("fmnist_vit_tiny", CONFIG, images=3)


def golden(workload, **options):
    return GoldenDevice().run(workload.program, workload.images, **options)


def checked_counters(program, result, masks=None):
    """Counters that follow from the Program, and that the operations' cycles add up."""
    expected = {name: value * len(result) for name, value in count_program(program, masks).counters().items()}
    assert {name: result.counters[name] for name in expected} == expected
    assert sum(breakdown(result.counters).values()) == result.counters["cycles"]


def test_small_network_is_bit_exact(device, small):
    result = device.run(small.program, small.images)
    assert result.error == 0 and len(result) == 4
    assert mismatches(golden(small), result) == 0
    assert np.all(result.exits == 1)
    checked_counters(small.program, result)


def test_default_network_and_every_kind_of_skip(device, default_vit):
    """Real images through the trained ViT, timed by the cycle model; skipped attentions cost no array cycle and no weight byte."""
    program = default_vit.program
    masks = [0xFFF, 0xFFF & ~(1 << 2 | 1 << 5 | 1 << 8), 0]
    images = default_vit.images[:, None]
    jobs = [Job(program=program, images=image, path_masks=(mask, mask)) for mask, image in zip(masks, images, strict=True)]
    results = device.run_jobs(jobs)
    for mask, job, result in zip(masks, jobs, results, strict=True):
        assert result.error == 0
        assert mismatches(GoldenDevice().run(program, job.images, path_masks=job.path_masks), result) == 0, f"mask {mask:03x}"
        checked_counters(program, result, job.path_masks)
        assert result.counters == predict(program, path_masks=job.path_masks).counters
    full, some, none = (result.counters for result in results)
    assert none["attention_array_cycles"] == 0
    assert some["attention_array_cycles"] * 12 == full["attention_array_cycles"] * 9
    for name in ("array_cycles", "weight_bytes"):
        assert (full[name] - some[name]) * 12 == (full[name] - none[name]) * 3, name
    assert full["cycles"] > some["cycles"] > none["cycles"]


def test_skipping_as_the_program_says(device):
    workload = prepare(SMALL_NETWORK, CONFIG, images=2, skip="0")
    assert mismatches(golden(workload), device.run(workload.program, workload.images)) == 0


def region_offset(program, suffix):
    return next(offset for name, offset, _ in program.regions if name.endswith(suffix))


def test_a_flipped_bit_shows(device, small):
    """One bit in the RTL's memory alone: the comparison must see it."""
    flips = [
        ("encoder0.fc1.weights", 5, 6),
        ("encoder1.projection.weights", 0, 6),
        ("encoder0.fc2.parameters", 1, 6),  # bias, 2^14
        ("head.parameters", 10, 3),  # bias of the second logit, 2^19
        ("encoder0.exp.table", 0, 6),  # the maximum's own entry, 127
        ("encoder1.activation.table", 128 + 20, 6),
    ]
    good = Job(program=small.program, images=small.images)
    jobs = [replace(good, corrupt=(region_offset(small.program, region) + byte, bit)) for region, byte, bit in flips]
    *bad, last = device.run_jobs([*jobs, good])
    for flip, result in zip(flips, bad, strict=True):
        assert mismatches(golden(small), result) > 0, flip
    assert mismatches(golden(small), last) == 0


def test_results_do_not_depend_on_the_memory(device, small):
    expected = golden(small)
    cycles = []
    for text in ("latency=1,bytes_per_cycle=64,outstanding=16", "latency=200,bytes_per_cycle=5,outstanding=1"):
        result = device.run(small.program, small.images, memory_timing=MemoryTiming.parse(text))
        assert mismatches(expected, result) == 0, text
        cycles.append(result.counters["cycles"])
    assert cycles[0] < cycles[1]


def test_cycles_do_not_depend_on_the_image_and_repeat(device, small):
    results = device.run_jobs([Job(program=small.program, images=small.images[n : n + 1]) for n in (0, 1, 0)])
    assert results[0].counters == results[1].counters == results[2].counters


def test_gated_pair_takes_both_exits(device):
    """The machine decides by itself: low-effort answer, entropy, gate, high-effort answer."""
    import torch

    from sw.compiler.programs import compile_pair
    from sw.data.pixels import to_input, to_pixels
    from sw.graph.path import Path
    from sw.networks.network import build_network, parse_network
    from sw.quantization.quantize import quantize

    spec = parse_network(SMALL_NETWORK)
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (96, *spec.image_size, 1), dtype=np.uint8)
    with torch.no_grad():
        low, high = (quantize(build_network(SMALL_NETWORK, "random", seed), to_input(pixels[:64])) for seed in (5, 6))
    program = compile_pair(low, high, CONFIG, threshold=0, low_path=Path.keeping([1], low.depth))
    images = to_pixels(pixels[64:])
    entropies = GoldenDevice().run(program, images, threshold=0).gate_entropy
    threshold = int(np.median(entropies))
    expected = GoldenDevice().run(replace(program, threshold=threshold), images)
    result = device.run(replace(program, threshold=threshold), images)
    assert mismatches(expected, result) == 0
    assert set(result.exits) == {0, 1}
    assert result.counters["exits_low"] == int(np.sum(result.exits == 0)) == int(np.sum(entropies <= threshold))
    np.testing.assert_array_equal(result.exits == 0, entropies <= threshold)


def test_a_pair_with_a_stem_resumes(device):
    """Convolutions, a second residual stream, and the high effort's way back to the first; both exits."""
    import torch

    from sim.cycle_model import predict
    from sw.compiler.programs import compile_pair
    from sw.data.pixels import to_input, to_pixels
    from sw.graph.path import Path
    from sw.networks.network import build_network, parse_network
    from sw.quantization.quantize import quantize

    name = "vit:dim=12,depth=3,heads=2,tokens=10,classes=6,patch=4,channels=2,stem=6"
    spec = parse_network(name)
    pixels = np.random.default_rng(4).integers(0, 256, (40, *spec.image_size, 2), dtype=np.uint8)
    with torch.no_grad():
        network = quantize(build_network(name, "random", 7), to_input(pixels[:32]))
    images = to_pixels(pixels[32:])
    resumed = compile_pair(network, network, CONFIG, 0, low_path=Path.keeping([0], network.depth), resume=True)
    plain = compile_pair(network, network, CONFIG, 0, low_path=Path.keeping([0], network.depth), resume=False)
    threshold = int(np.median(GoldenDevice().run(plain, images).gate_entropy))
    programs = (resumed, plain)
    batches = [Job(program=program, images=images, threshold=threshold) for program in programs]
    results = device.run_jobs([*batches, *(Job(program=program, images=images[:1]) for program in programs)])
    for result in results[:2]:
        assert mismatches(GoldenDevice().run(plain, images, threshold=threshold), result) == 0 and set(result.exits) == {0, 1}
    for program, one in zip(programs, results[2:], strict=True):
        assert one.counters == predict(program).counters
    assert results[2].counters["cycles"] < 0.75 * results[3].counters["cycles"]


@pytest.mark.parametrize("options", [{"distilled": True}, {"reg_tokens": 6, "no_embed_class": True, "init_values": 0.5}])
def test_prefix_tokens_are_bit_exact_and_timed(device, options):
    """A distillation token in a second row tile, which the head reads as well; register tokens over two row tiles."""
    import torch
    from torch import nn

    from sim.cycle_model import predict
    from sw.compiler.programs import compile_network
    from sw.data.pixels import to_input, to_pixels
    from sw.networks.plain_vit import create_from_arguments, import_timm
    from sw.networks.random_weights import draw_weights
    from sw.quantization.quantize import quantize

    shape = dict(img_size=(6, 9), patch_size=3, in_chans=2, num_classes=5, embed_dim=18, depth=2, num_heads=3, mlp_ratio=2.0)
    if options.get("distilled"):
        import_timm()
        from timm.models.deit import VisionTransformerDistilled

        vit: nn.Module = VisionTransformerDistilled(**shape)
    else:
        vit = create_from_arguments({**shape, **options, "act_layer": nn.SiLU})
    draw_weights(vit, 4)
    pixels = np.random.default_rng(2).integers(0, 256, (34, 6, 9, 2), dtype=np.uint8)
    with torch.no_grad():
        program = compile_network(quantize(vit, to_input(pixels[:32])), CONFIG)
    images = to_pixels(pixels[32:])
    result, one = device.run_jobs([Job(program=program, images=images), Job(program=program, images=images[:1])])
    assert mismatches(GoldenDevice().run(program, images), result) == 0
    assert dict(one.counters) == predict(program).counters
    checked_counters(program, one)

"""The cycle model against the RTL: cycles and every counter of an image."""

import itertools
import json
import random
from dataclasses import replace

import numpy as np
import pytest

from hw.errors import InputError
from hw.isa import Opcode
from hw.memory_timing import MemoryTiming
from hw.presets import find_preset
from hw.program import Program
from sim.cycle_model import predict
from sim.measure import main
from sim.rtl.device import Job, RtlDevice
from sim.stimulus.small_machines import SMALL_MACHINES, SMALL_NETWORK
from sim.stimulus.workload import prepare

CONFIG = find_preset("nano")
ANY_THRESHOLD = (1 << 24) - 1
"""A gate threshold that every entropy is at most."""


@pytest.fixture(scope="module")
def device():
    return RtlDevice(CONFIG, timeout_s=600)


@pytest.fixture(scope="module")
def small():
    return prepare(SMALL_NETWORK, CONFIG, images=1)


def drawn_timing(rng):
    return MemoryTiming(latency=rng.randint(1, 200), bytes_per_cycle=rng.randint(3, 64), outstanding=rng.randint(1, 16))


def check(device, jobs, timing):
    """Every counter of every job of one image, in one simulation."""
    results = device.run_jobs([replace(job, images=job.images[:1]) for job in jobs], memory_timing=timing)
    for job, result in zip(jobs, results, strict=True):
        assert result.error == 0
        low = job.threshold is not None and job.threshold > 0
        prediction = predict(job.program, timing, path_masks=job.path_masks, exits_low=low)
        different = {
            name: (value, prediction.counters[name])
            for name, value in result.counters.items()
            if value != prediction.counters[name]
        }
        assert not different, f"(RTL, model) with {timing}, masks {job.path_masks}, exits_low {low}: {different}"
        assert prediction.cycles == result.counters["cycles"]
        assert set(prediction.counters) == set(result.counters)


def test_small_network(device, small):
    rng = random.Random(3)
    timings = [MemoryTiming(), MemoryTiming(latency=1, bytes_per_cycle=64, outstanding=16)]
    timings += [MemoryTiming(latency=200, bytes_per_cycle=5, outstanding=1), *(drawn_timing(rng) for _ in range(2))]
    jobs = [Job(program=small.program, images=small.images, path_masks=(mask, mask)) for mask in (3, 1, 0)]
    for timing in timings:
        check(device, jobs, timing)


def test_the_engine_both_compares_them(tmp_path):
    arguments = ["--model", SMALL_NETWORK, "--engine", "both", "--images", "2", "--skip", "1", "--json", str(tmp_path / "m.json")]
    assert main(arguments) == 0
    fields = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert fields["runs_equal"] and fields["mismatches"] == 0
    assert fields["model_run"] == fields["rtl_run"] == {"cycles": fields["cycles"], "counters": fields["counters"]}


def test_gated_pair(device):
    """Both exits, with different masks."""
    import torch

    from sw.compiler.programs import compile_pair
    from sw.data.pixels import to_input, to_pixels
    from sw.graph.path import Path
    from sw.networks.network import build_network, parse_network
    from sw.quantization.quantize import quantize

    spec = parse_network(SMALL_NETWORK)
    pixels = np.random.default_rng(3).integers(0, 256, (33, *spec.image_size, 1), dtype=np.uint8)
    with torch.no_grad():
        low, high = (quantize(build_network(SMALL_NETWORK, "random", seed), to_input(pixels[:32])) for seed in (5, 6))
    program = compile_pair(low, high, CONFIG, threshold=0, low_path=Path.keeping([1], low.depth))
    images = to_pixels(pixels[32:])
    jobs = [
        Job(program=program, images=images, threshold=threshold, path_masks=masks)
        for threshold in (0, ANY_THRESHOLD)
        for masks in ((2, 3), (0, 0), (3, 1))
    ]
    for timing in (MemoryTiming(), MemoryTiming(latency=200, bytes_per_cycle=5, outstanding=1)):
        check(device, jobs, timing)


def test_gemms_of_one_word():
    """A NORM behind one is taken in the cycle of its only decision."""
    config = SMALL_MACHINES["two scores a cycle, exp units unlimited"]
    workload = prepare("vit:dim=4,depth=2,heads=1,tokens=3,classes=6,mlp_ratio=1", config, images=1)
    descriptors = workload.program.descriptors()
    words = [
        before.k_words * before.column_tiles * before.row_tiles
        for before, after in itertools.pairwise(descriptors)
        if after.opcode == Opcode.NORM and before.opcode == Opcode.GEMM
    ]
    assert words.count(1) == 4
    job = Job(program=workload.program, images=workload.images)
    for timing in (MemoryTiming(), MemoryTiming(latency=7, bytes_per_cycle=3, outstanding=16)):
        check(RtlDevice(config, timeout_s=600), [job], timing)


def test_the_program_is_only_read(small):
    """The same prediction again, and another one for another Program."""
    assert isinstance(small.program, Program)
    first = predict(small.program)
    assert predict(small.program) == first
    assert predict(small.program, path_masks=(0, 0)).cycles < first.cycles


def test_a_low_exit_needs_a_gate(small):
    with pytest.raises(InputError, match="Program with a gate"):
        predict(small.program, exits_low=True)

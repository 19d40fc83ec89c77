"""The self-clocked top, its memory and the device around it, with a machine that only copies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.errors import InputError
from hw.memory_timing import MemoryTiming
from hw.presets import find_preset
from hw.program import Program
from sim.rtl.bench_runner import BenchFailure
from sim.rtl.device import Job, RtlDevice

COPIED_BYTES = 32


def copy_machine(config):
    return Path(__file__).parent / "copy_machine.sv"


@pytest.fixture(scope="module")
def device():
    return RtlDevice(find_preset("nano"), timeout_s=120, machine=copy_machine)


def make_program(size=4096):
    memory = bytes(np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8))
    return Program(config=find_preset("nano"), memory=memory, descriptor_count=1, image_bytes=60, classes=10, path_masks=(3, 1))


def make_images(count, seed=0):
    return np.random.default_rng(seed).integers(-128, 128, (count, 6, 10, 1), dtype=np.int8)


def heads(images):
    """What the copied bytes mean as a record's head."""
    return images.reshape(len(images), -1)[:, :COPIED_BYTES].copy().view("<u4").astype(np.int64)


def test_records_come_from_the_memory_of_the_simulation(device):
    images = make_images(5)
    result = device.run(make_program(), images)
    words = heads(images)
    assert len(result) == 5 and result.error == 0
    np.testing.assert_array_equal(np.stack([result.exits, result.entropy, result.gate_entropy], 1), words[:, :3])
    np.testing.assert_array_equal(result.cycles, words[:, 5])
    assert np.all(result.logits == -1), "Bytes that the machine did not write must stay as they were"
    assert result.counters["weight_bytes"] == 4096


def test_jobs_run_in_order_on_one_machine(device):
    jobs = [Job(program=make_program(), images=make_images(n, seed=n)) for n in (1, 3, 2)]
    for job, result in zip(jobs, device.run_jobs(jobs), strict=True):
        np.testing.assert_array_equal(result.entropy, heads(job.images)[:, 1])


def test_timing_options_reach_the_memory(device):
    def cycles(size, **options):
        return device.run(make_program(size), make_images(2), memory_timing=MemoryTiming(**options)).counters["cycles"]

    base = cycles(256, latency=50, bytes_per_cycle=1024, outstanding=64)
    assert cycles(256, latency=51, bytes_per_cycle=1024, outstanding=64) == base + 4, "Two reads and two writes take one more"
    assert cycles(4096, latency=50, bytes_per_cycle=2, outstanding=64) > 4096 // 2
    assert cycles(4096, latency=400, bytes_per_cycle=1024, outstanding=1) > 16 * 400, "One burst of 256 bytes at a time"


def test_a_read_outside_the_memory_is_an_error(device):
    images = make_images(1)
    far = Job(program=make_program(), images=images, registers=(("image_base", 1 << 30),))
    results = device.run_jobs([far, Job(program=make_program(), images=images)])
    assert results[0].error == 6
    assert results[1].error == 0 and results[1].entropy[0] == heads(images)[0, 1]


@pytest.mark.parametrize(
    ("register", "message"),
    [("image_stride", "1 read bursts and 0 write bursts"), ("result_stride", "0 read bursts and 1 write bursts")],
)
def test_accesses_outside_the_windows_are_seen(device, register, message):
    job = Job(program=make_program(), images=make_images(1), registers=((register, COPIED_BYTES // 2),))
    assert device.run_jobs([replace(job, registers=((register, COPIED_BYTES),))])[0].error == 0
    with pytest.raises(BenchFailure, match=message):
        device.run_jobs([job])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corrupt": (4096, 0)}, "Flipped bit must be in the Program's 4096 bytes"),
        ({"images": np.zeros((1, 5, 5, 1), np.int8)}, "Images must have 60 bytes each, not 25"),
        ({"images": np.zeros((1, 6, 10, 1), np.uint8)}, "Images must be int8"),
        ({"images": np.zeros((0, 6, 10, 1), np.int8)}, "Images must be int8"),
    ],
)
def test_rejections(device, change, message):
    with pytest.raises(InputError, match=message):
        device.run_jobs([Job(**{"program": make_program(), "images": make_images(1)} | change)])


def test_simulation_is_fast(device):
    """Far below what a machine gives, so that a loaded one passes; a bench that wakes each cycle does not reach it."""
    program = make_program(1 << 22)
    result = device.run(program, make_images(1), memory_timing=MemoryTiming(bytes_per_cycle=4))
    assert result.counters["cycles"] > 1_000_000
    assert result.sim_cycles_per_s > 200_000

"""Programs of every field that GEMM and NORM have: the RTL against the golden machine, the cycle model against the RTL."""

from collections import Counter

import numpy as np
import pytest

from hw.device import mismatches
from hw.golden import GoldenDevice
from hw.isa import FLAG_WAIT, Opcode, Post
from hw.memory_timing import MemoryTiming
from sim.cycle_model import predict
from sim.rtl.device import Job, RtlDevice
from sim.stimulus.random_programs import random_machine, random_program
from sim.stimulus.small_machines import SMALL_MACHINES

PROGRAMS = 24
TIMINGS = (MemoryTiming(), MemoryTiming(latency=70, bytes_per_cycle=11, outstanding=2))
MORE_MACHINES = 6
"""Machines of random shapes for the slow test."""


def test_programs_use_every_field():
    """What the other test relies on."""
    config = next(iter(SMALL_MACHINES.values()))
    found: Counter[str] = Counter()
    states: set[int] = set()
    for seed in range(PROGRAMS):
        program, _ = random_program(config, seed)
        for d in program.descriptors():
            if d.opcode == Opcode.GEMM:
                states.add(d.first_row_tile + d.row_tiles)
                found["segments"] += 0 < d.segment_words < d.k_words
                found["shorter last segment"] += bool(d.segment_words and d.k_words % d.segment_words)
                found["elsewhere"] += d.post == Post.RESIDUAL and d.addend_base != d.base
                found["in place"] += d.post == Post.RESIDUAL and d.addend_base == d.base
                found["blank"] += bool(d.blank_rows)
                found["without waiting"] += not d.flags & FLAG_WAIT
            if d.opcode == Opcode.NORM:
                found["beside" if not d.flags & FLAG_WAIT else "behind"] += 1
    assert len(found) == 8 and min(found.values()) > 5, found
    assert max(states) == config.row_tiles


@pytest.mark.parametrize("name", SMALL_MACHINES)
def test_random_programs(name):
    check_programs(SMALL_MACHINES[name])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(MORE_MACHINES))
def test_random_programs_on_random_machines(seed):
    check_programs(random_machine(np.random.default_rng(seed)))


def check_programs(config):
    """Answers, and every counter of an image."""
    print(config)
    cases = [random_program(config, seed) for seed in range(PROGRAMS)]
    jobs = [Job(program=program, images=images[:1]) for program, images in cases]
    golden = [GoldenDevice().run(job.program, job.images) for job in jobs]
    assert len({tuple(result.logits[0]) for result in golden}) == PROGRAMS
    device = RtlDevice(config, timeout_s=600, quick_build=True)
    for timing in TIMINGS:
        for seed, (job, expected, result) in enumerate(
            zip(jobs, golden, device.run_jobs(jobs, memory_timing=timing), strict=True)
        ):
            assert result.error == 0, (seed, result.error, job.program.descriptors()[result.error_descriptor])
            assert mismatches(expected, result) == 0, seed
            prediction = predict(job.program, timing)
            pairs = {key: (value, prediction.counters[key]) for key, value in result.counters.items()}
            assert not {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}, seed

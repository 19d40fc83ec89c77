"""Limited exp units in RTL: answers as without a pass, cycles as the cycle model says, errors for bad passes."""

from dataclasses import replace

import numpy as np
import pytest

from hw.device import mismatches
from hw.golden import GoldenDevice
from hw.isa import Error, Opcode, Post
from hw.memory_timing import MemoryTiming
from hw.timing import SOFTMAX_LATENCY, Timing
from sim.benches.test_bad_programs import with_field
from sim.cycle_model import predict
from sim.program_counts import count_program
from sim.rtl.device import Job, RtlDevice
from sim.stimulus.small_machines import SMALL_MACHINES, SMALL_NETWORK
from sim.stimulus.workload import prepare

STARVING = MemoryTiming(latency=200, bytes_per_cycle=5, outstanding=1)


@pytest.mark.parametrize("name", [name for name, config in SMALL_MACHINES.items() if config.exp_units])
def test_limited_exp_units(name):
    """Units that divide the rows, one for each row, one alone, and some that leave a rest; the last row tile is never full."""
    config = SMALL_MACHINES[name]
    workload = prepare(SMALL_NETWORK, config, images=3)
    golden = GoldenDevice().run(workload.program, workload.images)
    unlimited = prepare(SMALL_NETWORK, replace(config, exp_units=0), images=3).program
    np.testing.assert_array_equal(golden.logits, GoldenDevice().run(unlimited, workload.images).logits)

    device = RtlDevice(config, timeout_s=600, quick_build=True)
    single = Job(program=workload.program, images=workload.images[:1])
    jobs = [Job(program=workload.program, images=workload.images), single, replace(single, path_masks=(1, 1))]
    passes = [Timing(config).softmax_pass(d.tokens, d.keys) for d in workload.program.descriptors() if d.opcode == Opcode.SOFTMAX]
    assert passes == [Timing(config).softmax_pass(11, 11)] * 2 * 3
    for timing in (MemoryTiming(), STARVING):
        batch, *singles = device.run_jobs(jobs, memory_timing=timing)
        assert batch.error == 0
        assert mismatches(golden, batch) == 0
        for job, result in zip(jobs[1:], singles, strict=True):
            assert dict(result.counters) == predict(job.program, timing, path_masks=job.path_masks).counters
            expected = count_program(job.program, job.path_masks).counters()
            assert {name: result.counters[name] for name in expected} == expected
        for kept, result in zip((6, 3), singles, strict=True):  # heads of both encoders, or of one
            waits = result.counters["operation_softmax"] - sum(passes[:kept])
            most = SOFTMAX_LATENCY + Timing(config).settle(Post.SCORE) + 1
            assert kept * SOFTMAX_LATENCY <= waits < kept * most + result.counters["stall_table"]


def test_bad_passes_are_errors_and_recovered_from():
    config = SMALL_MACHINES["exp units that divide the rows"]
    workload = prepare("vit:dim=8,depth=1,heads=2,tokens=5,classes=3", config, images=1)
    cases = {
        "no keys": ("keys", 0, Error.FIELD),
        "tokens beyond the row tiles": ("tokens", config.max_tokens, Error.FIELD),
        "bank too small": ("base", config.activation_words - 1, Error.BUFFER),
        "keys beyond the bank": ("keys", config.activation_words * config.pe_depth, Error.BUFFER),
        "table outside": ("table", len(workload.program.memory), Error.ADDRESS),
        "table between beats": ("table", 8, Error.ADDRESS),
    }
    good = Job(program=workload.program, images=workload.images)
    expected = GoldenDevice().run(workload.program, workload.images)
    jobs, places = [], []
    for name, value, _ in cases.values():
        program, index = with_field(workload.program, Opcode.SOFTMAX, name, value)
        jobs += [replace(good, program=program), good]
        places.append(index)
    # in the middle of a pass, which takes most of the cycles, and until the record is written, which no deadline stops
    cycles = predict(workload.program).cycles
    jobs += [job for deadline in range(cycles // 4, cycles - 3, 29) for job in (replace(good, deadline=deadline), good)]
    results = RtlDevice(config, timeout_s=600, quick_build=True).run_jobs(jobs, max_cycles=200_000)
    errors = [(result.error, result.error_descriptor) for result in results[: 2 * len(cases) : 2]]
    assert errors == [(error, place) for (*_, error), place in zip(cases.values(), places, strict=True)]
    assert all(result.error == Error.DEADLINE for result in results[2 * len(cases) :: 2])
    assert all(result.error == 0 and mismatches(expected, result) == 0 for result in results[1::2])

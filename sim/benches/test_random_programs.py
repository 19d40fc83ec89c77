"""Programs of every field that GEMM and NORM have: the RTL against the golden machine, the cycle model against the RTL."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.device import mismatches
from hw.golden import GoldenDevice
from hw.isa import FLAG_WAIT, Opcode, Post
from hw.memory_timing import MemoryTiming
from sim.cycle_model import predict
from sim.rtl.device import Job, RtlDevice
from sim.stimulus.random_programs import random_machine, random_program, sized

PROGRAMS = 24
TIMINGS = (MemoryTiming(), MemoryTiming(latency=70, bytes_per_cycle=11, outstanding=2))
_PLAIN = AcceleratorConfig(
    rows=3, cols=4, pe_depth=4, activation_words=2, residual_words=2, weight_words=2, kv_words=2, parameter_tiles=6, row_tiles=9,
    classes=3, norm_elements=2,
)  # fmt: skip
MACHINES = {
    "two scores a cycle": sized(_PLAIN, 50),
    "one column, limited exp units": sized(
        replace(_PLAIN, cols=1, pe_depth=3, rows=4, classes=4, norm_elements=3, exp_units=2), 40
    ),
    "odd columns, rows as loops": sized(replace(_PLAIN, rows=9, cols=3, pe_depth=2, classes=9, weight_ports=2), 47),
    **{f"random {seed}": random_machine(np.random.default_rng(seed)) for seed in range(2)},
}


def test_programs_use_every_field():
    """What the other test relies on."""
    config = MACHINES["two scores a cycle"]
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


@pytest.mark.parametrize("name", MACHINES)
def test_random_programs(name):
    config = MACHINES[name]
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

"""The whole machine on cocotbext-axi's memories with random idles and back-pressure on every channel."""

import random

import pytest

from hw.device import mismatches
from hw.golden import GoldenDevice
from sim.measurement import breakdown
from sim.program_counts import count_program
from sim.rtl.axi_device import AxiDevice
from sim.rtl.device import Job
from sim.stimulus.small_machines import SMALL_MACHINES
from sim.stimulus.workload import prepare


@pytest.mark.parametrize("idle", [0.0, 0.3, 0.8])
def test_bit_exact_and_counters_add_up(idle):
    seed = random.Random(idle).randrange(1 << 16)
    print(f"seed {seed}")
    config = SMALL_MACHINES["exp units that divide the rows"]
    workload = prepare("vit:dim=8,depth=1,heads=2,tokens=5,classes=3", config, images=2)
    device = AxiDevice(config, idle=idle, seed=seed)
    jobs = [Job(program=workload.program, images=workload.images, path_masks=(mask, mask)) for mask in (1, 0)]
    results = device.run_jobs(jobs, max_cycles=500_000)
    for job, result, seen in zip(jobs, results, device.seen, strict=True):
        assert result.error == 0
        assert mismatches(GoldenDevice().run(workload.program, workload.images, path_masks=job.path_masks), result) == 0
        counters = result.counters
        assert {name: counters[name] for name in seen} == seen, "Bytes counted must be the bytes that crossed the ports"
        expected = count_program(workload.program, job.path_masks).counters()
        assert {name: counters[name] for name in expected} == {name: 2 * value for name, value in expected.items()}
        assert sum(breakdown(counters).values()) == counters["cycles"]
        assert seen["system_bytes_written"] == 2 * workload.program.record_stride

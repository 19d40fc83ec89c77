"""Random machines with random networks are bit-exact in RTL and close to their float networks."""

import pytest

from hw.device import mismatches
from hw.golden import GoldenDevice
from sim.measurement import signal_to_noise_db
from sim.rtl.device import Job, RtlDevice
from sim.stimulus.random_machines import ALL_SEEDS, SHARED_SEEDS, random_case
from sim.stimulus.workload import prepare

IMAGES = 3
LEAST_SQNR_DB = 20


def check_machine(seed):
    case = random_case(seed)
    print(f"seed {seed}: {case}")
    workloads = [prepare(name, case.config, images=IMAGES, seed=seed, loop_order=order) for name, order in case.networks]
    jobs = [Job(program=workload.program, images=workload.images) for workload in workloads]
    device = RtlDevice(case.config, timeout_s=600, quick_build=True)
    results = device.run_jobs(jobs, memory_timing=case.timing, max_cycles=20_000_000)
    for workload, result in zip(workloads, results, strict=True):
        print(workload.model)
        assert result.error == 0, f"{result.error.name} at descriptor {result.error_descriptor}"
        assert mismatches(GoldenDevice().run(workload.program, workload.images), result) == 0
        quality = signal_to_noise_db(workload, result)
        assert quality is None or quality >= LEAST_SQNR_DB


@pytest.mark.parametrize("seed", SHARED_SEEDS)
def test_random_machine(seed):
    check_machine(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", ALL_SEEDS[len(SHARED_SEEDS) :])
def test_more_random_machines(seed):
    check_machine(seed)

"""Random machines with random networks are bit-exact in RTL and close to their float networks."""

import random

import pytest

from hw.device import mismatches
from hw.golden import GoldenMachine
from sim.measurement import signal_to_noise_db
from sim.random_machines import random_machine, random_network, random_timing
from sim.rtl_device import Job, RtlDevice
from sim.workload import prepare

NETWORKS_PER_MACHINE = 3
IMAGES = 3
QUICK_SEEDS = range(8)
LEAST_SQNR_DB = 20


def check_machine(seed):
    rng = random.Random(seed)
    networks = [random_network(rng) for _ in range(NETWORKS_PER_MACHINE)]
    config, timing = random_machine(rng, networks), random_timing(rng)
    print(f"seed {seed}: {config}\n{timing}")
    workloads = [prepare(name, config, images=IMAGES, seed=seed) for name in networks]
    jobs = [Job(program=workload.program, images=workload.images) for workload in workloads]
    results = RtlDevice(config, timeout_s=300).run_jobs(jobs, memory_timing=timing, max_cycles=20_000_000)
    for workload, result in zip(workloads, results, strict=True):
        print(workload.model)
        assert result.error == 0, f"{result.error.name} at descriptor {result.error_descriptor}"
        assert mismatches(GoldenMachine(workload.program).run(workload.images), result) == 0
        quality = signal_to_noise_db(workload, result)
        assert quality is None or quality >= LEAST_SQNR_DB


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_random_machine(seed):
    check_machine(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(len(QUICK_SEEDS), 50))
def test_more_random_machines(seed):
    check_machine(seed)

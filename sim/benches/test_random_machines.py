"""Random machines with random networks: bit-exact in RTL, close to their float networks, and timed by the cycle model."""

import random

import pytest

from hw.device import mismatches
from hw.golden import GoldenDevice
from hw.isa import COUNTERS
from hw.memory_timing import MemoryTiming
from sim.cycle_model import predict, predict_every_mask
from sim.measurement import signal_to_noise_db
from sim.rtl.device import LEAST_LANES, Job, RtlDevice
from sim.stimulus.random_machines import ALL_SEEDS, QUICK_SEEDS, features, random_case
from sim.stimulus.workload import prepare
from sw.networks.options import NetworkOptions

IMAGES = 3
LEAST_SQNR_DB = 20


def check_answers(workload, result):
    """As the golden machine, and nearly as the float network."""
    print(workload.model)
    assert result.error == 0, f"{result.error.name} at descriptor {result.error_descriptor}"
    assert mismatches(GoldenDevice().run(workload.program, workload.images), result) == 0
    quality = signal_to_noise_db(workload, result)
    assert quality is None or quality >= LEAST_SQNR_DB


def check_counters(job, result, timing):
    """Every counter of an image as the cycle model says."""
    assert result.error == 0
    predicted = predict(job.program, timing, path_masks=job.path_masks).counters
    pairs = {name: (value, predicted[name]) for name, value in result.counters.items()}
    different = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    assert not different, f"(RTL, model) with {timing}, masks {job.path_masks}: {different}"
    assert set(predicted) == set(result.counters)


def check_every_mask(workload, timing):
    """Counters of every mask from shared states, against a walk of its own for each."""
    every = predict_every_mask(workload.program, timing)
    for mask in range(1 << workload.path.depth):
        walked = predict(workload.program, timing, path_masks=(mask, mask)).counters
        assert dict(zip((name for name, _ in COUNTERS), every[mask].tolist(), strict=True)) == walked, (mask, timing)


def check_machine(seed):
    case, rng = random_case(seed), random.Random(seed)
    other = MemoryTiming(latency=rng.randint(1, 200), bytes_per_cycle=rng.randint(3, 64), outstanding=rng.randint(1, 16))
    print(f"seed {seed}: {case}\n{other}")
    workloads = [
        prepare(NetworkOptions(name, seed=seed), case.config, images=IMAGES, loop_order=order) for name, order in case.networks
    ]
    batches = [Job(program=workload.program, images=workload.images) for workload in workloads]
    singles = [
        Job(program=workload.program, images=workload.images[:1], path_masks=(mask, mask))
        for workload in workloads
        for mask in (workload.path.mask, 0)
    ]
    device = RtlDevice(case.config, timeout_s=600, quick_build=True)
    for timing, jobs in ((case.timing, [*batches, *singles]), (other, singles)):
        results = device.run_jobs(jobs, memory_timing=timing, max_cycles=20_000_000)
        for workload, result in zip(workloads, results[: -len(singles)], strict=False):
            check_answers(workload, result)
        for job, result in zip(singles, results[-len(singles) :], strict=True):
            check_counters(job, result, timing)
        for workload in workloads:
            check_every_mask(workload, timing)


def test_quick_machines_have_every_feature():
    """All that the slow ones have; and a machine of rows as loops is one of `sim.rtl.row_lanes`."""
    cases = {seed: random_case(seed) for seed in ALL_SEEDS}
    missing = set().union(*map(features, cases.values())) - set().union(*(features(cases[seed]) for seed in QUICK_SEEDS))
    assert not missing
    assert all(("rows as loops" in features(case)) == (case.config.rows >= LEAST_LANES) for case in cases.values())


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_random_machine(seed):
    check_machine(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", sorted({*ALL_SEEDS} - {*QUICK_SEEDS}))
def test_more_random_machines(seed):
    check_machine(seed)

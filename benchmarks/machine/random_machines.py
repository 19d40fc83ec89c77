"""Random machines with random networks: RTL against golden machine and cycle model.

    python -m benchmarks.machine.random_machines [--seeds 200]

Each seed draws a configuration (rows and columns 1 to 9, depth 1 to 16 or 64, few or many exp units, odd buffer sizes) and three
small ViTs that just fit it, each in a random loop order, with a random skip mask and a random memory. It runs three images of each
with all attentions and one with the mask, and compares logits, exits and entropies with the golden machine and all counters of an
image, with all attentions and with the mask, with the cycle model. The result goes to random_machines.json after every machine; a
run that was interrupted goes on with the seeds that are missing there, or that draw another machine now.
"""

import random
import sys
from collections import Counter

from rich.progress import track

from benchmarks.processes import pool
from benchmarks.result import Benchmark
from benchmarks.sources import ENERGY, GOLDEN, RTL, WORKLOAD
from hw.config import AcceleratorConfig
from hw.device import mismatches
from hw.errors import command
from hw.golden import GoldenDevice
from sim.cycle_model import predict
from sim.measurement import signal_to_noise_db
from sim.rtl.device import Job, RtlDevice
from sim.stimulus.random_machines import ALL_SEEDS, random_case
from sim.stimulus.workload import prepare
from sw.networks.options import NetworkOptions

SOURCES = (
    *GOLDEN, *RTL, *ENERGY, *WORKLOAD, "benchmarks/processes.py", "sim/engines.py", "sim/measurement.py",
    "sim/stimulus/random_machines.py",
)  # fmt: skip
BENCHMARK = Benchmark("machine.random_machines", SOURCES)
IMAGES = 3


def measure(seed: int) -> dict:
    """What a seed's machine did with its networks."""
    case = random_case(seed)
    config, timing = case.config, case.timing
    workloads = [prepare(NetworkOptions(name, seed=seed), config, images=IMAGES, loop_order=order) for name, order in case.networks]
    jobs = [Job(program=workload.program, images=workload.images) for workload in workloads]
    jobs += [Job(program=workload.program, images=workload.images[:1]) for workload in workloads]
    rng = random.Random(f"masks {seed}")
    masks = [rng.randrange(1 << workload.path.depth) for workload in workloads]
    jobs += [
        Job(program=workload.program, images=workload.images[:1], path_masks=(mask, mask))
        for workload, mask in zip(workloads, masks, strict=True)
    ]
    results = RtlDevice(config, timeout_s=600, quick_build=True).run_jobs(jobs, memory_timing=timing, max_cycles=20_000_000)
    entries = []
    count = len(workloads)
    batches, singles, masked = results[:count], results[count : 2 * count], results[2 * count :]
    for workload, (_, order), mask, batch, single, skipping in zip(
        workloads, case.networks, masks, batches, singles, masked, strict=True
    ):
        device = GoldenDevice()
        wrong = mismatches(device.run(workload.program, workload.images), batch)
        wrong += mismatches(device.run(workload.program, workload.images[:1], path_masks=(mask, mask)), skipping)
        quality = signal_to_noise_db(workload, batch)
        entries.append(
            {
                "network": workload.model,
                "loop_order": order,
                "mask": mask,
                "mismatches": wrong,
                "logits_sqnr_db": None if quality is None else round(quality, 2),
                "cycles": single.counters["cycles"],
                "cycles_with_mask": skipping.counters["cycles"],
                "cycle_model_equal": predict(workload.program, timing).counters == dict(single.counters)
                and predict(workload.program, timing, path_masks=(mask, mask)).counters == dict(skipping.counters),
            }
        )
    return {"seed": seed, "config": vars(config), "memory": vars(timing), "networks": entries}


def _store(machines: list[dict]) -> None:
    """Write the result so far."""
    networks = [network for entry in machines for network in entry["networks"]]
    summary = {
        "machines_run": len(machines),
        "networks_run": len(networks),
        "machines_with_limited_exp_units": sum(entry["config"]["exp_units"] > 0 for entry in machines),
        "machines_deeper_than_a_chain": sum(entry["config"]["pe_depth"] > 8 for entry in machines),
        "loop_orders": dict(Counter(network["loop_order"] for network in networks)),
        "images_with_mismatches": sum(network["mismatches"] for network in networks),
        "networks_with_unequal_counters": sum(not network["cycle_model_equal"] for network in networks),
        "least_logits_sqnr_db": min(network["logits_sqnr_db"] for network in networks if network["logits_sqnr_db"] is not None),
    }
    BENCHMARK.save(summary | {"machines": machines})


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 1 if anything differed."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=len(ALL_SEEDS), metavar="N", help="machines (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="machines at a time (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="forget the results that are there")
    options = BENCHMARK.begin(parser, arguments)
    known = [] if options.again else BENCHMARK.last().get("machines", [])
    current = (entry for entry in known if AcceleratorConfig(**entry["config"]) == random_case(entry["seed"]).config)
    machines = {entry["seed"]: entry for entry in current}
    missing = [seed for seed in range(options.seeds) if seed not in machines]
    with pool(options.workers) as processes:
        for entry in track(processes.map(measure, missing), total=len(missing), description="machines"):
            machines[entry["seed"]] = entry
            _store([machines[seed] for seed in sorted(machines)])
    result = BENCHMARK.load()
    print({name: value for name, value in result.items() if name != "machines"})
    return int(result["images_with_mismatches"] + result["networks_with_unequal_counters"] > 0)


if __name__ == "__main__":
    sys.exit(main())

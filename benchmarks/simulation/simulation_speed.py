"""Build time and speed of the RTL simulation of two machines, a small one and the flagship.

    python -m benchmarks.simulation.simulation_speed

Each machine runs one image of a made-up ViT, is compared with the golden machine and timed from start to interrupt. The
simulations are built anew, in a cache that is thrown away. The result goes to simulation_speed.json.
"""

import json
import os
import sys
import tempfile

from benchmarks.result import Benchmark
from benchmarks.sources import GOLDEN, RTL, WORKLOAD
from hw.errors import command

BENCHMARK = Benchmark("simulation.simulation_speed", (*GOLDEN, *RTL, *WORKLOAD))
WORKLOADS = {
    "nano": "vit:dim=96,depth=12,heads=3,tokens=17,classes=10",
    "zcu102": "vit:dim=384,depth=2,heads=6,tokens=197,classes=100",
}
"""One network for each preset: the shape of the shipped one, and two encoders of DeiT-S."""


def measure(preset: str, model: str) -> dict[str, int | float | str]:
    """Build and run one machine."""
    from hw.device import mismatches
    from hw.golden import GoldenDevice
    from hw.presets import find_preset
    from sim.program_counts import count_program
    from sim.rtl.device import RtlDevice, build_simulation
    from sim.stimulus.workload import prepare

    config = find_preset(preset)
    workload = prepare(model, config, images=1)
    _, build_s = build_simulation(config)
    result = RtlDevice(config).run(workload.program, workload.images)
    speed = result.sim_cycles_per_s
    cycles = result.counters["cycles"]
    return {
        "preset": preset,
        "model": model,
        "build_wall_s": round(build_s, 1),
        "cycles": cycles,
        "mismatches": mismatches(GoldenDevice().run(workload.program, workload.images), result),
        "cycles_per_s": round(speed),
        "macs_per_s": round(count_program(workload.program).macs * speed / cycles),
    }


@command()
def main(arguments: list[str] | None = None) -> int:
    """Measure and write the result."""
    BENCHMARK.begin(BENCHMARK.parser(__doc__), arguments)
    with tempfile.TemporaryDirectory(prefix="pivot-cache-") as cache:
        os.environ["PIVOT_CACHE"] = cache
        machines = [measure(preset, model) for preset, model in WORKLOADS.items()]
    result = {"cores": os.cpu_count(), "machines": machines}
    BENCHMARK.save(result)
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

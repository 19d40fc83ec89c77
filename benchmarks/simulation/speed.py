"""Speed of the golden machine, the cycle model and the RTL simulation on the default network and the nano preset.

    python -m benchmarks.simulation.speed

All three do the same work in one run: whole images of the shipped ViT. The result goes to speed.json.
"""

import json
import os
import sys
import time

from benchmarks.result import Benchmark
from benchmarks.sources import CYCLES, GOLDEN, RTL, WORKLOAD
from hw.device import mismatches
from hw.errors import command
from hw.golden import GoldenDevice
from hw.presets import find_preset
from sim.cycle_model import predict
from sim.rtl.device import RtlDevice, build_simulation
from sim.stimulus.workload import prepare

BENCHMARK = Benchmark("simulation.speed", (*GOLDEN, *RTL, *CYCLES, *WORKLOAD))
GOLDEN_IMAGES, RTL_IMAGES, PREDICTIONS = 1000, 16, 5


@command()
def main(arguments: list[str] | None = None) -> int:
    """Measure and write the result."""
    BENCHMARK.begin(BENCHMARK.parser(__doc__), arguments)
    config = find_preset("nano")
    workload = prepare("fmnist_vit_tiny", config, images=GOLDEN_IMAGES, data="embedded")
    golden = GoldenDevice(config)
    golden.run(workload.program, workload.images[:64])
    answers = golden.run(workload.program, workload.images)
    _, build_s = build_simulation(config)
    rtl = RtlDevice(config).run(workload.program, workload.images[:RTL_IMAGES])
    started = time.perf_counter()
    for _ in range(PREDICTIONS):
        prediction = predict(workload.program)
    predict_s = (time.perf_counter() - started) / PREDICTIONS
    result = {
        "cores": os.cpu_count(),
        "model": workload.model,
        "preset": "nano",
        "golden_images_per_s": round(GOLDEN_IMAGES / answers.wall_s, 1),
        "rtl_images": RTL_IMAGES,
        "rtl_mismatches": mismatches(golden.run(workload.program, workload.images[:RTL_IMAGES]), rtl),
        "rtl_cycles_per_s": round(rtl.sim_cycles_per_s),
        "rtl_images_per_s": round(RTL_IMAGES / rtl.wall_s, 3),
        "rtl_build_wall_s": round(build_s, 1),
        "cycle_model_images_per_s": round(1 / predict_s, 1),
        "cycle_model_cycles_per_s": round(prediction.cycles / predict_s),
    }
    BENCHMARK.save(result)
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The cycle model's speed: one walk of DeiT-S, every skip mask of a 16-encoder ViT with its energy, sampled masks against walks.

    python -m benchmarks.simulation.cycle_model [--sampled 200]

The RTL's speed and the equality of all counters on these networks are in flagship.json; random_machines.json compares the two on
random machines.
"""

import json
import random
import sys
import time

import numpy as np

from benchmarks.result import Benchmark
from benchmarks.sources import ENERGY, WORKLOAD
from hw.errors import command
from hw.isa import COUNTERS
from hw.presets import find_preset
from hw.program import Program
from sim.cycle_model import predict, predict_every_mask
from sim.energy.estimate import energy_matrix
from sim.stimulus.workload import prepare_shape

BENCHMARK = Benchmark("simulation.cycle_model", (*ENERGY, *WORKLOAD))
PRESET = "zcu102"
NETWORKS = {
    "DeiT-S": "deit_small_patch16_224",
    "LV-ViT-S encoders": "vit:dim=384,depth=16,heads=6,tokens=197,classes=1000,mlp_ratio=3,patch=16,channels=3",
}
WALKS = 10


def _walk_s(program: Program) -> list[float]:
    """Seconds of each walk."""
    seconds = []
    for _ in range(WALKS):
        started = time.perf_counter()
        predict(program)
        seconds.append(time.perf_counter() - started)
    return seconds


def measure(model: str, sampled: int) -> dict:
    """Speed on one network, and masks that differ from their walks."""
    program = prepare_shape(model, find_preset(PRESET)).program
    cycles = predict(program).cycles
    walks = _walk_s(program)
    started = time.perf_counter()
    counters = predict_every_mask(program)
    masks_s = time.perf_counter() - started
    started = time.perf_counter()
    energy = (counters @ energy_matrix(program.config)).sum(axis=1)
    energy_s = time.perf_counter() - started
    masks = random.Random(0).sample(range(len(counters)), sampled)
    walked = np.array([list(predict(program, path_masks=(mask, mask)).counters.values()) for mask in masks])
    every = counters[:, [name for name, _ in COUNTERS].index("cycles")]
    return {
        "model": model,
        "cycles": cycles,
        "walk_ms_median": round(1e3 * sorted(walks)[WALKS // 2], 1),
        "walk_ms_most": round(1e3 * max(walks), 1),
        "cycles_per_s": round(cycles / sorted(walks)[WALKS // 2]),
        "masks": len(counters),
        "every_mask_s": round(masks_s, 3),
        "every_mask_energy_s": round(energy_s, 3),
        "masks_per_s": round(len(counters) / (masks_s + energy_s)),
        "cycles_all_kept": int(every[-1]),
        "cycles_all_skipped": int(every[0]),
        "energy_mj_all_kept": round(float(energy[-1]), 3),
        "energy_mj_all_skipped": round(float(energy[0]), 3),
        "sampled_masks": sampled,
        "sampled_masks_that_differ": int(np.count_nonzero(np.any(walked != counters[masks], axis=1))),
    }


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a sampled mask differs."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--sampled", type=int, default=200, metavar="N", help="masks compared with walks (default: %(default)s)")
    options = BENCHMARK.begin(parser, arguments)
    networks = {name: measure(model, options.sampled) for name, model in NETWORKS.items()}
    result = {"preset": PRESET, "networks": networks}
    BENCHMARK.save(result)
    print(json.dumps(result, indent=1))
    return int(any(entry["sampled_masks_that_differ"] for entry in networks.values()))


if __name__ == "__main__":
    sys.exit(main())

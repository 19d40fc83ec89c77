"""DeiT-S on the flagship in RTL: whole, with skipped attentions, and recompiled; LV-ViT-S-shaped encoders beside it.

    python -m benchmarks.machine.flagship

Every run is compared with the golden machine (all logits) and with the cycle model (every counter). For three random masks the
Program with the path mask register, and one recompiled from the same integer network, give the same logits; what they save is what
the skipped attentions' descriptors say. Weights are random. The result goes to flagship.json; builds are kept in the cache.
"""

import random
import sys

import numpy as np
from rich.progress import Progress

from benchmarks.result import Benchmark
from benchmarks.sources import CYCLES, GOLDEN, RTL
from hw.device import RunResult, mismatches
from hw.errors import command
from hw.golden import GoldenDevice
from hw.isa import FLAG_ATTENTION, Opcode
from hw.memory_timing import MemoryTiming
from hw.presets import find_preset
from hw.program import Program
from sim.cycle_model import predict
from sim.program_counts import count_program
from sim.rtl.device import Job, RtlDevice, build_simulation

BENCHMARK = Benchmark("machine.flagship", (*GOLDEN, *RTL, *CYCLES))
PRESET = "zcu102"
DEIT_S = "deit_small_patch16_224"
LV_VIT_S = "vit:dim=384,depth=16,heads=6,tokens=197,classes=1000,mlp_ratio=3,patch=16,channels=3"
MASKS = 3


def _quantized(name: str):
    """(integer network, one image int8 [1, height, width, channels])."""
    import torch

    from sw.data.pixels import to_input, to_pixels
    from sw.networks.network import build_network, parse_network
    from sw.quantization.quantize import quantize

    spec = parse_network(name)
    pixels = np.random.default_rng(0).integers(0, 256, (33, *spec.image_size, spec.channels), dtype=np.uint8)
    with torch.no_grad():
        network = quantize(build_network(name, "random", 0), to_input(pixels[:32]))
    return network, to_pixels(pixels[32:])


def _entry(program: Program, images: np.ndarray, result: RunResult, masks: tuple[int, int]) -> dict:
    """What a run of one image showed."""
    config, counters = program.config, dict(result.counters)
    counts = count_program(program, masks)
    golden = GoldenDevice().run(program, images, path_masks=masks)
    return {
        "kept_mask": masks[0],
        "mismatches": mismatches(golden, result),
        "cycle_model_equal": predict(program, MemoryTiming(), path_masks=masks).counters == counters,
        "cycles": counters["cycles"],
        "macs": counts.macs,
        "utilization": round(counts.macs / (counters["cycles"] * config.macs_per_cycle), 4),
        "sim_wall_s": round(result.wall_s, 1),
        "sim_macs_per_s": round(counts.macs / result.wall_s),
        "counters": counters,
    }


def _skip(network, program: Program, images: np.ndarray, seed: int, device: RtlDevice, whole: dict) -> dict:
    """One random mask, by the register and recompiled."""
    from sw.compiler.programs import compile_network
    from sw.graph.path import Path

    rng = random.Random(seed)
    path = Path.keeping([index for index in range(network.depth) if rng.random() < 0.6], network.depth)
    mask = path.mask
    recompiled = compile_network(network, program.config, path=path, mask_register=False)
    by_register, own = device.run_jobs(
        [Job(program=program, images=images, path_masks=(mask, mask)), Job(program=recompiled, images=images)]
    )
    entry, other = _entry(program, images, by_register, (mask, mask)), _entry(recompiled, images, own, (mask, mask))
    attentions = [d for d in program.descriptors() if d.opcode == Opcode.GEMM and d.flags & FLAG_ATTENTION]
    skipped = [d for d in attentions if not path.keeps(d.encoder)]
    words = sum(d.row_tiles * d.column_tiles * d.k_words for d in skipped)
    return {
        "kept": list(path.kept),
        "array_cycles_saved": whole["counters"]["array_cycles"] - entry["counters"]["array_cycles"],
        "array_cycles_of_the_skipped": words,
        "weight_bytes_saved": whole["counters"]["weight_bytes"] - entry["counters"]["weight_bytes"],
        "logits_equal": bool(np.array_equal(by_register.logits, own.logits)),
        "cycles_by_register": entry["cycles"],
        "cycles_recompiled": other["cycles"],
        "descriptors_dropped": entry["counters"]["descriptors_skipped"],
        "mismatches": entry["mismatches"] + other["mismatches"],
        "cycle_model_equal": entry["cycle_model_equal"] and other["cycle_model_equal"],
    }


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run everything and write the result."""
    BENCHMARK.begin(BENCHMARK.parser(__doc__), arguments)
    from sw.compiler.programs import compile_network

    config = find_preset(PRESET)
    device = RtlDevice(config)
    with Progress() as progress:
        task = progress.add_task("build", total=3 + MASKS)
        _, build_s = build_simulation(config, capacity_bytes=1 << 26)
        progress.update(task, advance=1, description="DeiT-S")
        network, images = _quantized(DEIT_S)
        program = compile_network(network, config)
        whole = _entry(program, images, device.run(program, images), program.path_masks)
        skips = []
        for seed in range(MASKS):
            progress.update(task, advance=1, description=f"mask {seed + 1}")
            skips.append(_skip(network, program, images, seed, device, whole))
        progress.update(task, advance=1, description="LV-ViT-S shapes")
        network, images = _quantized(LV_VIT_S)
        program = compile_network(network, config)
        other = _entry(program, images, device.run(program, images), program.path_masks)
        progress.update(task, advance=1)
    result = {
        "preset": PRESET,
        "memory": vars(MemoryTiming()),
        "build_wall_s": round(build_s, 1),
        "deit_s": whole,
        "lv_vit_s_shapes": other,
        "skips": skips,
    }
    BENCHMARK.save(result)
    for name, entry in (("DeiT-S", whole), ("LV-ViT-S shapes", other)):
        print(
            f"{name}: {entry['mismatches']} mismatches, {entry['cycles']:,} cycles, utilization {entry['utilization']:.1%}, "
            f"{entry['sim_wall_s']} s, {entry['sim_macs_per_s'] / 1e6:.0f} million MAC/s, model equal: {entry['cycle_model_equal']}"
        )
    for entry in skips:
        print(entry)
    return 0


if __name__ == "__main__":
    sys.exit(main())

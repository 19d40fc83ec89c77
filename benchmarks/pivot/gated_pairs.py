"""LV-ViT-S, its convolution stem included, and DeiT-S at 224x224 as gated pairs on the flagship in RTL, both exits taken.

    python -m benchmarks.pivot.gated_pairs

The low effort is a network of its own that keeps a few attentions; the high effort keeps all. Weights are random, and the threshold
lies between the entropies that the golden machine finds for the images, so that one leaves at the gate and the other goes on.
Each pair runs twice: the high effort starts afresh, and it resumes from the residual stream that the low effort left behind the
encoders that both share. Each image is compared with the golden machine (logits, exit, entropies) and with the cycle
model (every counter). The result goes to gated_pairs.json. About ten minutes on two cores; the simulation is built once and kept
in the cache.
"""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.result import Benchmark
from benchmarks.sources import CYCLES, GOLDEN, RTL
from hw.config import milliseconds
from hw.device import EXIT_END, EXIT_LOW, mismatches
from hw.errors import command
from hw.golden import GoldenDevice
from hw.memory_timing import MemoryTiming
from hw.presets import find_preset
from hw.program import Program
from hw.tables import text_table
from sim.cycle_model import predict
from sim.program_counts import count_program
from sim.rtl.device import Job, RtlDevice

BENCHMARK = Benchmark("pivot.gated_pairs", (*GOLDEN, *RTL, *CYCLES))
PRESET = "zcu102"
NETWORKS = {"LV-ViT-S": "lvvit_s", "DeiT-S": "deit_small_patch16_224"}
LOW_KEPT = (0, 1, 2, 3)
"""Attentions of the low effort: both efforts share the stem and the first four encoders."""
CALIBRATING = 8
"""Random images that scales are chosen on: more change nothing on noise."""
IMAGES = 2


def quantized_pair(model: str) -> tuple[Any, Any, np.ndarray]:
    """(low effort, high effort, images int8 [n, height, width, channels]); both efforts of one draw of weights."""
    from sw.data.pixels import to_input, to_pixels
    from sw.graph.path import Path
    from sw.graph.path_vit import PathVit
    from sw.networks.network import build_network, parse_network
    from sw.quantization.quantize import quantize_jointly

    spec = parse_network(model)
    shape = (CALIBRATING + IMAGES, *spec.image_size, spec.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    network = build_network(model, "random", 0)
    low_path = Path.keeping(LOW_KEPT, spec.depth)
    low, high = quantize_jointly((PathVit(network, low_path), PathVit(network)), to_input(pixels[:CALIBRATING]))
    return low, high, to_pixels(pixels[CALIBRATING:])


def run(program: Program, images: np.ndarray, device: RtlDevice) -> dict[str, Any]:
    """A pair's Program in RTL, on an image that goes on and one that leaves at the gate, in this order on one simulated machine."""
    golden = GoldenDevice().run(program, images)
    places = {name: int(np.flatnonzero(golden.exits == side)[0]) for name, side in (("high", EXIT_END), ("low", EXIT_LOW))}
    parts = {name: images[place : place + 1] for name, place in places.items()}
    results = dict(zip(parts, device.run_jobs([Job(program=program, images=part) for part in parts.values()]), strict=True))
    counters = {name: dict(result.counters) for name, result in results.items()}
    models = {name: predict(program, exits_low=name == "low").counters for name in parts}
    wall_s = sum(result.wall_s for result in results.values())
    return {
        "program_bytes": len(program.memory),
        "exits": {name: int(result.exits[0]) for name, result in results.items()},
        "mismatches": sum(mismatches(GoldenDevice().run(program, parts[name]), result) for name, result in results.items()),
        "cycle_model_equal": {name: counters[name] == models[name] for name in parts},
        "cycles": {name: values["cycles"] for name, values in counters.items()},
        "macs": {name: count_program(program, exit_low=name == "low").macs for name in parts},
        "sim_wall_s": round(wall_s, 1),
        "sim_cycles_per_s": round(sum(values["cycles"] for values in counters.values()) / wall_s),
        "build_wall_s": round(results["low"].build_wall_s, 1),
        "counters": counters,
        "_answers": {name: (result.logits.tolist(), result.gate_entropy.tolist()) for name, result in results.items()},
    }


def whole(network: Any, program: Program) -> dict[str, Any]:
    """The high effort alone, by the cycle model: its delay, and what the stem and the attentions are of it."""
    counters = predict(program).counters
    cycles, macs = counters["cycles"], count_program(program).macs
    stem = counters["operation_embedding"]
    return {
        "cycles": cycles,
        "macs": macs,
        "utilization": round(macs / (cycles * program.config.macs_per_cycle), 4),
        "stem_convolutions": len(network.stem),
        "stem_and_embedding_cycles": stem,
        "stem_and_embedding_share": round(stem / cycles, 4),
        "redundant_stem_macs": program.redundant_macs,
        "attention_share": round(1 - predict(program, path_masks=(0, 0)).cycles / cycles, 4),
    }


def measure(model: str, device: RtlDevice, step: Any) -> dict[str, Any]:
    """A network as a gated pair, afresh and resumed.

    Args:
        model: Its name.
        device: The machine.
        step: Called with what comes next.
    """
    from sw.compiler.programs import compile_network, compile_pair

    low, high, images = quantized_pair(model)
    fresh = compile_pair(low, high, device.config, 0, resume=False)
    entropies = np.sort(GoldenDevice().run(fresh, images).gate_entropy)
    threshold = int(entropies[:2].sum()) // 2
    fresh = replace(fresh, threshold=threshold)
    step("afresh")
    entry = {
        "model": model,
        "low_kept": list(low.path.kept),
        "high_kept": list(high.path.kept),
        "gate_entropies": entropies.tolist(),
        "threshold": threshold,
        "whole": whole(high, compile_network(high, device.config)),
        "afresh": run(fresh, images, device),
    }
    step("resumed")
    resumed = compile_pair(low, high, device.config, threshold, resume=True)
    entry["resumed"] = {"shared_encoders": resumed.shared_encoders} | run(resumed, images, device)
    afresh, again = (entry[name].pop("_answers") for name in ("afresh", "resumed"))
    entry["resumed_answers_equal"] = afresh == again
    cycles = [entry[name]["cycles"]["high"] for name in ("afresh", "resumed")]
    entry["cycles_saved_by_resuming"] = cycles[0] - cycles[1]
    return entry


def passed(entry: dict[str, Any]) -> bool:
    """Whether bits, exits and cycles are what they should be, and resuming saves cycles."""
    exact = all(
        part["mismatches"] == 0 and all(part["cycle_model_equal"].values()) and part["exits"] == {"high": EXIT_END, "low": EXIT_LOW}
        for part in (entry["afresh"], entry["resumed"])
    )
    return exact and entry["resumed_answers_equal"] and entry["cycles_saved_by_resuming"] > 0


def print_table(entries: dict[str, Any], clock_mhz: int) -> None:
    """The pairs side by side."""
    table = text_table(
        "", "leaves low", "goes on", "ms", "mismatches", "counters equal",
        title=f"Gated pairs on {PRESET} in RTL (simulated cycles, {clock_mhz} MHz assumed)",
    )  # fmt: skip

    for name, entry in entries.items():
        base = entry["whole"]
        table.add_row(f"{name} alone", "", f"{base['cycles']:,}", f"{milliseconds(base['cycles'], clock_mhz):.2f}")
        for field in ("stem_and_embedding_share", "attention_share"):
            table.add_row(f"  {field.replace('_', ' ')}", "", f"{base[field]:.1%}")
        for part in ("afresh", "resumed"):
            low, both = (entry[part]["cycles"][exit_] for exit_ in ("low", "high"))
            equal = "yes" if all(entry[part]["cycle_model_equal"].values()) else "no"
            delays = " / ".join(f"{milliseconds(cycles, clock_mhz):.2f}" for cycles in (low, both))
            table.add_row(f"  pair, high effort {part}", f"{low:,}", f"{both:,}", delays, f"{entry[part]['mismatches']}", equal)
    Console(width=110).print(table)


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run everything and write the result; returns 1 where something is not exact."""
    BENCHMARK.begin(BENCHMARK.parser(__doc__), arguments)
    config = find_preset(PRESET)
    device = RtlDevice(config)
    entries = {}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=3 * len(NETWORKS))
        for name, model in NETWORKS.items():

            def step(what: str, name: str = name) -> None:
                progress.update(task, advance=1, description=f"{name}: {what}")

            progress.update(task, description=name)
            entries[name] = measure(model, device, step)
            progress.update(task, advance=1)
    BENCHMARK.save({"preset": PRESET, "memory": vars(MemoryTiming()), "networks": entries})
    print_table(entries, config.clock_mhz)
    return int(not all(map(passed, entries.values())))


if __name__ == "__main__":
    sys.exit(main())

"""LV-ViT-S, its convolution stem included, and DeiT-S at 224x224 as gated pairs on the flagship in RTL, both exits taken.

    python benchmarks/gated_pairs.py

The low effort is a network of its own that keeps a few attentions; the high effort keeps all. Weights are random, and the threshold
lies between the entropies that the golden machine finds for the images, so that one leaves at the gate and the other goes on.
Each pair runs twice: the high effort starts afresh, and it resumes from the residual stream that the low effort left behind the
encoders that both share. Every run: a batch with both exits against the golden machine (logits, exits, entropies), and an
image of each exit alone against the cycle model (every counter). The result goes to gated_pairs.json. About fifteen minutes on two
cores; the simulation is built once and kept in the cache.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from hw.device import EXIT_END, EXIT_LOW, mismatches
from hw.golden import GoldenMachine
from hw.presets import find_preset
from hw.program import Program
from sim.cycle_model import predict
from sim.memory_timing import MemoryTiming
from sim.program_counts import count_program
from sim.rtl_device import Job, RtlDevice
from sw.checkpoint import save_json

RESULT = Path(__file__).with_suffix(".json")
PRESET = "zcu102"
NETWORKS = {"LV-ViT-S": "lvvit_s", "DeiT-S": "deit_small_patch16_224"}
LOW_KEPT = (0, 1, 2, 3)
"""Attentions of the low effort: both efforts share the stem and the first four encoders."""
CALIBRATING = 8
"""Random images that scales are chosen on: more change nothing on noise."""
IMAGES = 2


def quantized_pair(model: str) -> tuple[Any, Any, np.ndarray]:
    """(low effort, high effort, images int8 [n, height, width, channels]); both efforts of one draw of weights."""
    from sw.data import to_input, to_pixels
    from sw.network import build_network, parse_network
    from sw.quantization import quantize_pair
    from sw.skipping import PathVit

    spec = parse_network(model)
    shape = (CALIBRATING + IMAGES, *spec.image_size, spec.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    network = build_network(model, "random", 0)
    low, high = quantize_pair(PathVit(network, LOW_KEPT), PathVit(network), to_input(pixels[:CALIBRATING]))
    return low, high, to_pixels(pixels[CALIBRATING:])


def run(program: Program, images: np.ndarray, device: RtlDevice) -> dict[str, Any]:
    """A pair's Program in RTL; the first image leaves at the gate and the last goes on."""
    golden = GoldenMachine(program).run(images)
    first, last = (int(np.flatnonzero(golden.exits == side)[0]) for side in (EXIT_LOW, EXIT_END))
    jobs = [Job(program=program, images=part) for part in (images, images[first : first + 1], images[last : last + 1])]
    batch, *single = device.run_jobs(jobs)
    counters = {name: dict(result.counters) for name, result in zip(("low", "high"), single, strict=True)}
    models = {"low": predict(program, exits_low=True).counters, "high": predict(program).counters}
    sim_wall_s = sum(result.wall_s for result in (batch, *single))
    simulated = sum(result.counters["cycles"] for result in (batch, *single))
    return {
        "program_bytes": len(program.memory),
        "exits": batch.exits.tolist(),
        "mismatches": mismatches(golden, batch),
        "cycle_model_equal": {name: counters[name] == models[name] for name in counters},
        "cycles": {name: values["cycles"] for name, values in counters.items()},
        "macs": {name: count_program(program, exit_low=name == "low").macs for name in counters},
        "sim_wall_s": round(sim_wall_s, 1),
        "sim_cycles_per_s": round(simulated / sim_wall_s),
        "build_wall_s": round(batch.build_wall_s, 1),
        "counters": counters,
        "_logits": batch.logits,
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
    from sw.compiler import compile_network, compile_pair

    low, high, images = quantized_pair(model)
    fresh = compile_pair(low, high, device.config, 0, resume=False)
    entropies = np.sort(GoldenMachine(fresh).run(images).gate_entropy)
    threshold = int(entropies[:2].sum()) // 2
    fresh = replace(fresh, threshold=threshold)
    step("afresh")
    entry = {
        "model": model,
        "low_kept": sorted(low.kept),
        "high_kept": sorted(high.kept),
        "gate_entropies": entropies.tolist(),
        "threshold": threshold,
        "whole": whole(high, compile_network(high, device.config)),
        "afresh": run(fresh, images, device),
    }
    step("resumed")
    resumed = compile_pair(low, high, device.config, threshold, resume=True)
    entry["resumed"] = {"shared_encoders": resumed.shared_encoders} | run(resumed, images, device)
    logits = [entry[name].pop("_logits") for name in ("afresh", "resumed")]
    entry["resumed_logits_equal"] = bool(np.array_equal(*logits)) and entry["afresh"]["exits"] == entry["resumed"]["exits"]
    cycles = [entry[name]["cycles"]["high"] for name in ("afresh", "resumed")]
    entry["cycles_saved_by_resuming"] = cycles[0] - cycles[1]
    return entry


def passed(entry: dict[str, Any]) -> bool:
    """Whether bits, exits and cycles are what they should be, and resuming saves cycles."""
    exact = all(
        part["mismatches"] == 0 and all(part["cycle_model_equal"].values()) and set(part["exits"]) == {EXIT_LOW, EXIT_END}
        for part in (entry["afresh"], entry["resumed"])
    )
    return exact and entry["resumed_logits_equal"] and entry["cycles_saved_by_resuming"] > 0


def print_table(entries: dict[str, Any], clock_mhz: int) -> None:
    """The pairs side by side."""
    table = Table(title=f"Gated pairs on {PRESET} in RTL, {IMAGES} images each (simulated cycles, {clock_mhz} MHz assumed)")
    for column in ("", "exits low", "goes on", "ms", "mismatches", "model equal", "kcycles/s"):
        table.add_column(column, justify="left" if column == "" else "right")
    for name, entry in entries.items():
        base = entry["whole"]
        stem, attention = (f"{base[key]:.1%}" for key in ("stem_and_embedding_share", "attention_share"))
        table.add_row(f"{name} alone: stem {stem}, attention {attention}", "", f"{base['cycles']:,}", f"{base['cycles'] / clock_mhz / 1e3:.2f}")
        for part in ("afresh", "resumed"):
            run_, low, both = entry[part], *entry[part]["cycles"].values()
            equal = "yes" if all(run_["cycle_model_equal"].values()) else "no"
            table.add_row(
                f"  pair, {part}", f"{low:,}", f"{both:,}", f"{low / clock_mhz / 1e3:.2f} / {both / clock_mhz / 1e3:.2f}",
                f"{run_['mismatches']}", equal, f"{run_['sim_cycles_per_s'] / 1e3:.0f}",
            )  # fmt: skip
    Console().print(table)


def main() -> int:
    """Run everything and write the result; returns 1 where something is not exact."""
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
    save_json(
        RESULT,
        {"command": "python benchmarks/gated_pairs.py", "preset": PRESET, "memory": vars(MemoryTiming()), "networks": entries},
    )
    print_table(entries, config.clock_mhz)
    return int(not all(map(passed, entries.values())))


if __name__ == "__main__":
    sys.exit(main())

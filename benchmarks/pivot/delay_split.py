"""Where the delay of DeiT-S and LV-ViT-S goes: on PIVOT's published machine and on the flagship, as table, JSON and pictures.

    python -m benchmarks.pivot.delay_split [--rtl]

Both machines come from the same generator; `pivot` has 36 PEs of 64 multipliers and one exp unit, `zcu102` the exps on the way into
P·V. Cycles are the cycle model's; --rtl runs DeiT-S on `pivot` in RTL, too, and compares all counters and all logits. The
roofline shows each operation's MACs per cycle over its MACs per byte from memory, under the array's peak and the memory's
bandwidth; the head may lie above it, because its weights come while the MLP before it runs.
"""

import sys
from typing import Any

import matplotlib

from benchmarks.picture import save_picture
from benchmarks.result import Benchmark
from benchmarks.sources import CYCLES, GOLDEN, RTL, WORKLOAD
from hw.errors import command
from hw.tables import text_table

matplotlib.use("svg")
from matplotlib import pyplot
from rich.console import Console

from hw.config import milliseconds
from hw.device import mismatches
from hw.golden import GoldenDevice
from hw.memory_timing import MemoryTiming
from hw.presets import find_preset
from sim.cycle_model import predict
from sim.program_counts import count_operations, count_program
from sim.rtl.device import RtlDevice
from sim.stimulus.workload import Workload, prepare
from sw.networks.options import NetworkOptions

BENCHMARK = Benchmark("pivot.delay_split", (*GOLDEN, *RTL, *CYCLES, *WORKLOAD))
MACHINES = ("pivot", "zcu102")
NETWORKS = {
    "DeiT-S": "deit_small_patch16_224",
    "LV-ViT-S encoders": "vit:dim=384,depth=16,heads=6,tokens=197,classes=1000,mlp_ratio=3,patch=16,channels=3",
    "LV-ViT-S": "lvvit_s",
}
PARTS = {
    "QKV": ("qkv",), "QKᵀ": ("scores",), "softmax": ("softmax",), "S·V": ("context",), "projection": ("projection",),
    "MLP": ("mlp",), "other": ("other", "embedding", "norm", "head", "gate"),
}  # fmt: skip
"""The parts of the paper's Figure 1b, and what of the machine's operations each is."""
ATTENTION = ("qkv", "scores", "softmax", "context", "projection")


def measure(workload: Workload, preset: str) -> dict[str, Any]:
    """Split of one network on one machine."""
    config, program = find_preset(preset), workload.program
    counters = predict(program).counters
    none = predict(program, path_masks=(0, 0)).cycles
    cycles, counts = counters["cycles"], count_operations(program)
    macs = {name: part.macs for name, part in counts.items()}
    busy = {name: counters[f"operation_{name}"] for name in counts}
    moved = {name: part.bytes for name, part in counts.items()}
    encoders = sum(macs[name] for name in (*ATTENTION, "mlp"))
    return {
        "cycles": cycles,
        "delay_ms": round(milliseconds(cycles, config.clock_mhz), 4),
        "clock_mhz": config.clock_mhz,
        "macs": count_program(program).macs,
        "macs_per_cycle": config.macs_per_cycle,
        "utilization": round(count_program(program).macs / (cycles * config.macs_per_cycle), 4),
        "attention_share": round(1 - none / cycles, 4),
        "attention_share_of_encoder_macs": round(sum(macs[name] for name in ATTENTION) / encoders, 4),
        "split": {part: round(sum(busy[name] for name in names) / cycles, 4) for part, names in PARTS.items()},
        "operations": {
            name: {
                "cycles": busy[name],
                "macs": macs[name],
                "bytes": moved[name],
                "macs_per_cycle": round(macs[name] / busy[name], 1) if busy[name] else None,
                "macs_per_byte": round(macs[name] / moved[name], 2) if moved[name] else None,
            }
            for name in busy
            if busy[name]
        },
    }


def run_rtl(workload: Workload, preset: str) -> dict[str, Any]:
    """The network in RTL against golden machine and cycle model."""
    result = RtlDevice(find_preset(preset)).run(workload.program, workload.images)
    return {
        "preset": preset,
        "model": workload.model,
        "cycles": result.counters["cycles"],
        "mismatches": mismatches(GoldenDevice().run(workload.program, workload.images), result),
        "cycle_model_equal": predict(workload.program).counters == dict(result.counters),
        "sim_wall_s": round(result.wall_s, 1),
        "build_wall_s": round(result.build_wall_s, 1),
    }


def draw_split(entries: list[dict[str, Any]]) -> None:
    """A bar for each network and machine, cut into `PARTS`."""
    figure, axes = pyplot.subplots(figsize=(9, 3.2), layout="constrained")
    labels = [f"{entry['network']}\n{entry['preset']}, {entry['delay_ms']:.2f} ms" for entry in entries]
    start = [0.0] * len(entries)
    for part in PARTS:
        shares = [100 * entry["split"][part] for entry in entries]
        axes.barh(labels, shares, left=start, label=part, height=0.7)
        for row, share in enumerate(shares):
            if share >= 4:
                axes.text(start[row] + share / 2, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color="white")
        start = [before + share for before, share in zip(start, shares, strict=True)]
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="share of the delay (%), simulated cycles")
    axes.legend(ncols=len(PARTS), loc="lower center", bbox_to_anchor=(0.4, 1.0), frameon=False, fontsize=8)
    save_picture(figure, "delay_split", "delay split")


def draw_roofline(entries: list[dict[str, Any]]) -> None:
    """An operation is a point; operations that move nothing but descriptors are far to the right."""
    figure, panes = pyplot.subplots(1, len(MACHINES), figsize=(9, 3.6), layout="constrained", sharey=True)
    bandwidth = MemoryTiming().bytes_per_cycle
    for pane, preset in zip(panes, MACHINES, strict=True):
        entry = next(entry for entry in entries if entry["preset"] == preset)
        peak = entry["macs_per_cycle"]
        points = {
            name: (part["macs_per_byte"], part["macs_per_cycle"]) for name, part in entry["operations"].items() if part["macs"]
        }
        right = 2 * max(intensity for intensity, _ in points.values())
        pane.plot([0.5, peak / bandwidth, right], [0.5 * bandwidth, peak, peak], color="black", linewidth=1)
        for marker, (name, (intensity, speed)) in zip("osD^v<>", points.items(), strict=True):
            pane.plot(intensity, speed, marker, markersize=5, label=name, alpha=0.8)
        pane.legend(loc="lower right", frameon=False, fontsize=8)
        pane.set(xscale="log", yscale="log", xlabel="MACs per byte from memory", title=f"{preset}: {entry['network']}")
    panes[0].set_ylabel("MACs per cycle")
    save_picture(figure, "roofline", "delay split")


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 1 if RTL and model differ."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--rtl", action="store_true", help="run DeiT-S on pivot in RTL, too (minutes)")
    options = BENCHMARK.begin(parser, arguments)
    entries, rtl = [], None
    for network, model in NETWORKS.items():
        for preset in MACHINES:
            workload = prepare(NetworkOptions(model, "random"), find_preset(preset), images=1)
            entries.append({"network": network, "model": model, "preset": preset} | measure(workload, preset))
            if options.rtl and (network, preset) == ("DeiT-S", "pivot"):
                rtl = run_rtl(workload, preset)
    BENCHMARK.save({"memory": vars(MemoryTiming()), "entries": entries, "rtl": rtl})
    draw_split(entries)
    draw_roofline(entries)
    columns = (f"{entry['network'].replace(' encoders', ', no stem')}\n{entry['preset']}" for entry in entries)
    table = text_table("quantity", *columns, title="Simulated cycles of one image, shares in %")
    rows = [("cycles", "cycles", "{:,}"), ("delay (ms)", "delay_ms", "{:.2f}")]
    for title, field, text in rows:
        table.add_row(title, *(text.format(entry[field]) for entry in entries))
    for part in PARTS:
        table.add_row(part, *(f"{100 * entry['split'][part]:.1f}" for entry in entries))
    for title, field in (("attention", "attention_share"), ("attention's MACs", "attention_share_of_encoder_macs")):
        table.add_row(title, *(f"{100 * entry[field]:.1f}" for entry in entries))
    Console().print(table)
    if not rtl:
        return 0
    print(f"RTL of DeiT-S on {rtl['preset']}: {rtl['cycles']:,} cycles, {rtl['mismatches']} mismatches")
    return int(rtl["mismatches"] > 0 or not rtl["cycle_model_equal"])


if __name__ == "__main__":
    sys.exit(main())

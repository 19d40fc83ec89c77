"""Published networks on the flagship, beside published accelerators on the same board.

    python -m benchmarks.machine.networks

Cycles come from the cycle model, which equals the RTL cycle for cycle; the DeiT-S row is run in RTL by sim.measure. Weights are
random: cycles do not depend on them. The result goes to networks.json.
"""

import sys

from rich.console import Console
from rich.progress import track

from benchmarks.result import Benchmark
from benchmarks.sources import CYCLES, SYNTHESIS, WORKLOAD
from hw.build.resources import composed
from hw.build.synthesis import machine_parts, synthesize_parts
from hw.config import milliseconds
from hw.errors import command
from hw.memory_timing import MemoryTiming
from hw.presets import find_preset
from hw.tables import text_table
from sim.cycle_model import predict
from sim.program_counts import count_program
from sim.stimulus.workload import prepare_shape

BENCHMARK = Benchmark("machine.networks", (*CYCLES, *SYNTHESIS, *WORKLOAD))
CLOCKS_MHZ = (200, 300)
NETWORKS = {
    "DeiT-T": "deit_tiny_patch16_224",
    "DeiT-S": "deit_small_patch16_224",
    "DeiT-B": "deit_base_patch16_224",
    "LV-ViT-S encoders": "vit:dim=384,depth=16,heads=6,tokens=197,classes=1000,mlp_ratio=3,patch=16,channels=3",
}
"""LV-ViT-S's encoders behind a plain patch embedding; its convolution stem (1.35 GMAC) is not part of this row."""

PUBLISHED = (
    ("Huang et al., TCAS-I 2023", "ViT-S, int8, 300 MHz", "11.15 ms"),
    ("Huang et al., TCAS-I 2023", "ViT-T, int8, 300 MHz", "4.08 ms"),
    ("HeatViT, HPCA 2023", "DeiT-S, int8, tokens pruned", "9.15 ms"),
    ("Auto-ViT-Acc, FPL 2022", "DeiT-S, mixed precision", "6.42 ms (155.8 images/s)"),
    ("Auto-ViT-Acc, FPL 2022", "DeiT-B, mixed precision", "17.6 ms (56.8 images/s)"),
)
"""(work, network, latency or reciprocal throughput) on ZCU102, as the papers state them; Auto-ViT-Acc's DeiT-S is unverified."""


def measure(name: str, preset: str, dsp: int) -> dict:
    """One row of the table."""
    config, timing = find_preset(preset), MemoryTiming()
    program = prepare_shape(name, config).program
    everything = program.path_masks[0]
    counters = predict(program, timing).counters
    none = predict(program, timing, path_masks=(0, 0)).cycles
    cycles, macs = counters["cycles"], count_program(program).macs
    return {
        "model": name,
        "encoders": everything.bit_length(),
        "macs": macs,
        "cycles": cycles,
        "utilization": round(macs / (cycles * config.macs_per_cycle), 4),
        "macs_per_dsp_per_cycle": round(macs / (cycles * dsp), 3),
        "attention_share": round(1 - none / cycles, 4),
        **{f"delay_ms_at_{clock}_mhz": round(milliseconds(cycles, clock), 3) for clock in CLOCKS_MHZ},
        "bytes_read": counters["weight_bytes"] + counters["system_bytes_read"],
        "bytes_written": counters["system_bytes_written"],
    }


@command()
def main(arguments: list[str] | None = None) -> int:
    """Measure, write the result and print the tables."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--preset", default="zcu102", help="machine (default: %(default)s)")
    preset = BENCHMARK.begin(parser, arguments).preset
    config = find_preset(preset)
    parts = machine_parts(config)
    dsp = composed(parts, synthesize_parts(parts)).dsp
    rows = {label: measure(name, preset, dsp) for label, name in track(NETWORKS.items(), description="networks")}
    result = {
        "preset": preset,
        "macs_per_cycle": config.macs_per_cycle,
        "dsp": dsp,
        "memory": vars(MemoryTiming()),
        "engine": "cycle model",
        "networks": rows,
        "published_on_zcu102": [dict(zip(("work", "network", "latency"), row, strict=True)) for row in PUBLISHED],
    }
    BENCHMARK.save(result)
    console = Console(width=150)
    table = text_table(
        "network", "GMAC", "cycles", "utilization", "MAC/DSP/cycle", "attention share",
        "ms at 200 MHz", "ms at 300 MHz", "MB moved",
        title=f"{preset}: {config.macs_per_cycle:,} MAC a cycle, {dsp:,} DSPs, batch 1 (simulated cycles, assumed clocks)",
    )  # fmt: skip
    for label, row in rows.items():
        table.add_row(
            label, f"{row['macs'] / 1e9:.2f}", f"{row['cycles']:,}", f"{row['utilization']:.1%}",
            f"{row['macs_per_dsp_per_cycle']:.2f}", f"{row['attention_share']:.1%}", f"{row['delay_ms_at_200_mhz']:.2f}",
            f"{row['delay_ms_at_300_mhz']:.2f}", f"{(row['bytes_read'] + row['bytes_written']) / 1e6:.1f}",
        )  # fmt: skip
    console.print(table)
    published = text_table("published on ZCU102", "network", "latency", words=3)
    for work in PUBLISHED:
        published.add_row(*work)
    console.print(published)
    return 0


if __name__ == "__main__":
    sys.exit(main())

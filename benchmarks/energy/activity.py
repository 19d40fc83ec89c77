"""Energy from events against energy from switching activity (SAIF) in RTL, on small machines.

    python -m benchmarks.energy.activity

Every network runs one image in RTL with activity recording. One factor per class of events is fitted on some of the networks;
the others, and one machine that no fit saw, are then compared: total without the clock (whose energy is the same figure on both
sides), total with it, and each unit. The result goes to energy_activity.json.
"""

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.result import Benchmark
from benchmarks.sources import GOLDEN, RTL, WORKLOAD
from hw.config import AcceleratorConfig
from hw.device import mismatches
from hw.errors import command
from hw.golden import GoldenDevice
from hw.presets import find_preset
from hw.tables import text_table
from sim.energy.activity import CLOCK_PJ, EVENTS, MEMORY_BYTE_PJ, TOGGLE_PJ, activity_energy_mj, fit_scales, scaled_units
from sim.energy.estimate import energy_line, energy_mj
from sim.energy.saif import read_saif
from sim.rtl.device import RtlDevice, accelerator_verilog
from sim.stimulus.workload import prepare

BENCHMARK = Benchmark("energy.activity", (*GOLDEN, *RTL, *WORKLOAD, "sim/energy"), file="energy_activity")
TOLERANCE = 0.15
"""Greatest error of a validated network's total."""
BASE = "nano"
MACHINES = {
    "4x4x4": "",
    "5x6x8": "rows=5,cols=6,pe_depth=8,norm_elements=2,weight_ports=2",
    "3x8x4": "rows=3,cols=8,norm_elements=4,row_tiles=12",
}
"""Rows x columns x depth, and how the machine differs from `BASE`."""

FIT = (
    ("4x4x4", "vit:dim=24,depth=1,heads=2,tokens=10,classes=7"),
    ("4x4x4", "vit:dim=96,depth=2,heads=3,tokens=17,classes=10"),
    ("4x4x4", "vit:dim=32,depth=3,heads=2,tokens=26,classes=10,mlp_ratio=2"),
    ("4x4x4", "vit:dim=64,depth=1,heads=4,tokens=5,classes=10"),
    ("5x6x8", "vit:dim=48,depth=2,heads=4,tokens=17,classes=10"),
    ("5x6x8", "vit:dim=96,depth=1,heads=3,tokens=10,classes=12"),
    ("5x6x8", "vit:dim=40,depth=2,heads=2,tokens=26,classes=5,mlp_ratio=2"),
    ("5x6x8", "vit:dim=72,depth=1,heads=6,tokens=17,classes=12,mlp_ratio=3"),
)
VALIDATION = (
    ("4x4x4", "fmnist_vit_tiny"),
    ("4x4x4", "vit:dim=40,depth=2,heads=5,tokens=17,classes=5,mlp_ratio=3"),
    ("4x4x4", "vit:dim=20,depth=4,heads=1,tokens=17,classes=3"),
    ("4x4x4", "vit:dim=80,depth=1,heads=2,tokens=26,classes=10,mlp_ratio=1"),
    ("5x6x8", "vit:dim=56,depth=2,heads=2,tokens=10,classes=10"),
    ("5x6x8", "vit:dim=36,depth=3,heads=3,tokens=17,classes=10,mlp_ratio=2"),
    ("5x6x8", "vit:dim=96,depth=2,heads=3,tokens=17,classes=10"),
    ("3x8x4", "vit:dim=48,depth=2,heads=4,tokens=17,classes=10"),
    ("3x8x4", "vit:dim=88,depth=1,heads=2,tokens=10,classes=4,mlp_ratio=2"),
)
"""(machine, network); fmnist_vit_tiny has its trained weights and a real image, the others random weights."""


def record(config: AcceleratorConfig, network: str) -> dict:
    """One image in RTL: counters, mismatches with the golden machine, energy by unit from activity, by class from events."""
    workload = prepare(network, config, images=1)
    with tempfile.TemporaryDirectory(prefix="pivot-activity-") as directory:
        trace = Path(directory) / "activity.saif"
        result = RtlDevice(config, activity=trace).run(workload.program, workload.images)
        activity = activity_energy_mj(read_saif(trace), accelerator_verilog(config))
    counters = dict(result.counters)
    return {
        "network": network,
        "cycles": counters["cycles"],
        "mismatches": mismatches(GoldenDevice().run(workload.program, workload.images), result),
        "counters": {name: value for name, value in counters.items() if value},
        "activity_mj": activity,
        "events_mj": energy_mj(counters, config, counters["cycles"], dsp48=False).classes_mj,
    }


def compare(run: dict, scales: dict[str, float]) -> dict:
    """A run with its errors: (events with their factors) / activity - 1, of totals and units."""
    units, activity = scaled_units(run["events_mj"], scales), run["activity_mj"]

    def total(energies: dict[str, float], *, clock: bool) -> float:
        return sum(value for unit, value in energies.items() if clock or unit != "clock")

    return run | {
        "scaled_mj": units,
        "error": total(units, clock=False) / total(activity, clock=False) - 1,
        "error_with_clock": total(units, clock=True) / total(activity, clock=True) - 1,
        "unit_errors": {unit: units[unit] / activity[unit] - 1 for unit in EVENTS},
    }


def _print_runs(console: Console, title: str, runs: list[dict]) -> None:
    table = text_table(
        "machine", "network", "cycles", "activity (uJ)", "events (uJ)", "error", "with clock", *EVENTS,
        title=title, words=2,
    )  # fmt: skip
    for run in runs:
        parts = {key: sum(value for unit, value in run[key].items() if unit != "clock") for key in ("activity_mj", "scaled_mj")}
        table.add_row(
            run["machine"], run["network"].removeprefix("vit:"), f"{run['cycles']:,}", f"{1e3 * parts['activity_mj']:.2f}",
            f"{1e3 * parts['scaled_mj']:.2f}", f"{run['error']:+.1%}", f"{run['error_with_clock']:+.1%}",
            *(f"{run['unit_errors'][unit]:+.0%}" for unit in EVENTS),
        )  # fmt: skip
    console.print(table)


def print_result(result: dict) -> float:
    """Print a result; the greatest error of its validated networks."""
    console = Console(width=190)
    factors = text_table("class", "factor", "error of the line", title="Factors from events to activity")
    for name, scale in result["scales"].items():
        factors.add_row(name, f"{scale:.2f}", f"x/ {energy_line(name).factor}")
    console.print(factors)
    _print_runs(console, "Fitted", result["fitted"])
    _print_runs(console, "Validated: not used for fitting", result["validated"])
    worst = max(abs(run["error"]) for run in result["validated"])
    console.print(
        f"greatest error of {len(result['validated'])} validated networks: {worst:.1%}, allowed {result['tolerance']:.0%}"
    )
    return worst


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run everything, write the result and print the tables; 1 when a validated network is out of tolerance."""
    BENCHMARK.begin(BENCHMARK.parser(__doc__), arguments)
    configs = {name: find_preset(BASE).with_fields(fields) for name, fields in MACHINES.items()}
    runs = [
        {"machine": machine} | record(configs[machine], network)
        for machine, network in track((*FIT, *VALIDATION), description="networks")
    ]
    fitted = runs[: len(FIT)]
    scales = fit_scales([run["events_mj"] for run in fitted], [run["activity_mj"] for run in fitted])
    compared = [compare(run, scales) for run in runs]
    fitted, validated = compared[: len(FIT)], compared[len(FIT) :]
    result = {
        "base": BASE,
        "machines": MACHINES,
        "tolerance": TOLERANCE,
        "toggle_pj": TOGGLE_PJ | {"memory byte": MEMORY_BYTE_PJ, "clock of a flip-flop": CLOCK_PJ},
        "scales": scales,
        "worst_error": max(abs(run["error"]) for run in validated),
        "fitted": fitted,
        "validated": validated,
    }
    BENCHMARK.save(result)
    return int(print_result(result) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())

"""Energy of DeiT-S on the flagship with its error, by class and by operation, beside published figures of the same board.

    python -m benchmarks.energy.deit_s

Counters come from the cycle model, which equals the RTL in every counter; weights are random, for counters do not depend on
them. The factors of energy_activity.json say what the same run takes if toggles of the fabric are believed
rather than operations of an ASIC. The result goes to energy_deit_s.json.
"""

import sys

from rich.console import Console

from benchmarks.energy.activity import BENCHMARK as ACTIVITY
from benchmarks.result import Benchmark
from benchmarks.sources import ENERGY
from hw.config import milliseconds
from hw.errors import command
from hw.presets import find_preset
from hw.tables import text_table
from sim.cycle_model import predict
from sim.energy.estimate import energy_line
from sim.measurement import energy_fields
from sim.stimulus.workload import prepare_shape

SOURCES = (
    *ACTIVITY.sources, *ENERGY, "benchmarks/results/energy_activity.json", "sim/engines.py", "sim/measurement.py",
)  # fmt: skip
BENCHMARK = Benchmark("energy.deit_s", SOURCES, file="energy_deit_s")
MODEL = "deit_small_patch16_224"
PRESET = "zcu102"

PUBLISHED = (
    ("HeatViT, HPCA 2023", "DeiT-S with pruned tokens, int8, 9.15 ms", 10.7),
    ("EfficientViT accelerator, arXiv 2403.20230", "EfficientViT, int8, 200 MHz, 780.2 GOPS at 105.1 GOPS/W", 7.42),
)
"""(work, what ran, watts) on ZCU102, as the papers state them; the second is the quotient of its two figures."""


def measure() -> dict:
    """The result."""
    config = find_preset(PRESET)
    program = prepare_shape(MODEL, config).program
    counters = predict(program).counters
    fields = energy_fields(counters, program)
    scales = ACTIVITY.load()["scales"]
    delay = milliseconds(counters["cycles"], config.clock_mhz)
    by_activity = {name: value * scales.get(name, 1.0) for name, value in fields["energy_breakdown_mj"].items()}
    return {
        "model": MODEL,
        "preset": PRESET,
        "engine": "cycle model",
        "clock_mhz": config.clock_mhz,
        "cycles": counters["cycles"],
        "delay_ms": delay,
        "counters": {name: value for name, value in counters.items() if value},
        **fields,
        "energy_by_activity_mj": by_activity,
        "average_power_by_activity_w": sum(by_activity.values()) / delay,
        "published_on_zcu102": [dict(zip(("work", "network", "power_w"), row, strict=True)) for row in PUBLISHED],
    }


def print_result(result: dict) -> None:
    """Print a result."""
    console = Console(width=120)
    delay = result["delay_ms"]
    classes = text_table(
        "class", "mJ", "W", "error", "W by activity",
        title=f"{result['model']} on {result['preset']}, one image, {delay:.3f} ms",
    )  # fmt: skip
    for name, value in result["energy_breakdown_mj"].items():
        activity = result["energy_by_activity_mj"][name]
        factor = f"x/ {energy_line(name).factor}"
        classes.add_row(name, f"{value:.3f}", f"{value / delay:.3f}", factor, f"{activity / delay:.3f}")
    console.print(classes)
    operations = text_table("operation", "mJ", "low", "high")
    for name, part in result["energy_operations_mj"].items():
        operations.add_row(name, *(f"{part[bound]:.3f}" for bound in ("total", "low", "high")))
    console.print(operations)
    power, by_activity = result["average_power_w"], result["average_power_by_activity_w"]
    console.print(
        f"energy {result['energy_mj']:.1f} mJ, {result['energy_low_mj']:.1f} to {result['energy_high_mj']:.1f}; "
        f"average power {power['total']:.1f} W, {power['low']:.1f} to {power['high']:.1f} (by activity {by_activity:.1f} W)"
    )
    for entry in result["published_on_zcu102"]:
        console.print(f"published: {entry['power_w']} W, {entry['network']} ({entry['work']})")


@command()
def main(arguments: list[str] | None = None) -> int:
    """Measure, write the result and print it."""
    BENCHMARK.begin(BENCHMARK.parser(__doc__), arguments)
    result = measure()
    BENCHMARK.save(result)
    print_result(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())

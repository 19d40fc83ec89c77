"""The timeline of one DeiT-S image, loaded by Perfetto's own trace processor and compared with the cycle model's.

    python -m benchmarks.simulation.perfetto_check [FILE]

Without a file the cycle model's timeline on `zcu102` is written as `sim.measure --trace` writes it, loaded, and read back by SQL:
Perfetto must report no error, and hold every span on its unit's track with its cycles. The result goes to perfetto_check.json.
With a file, which `sim.measure --trace` wrote, what Perfetto holds is compared with that. Needs the extra `perfetto`.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.result import Benchmark
from benchmarks.sources import CYCLES, RTL, WORKLOAD
from hw.errors import command
from hw.presets import find_preset
from hw.tables import text_table
from sim.cycle_model import predict
from sim.perfetto.check import PerfettoReport, check_trace
from sim.perfetto.trace_processor import find_trace_processor
from sim.stimulus.workload import prepare_shape
from sim.timeline.chrome_trace import write_trace
from sim.timeline.spans import model_timeline, track_title

BENCHMARK = Benchmark("simulation.perfetto_check", (*RTL, *CYCLES, *WORKLOAD, "sim/perfetto", "sim/timeline"))
MODEL, PRESET = "deit_small_patch16_224", "zcu102"


def units(report: PerfettoReport) -> dict[str, dict[str, int]]:
    """By unit, what Perfetto holds: threads, slices, and the sum of their cycles (0 where they tell none)."""
    threads: dict[str, set[int]] = {}
    slices: Counter[str] = Counter()
    cycles: Counter[str] = Counter()
    for entry in sorted(report.slices, key=lambda entry: entry.thread[0]):
        number, title = entry.thread[0], str(entry.thread[1])
        threads.setdefault(title, set()).add(number)
        slices[title] += 1
        cycles[title] += dict(entry.arguments).get("args.cycles", 0)
    return {title: {"threads": len(threads[title]), "slices": slices[title], "cycles": cycles[title]} for title in threads}


def measure() -> dict[str, Any]:
    """Write, load and compare the timeline of `MODEL`.

    Raises:
        InputError: When the packages are not installed.
    """
    find_trace_processor()  # before the long work
    program = prepare_shape(MODEL, find_preset(PRESET)).program
    spans, counters = model_timeline(program), predict(program).counters
    with tempfile.TemporaryDirectory(prefix="pivot-trace-") as directory:
        path = Path(directory) / "trace.json.gz"
        write_trace(path, program, spans)
        report = check_trace(path)
    arguments = [(entry.thread[1], dict(entry.arguments)) for entry in report.slices]
    held = Counter((title, given["args.cycle"], given["args.cycles"]) for title, given in arguments)
    return {
        "perfetto": report.version,
        "model": MODEL,
        "preset": PRESET,
        "clock_mhz": program.config.clock_mhz,
        "cycles": counters["cycles"],
        "array_cycles": counters["array_cycles"],
        "spans": len(spans),
        "slices": len(report.slices),
        "equal": held == Counter((track_title(span.track), span.begin, span.end - span.begin) for span in spans),
        "complaints": list(report.complaints),
        "units": units(report),
    }


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run the check; returns 1 if Perfetto complains or holds something else than was written."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a trace (.json, .json.gz); by default one of DeiT-S")
    options = BENCHMARK.begin(parser, arguments)
    if options.file:
        report = check_trace(options.file)
        result: dict[str, Any] = {"perfetto": report.version, "complaints": report.complaints, "units": units(report)}
    else:
        result = measure()
        BENCHMARK.save(result)
    table = text_table(
        "unit", "threads", "slices", "cycles",
        title=f"{options.file or f'{MODEL} on {PRESET}'} in Perfetto {result['perfetto']}",
    )  # fmt: skip
    for title, unit in result["units"].items():
        table.add_row(title, *(f"{value:,}" for value in unit.values()))
    Console().print(table)
    if "spans" in result:
        equal = "equal in unit, begin and length" if result["equal"] else "NOT equal"
        print(f"{result['spans']:,} spans written, {result['slices']:,} slices read back: {equal}")
    print(*(result["complaints"] or ["no complaint"]), sep="\n")
    return int(bool(result["complaints"]) or not result.get("equal", True))


if __name__ == "__main__":
    sys.exit(main())

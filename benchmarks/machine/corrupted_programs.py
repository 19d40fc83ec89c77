"""Randomly corrupted Programs on the RTL of `nano`: each ends in time and in its place, and leaves nothing behind.

    python -m benchmarks.machine.corrupted_programs [--cases 10000]

Case n is drawn from the seed n (`sim.stimulus.corruption`): bits, fields, order and bytes of descriptors, weights, parameters and
tables, registers, memories that answer errors, resets on the way. After each a correct Program must give the golden machine's
record with the counters of a fresh machine. Every 500 cases share a simulation and a random memory timing; the result goes to
corrupted_programs.json after each of these, and a run that was interrupted goes on with what is missing there.
"""

import json
import random
import sys
import time
from collections import Counter

from rich.progress import track

from benchmarks.result import Benchmark
from benchmarks.sources import GOLDEN, RTL, WORKLOAD
from hw.errors import command
from hw.memory_timing import MemoryTiming
from hw.presets import find_preset
from sim.rtl.device import RtlDevice
from sim.stimulus.corruption import START_CYCLES, draw_case, run_cases
from sim.stimulus.random_machines import random_timing

SOURCES = (
    *GOLDEN, *RTL, *WORKLOAD, "sim/stimulus/corruption.py", "sim/stimulus/random_machines.py",
)  # fmt: skip
BENCHMARK = Benchmark("machine.corrupted_programs", SOURCES)
CHUNK = 500
MACHINE = "nano"


def measure(first: int, count: int) -> dict:
    """What became of ``count`` cases from number ``first`` on."""
    config = find_preset(MACHINE)
    timing = MemoryTiming() if first == 0 else random_timing(random.Random(first))
    cases = [draw_case(number, config, timing) for number in range(first, first + count)]
    started = time.perf_counter()
    outcomes = run_cases(RtlDevice(config), cases, timing)
    kinds: dict[str, Counter] = {case.kind: Counter() for case in cases}
    for case, outcome in zip(cases, outcomes, strict=True):
        kinds[case.kind][outcome.name] += 1
    overs = [outcome.over for outcome in outcomes if outcome.over is not None]
    return {
        "first": first,
        "cases": count,
        "memory": vars(timing),
        "wall_s": round(time.perf_counter() - started, 1),
        "outcomes": {kind: dict(sorted(names.items())) for kind, names in sorted(kinds.items())},
        "compared_with_golden": sum(outcome.compared for outcome in outcomes),
        "most_cycles_over_deadline": max(overs, default=None),
        "allowed_cycles_over_deadline": START_CYCLES,
        "faults": [
            {"case": case.number, "kind": case.kind, "note": case.note, "outcome": outcome.name, "faults": outcome.faults}
            for case, outcome in zip(cases, outcomes, strict=True)
            if outcome.faults
        ],
    }


def summary(chunks: list[dict]) -> dict:
    """Sums over all chunks."""
    outcomes: Counter[str] = Counter()
    for chunk in chunks:
        for names in chunk["outcomes"].values():
            outcomes.update(names)
    messages = [message for chunk in chunks for entry in chunk["faults"] for message in entry["faults"]]
    return {
        "machine": MACHINE,
        "cases": sum(chunk["cases"] for chunk in chunks),
        "outcomes": dict(outcomes.most_common()),
        "hangs": outcomes["hang"],
        "accesses_outside": sum("outside" in message for message in messages),
        "wrong_after_reset": sum("after" in message for message in messages),
        "data_corruptions_equal_to_golden": sum(chunk["compared_with_golden"] for chunk in chunks),
        "most_cycles_over_deadline": max(chunk["most_cycles_over_deadline"] or 0 for chunk in chunks),
        "cases_with_faults": sum(len(chunk["faults"]) for chunk in chunks),
        "wall_s": round(sum(chunk["wall_s"] for chunk in chunks), 1),
    }


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a case did what it must not."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--cases", type=int, default=10_000, metavar="N", help="cases (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="forget the results that are there")
    options = BENCHMARK.begin(parser, arguments)
    known = [] if options.again else BENCHMARK.last().get("chunks", [])
    chunks = {chunk["first"]: chunk for chunk in known if chunk["first"] < options.cases}
    sizes = {first: min(CHUNK, options.cases - first) for first in range(0, options.cases, CHUNK)}
    missing = [first for first, size in sizes.items() if first not in chunks or chunks[first]["cases"] != size]
    for first in track(missing, description=f"{CHUNK} cases"):
        chunks[first] = measure(first, sizes[first])
        ordered = [chunks[key] for key in sorted(chunks)]
        BENCHMARK.save(summary(ordered) | {"chunks": ordered})
    result = {name: value for name, value in BENCHMARK.load().items() if name != "chunks"}
    print(json.dumps(result, indent=1))
    return int(result["cases_with_faults"] > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Resources by composition of parts against one flat synthesis of the same machine, and what a second machine costs then.

    python -m benchmarks.machine.resource_composition [--set rows=8,cols=8,...] [--workers N]

Seconds are those of the runs that filled the user's cache, one after the other. The result goes to resource_composition.json.
"""

import sys
import time
from collections.abc import Collection
from dataclasses import asdict

from rich.console import Console

from benchmarks.result import Benchmark
from benchmarks.sources import SYNTHESIS
from hw.build.resources import Resources, composed
from hw.build.synthesis import machine_parts, synthesize_parts, whole_machine
from hw.config import AcceleratorConfig
from hw.errors import command
from hw.presets import find_preset
from hw.tables import text_table

BENCHMARK = Benchmark("machine.resource_composition", SYNTHESIS)
MACHINE = (
    "rows=8,cols=8,pe_depth=8,activation_words=1024,residual_words=256,normalized_words=256,weight_words=512,kv_words=256,"
    "parameter_tiles=64,row_tiles=8,classes=16,weight_ports=2"
)
CHANGES = ("rows=7", "cols=10")
"""Fields that a second machine changes, one at a time."""


def compose(config: AcceleratorConfig, workers: int | None, known: Collection[str] = ()) -> tuple[Resources, dict, set[str]]:
    """Resources, what they take with nothing in the cache but the digests in ``known``, and the parts' digests."""
    start = time.monotonic()
    parts = machine_parts(config)
    emitted = time.monotonic() - start
    results = synthesize_parts(parts, workers=workers)
    seconds = {part.name: results[part.name].seconds for part in parts if part.digest not in known}
    took = {"emission_s": round(emitted, 1), "synthesis_s": round(sum(seconds.values()), 1), "synthesized": seconds}
    return composed(parts, results), took, {part.digest for part in parts}


@command()
def main(arguments: list[str] | None = None) -> int:
    """Measure, write the result and print the tables."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument(
        "--set", dest="overrides", default=MACHINE, metavar="FIELD=N,...", help="zcu102 but for these (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, help="processes at a time (default: the machine's cores)")
    options = BENCHMARK.begin(parser, arguments)
    config = find_preset("zcu102").with_fields(options.overrides)
    total, took, digests = compose(config, options.workers)
    second = {change: compose(config.with_fields(change), options.workers, digests)[1] for change in CHANGES}
    part = whole_machine(config)
    flat_synthesis = synthesize_parts([part])[part.name]
    flat, flat_seconds = Resources.of_cells(flat_synthesis.cells), flat_synthesis.seconds
    rows = {
        name: {"composed": value, "flat": asdict(flat)[name], "error": round(value / asdict(flat)[name] - 1, 4)}
        for name, value in asdict(total).items()
    }
    result = {
        "config": asdict(config),
        "resources": rows,
        "composed": took,
        "flat_synthesis_s": flat_seconds,
        "second_machine": second,
    }
    BENCHMARK.save(result)
    console = Console(width=130)
    table = text_table(
        "", "composed", "flat", "error", title=f"{config.rows} x {config.cols} x {config.pe_depth}, {flat_seconds:.0f} s flat"
    )
    for name, row in rows.items():
        table.add_row(name, f"{row['composed']:,}", f"{row['flat']:,}", f"{row['error']:+.1%}")
    console.print(table)
    times = text_table("machine", "emission, s", "synthesis, s", "synthesized")
    for name, row in {"first": took, **second}.items():
        times.add_row(name, f"{row['emission_s']:.1f}", f"{row['synthesis_s']:.1f}", " ".join(row["synthesized"]) or "nothing")
    console.print(times)
    return 0


if __name__ == "__main__":
    sys.exit(main())

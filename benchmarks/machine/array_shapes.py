"""Shapes of the array (rows x columns x pe_depth of a dot product) under the ZCU102's resources, by DeiT-S's cycles.

    python -m benchmarks.machine.array_shapes [--compose N] [--workers N]

Every shape has buffers for DeiT-B; its cycles come from the cycle model on a Program compiled for it. DSP blocks follow from the
shape. The fastest that fit by DSP are synthesized until N of them fit by everything. The result goes to array_shapes.json.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.result import Benchmark
from benchmarks.sources import CYCLES, SYNTHESIS
from hw.boards import find_board
from hw.build.resources import composed
from hw.build.synthesis import machine_parts, synthesize_parts
from hw.config import AcceleratorConfig, ceil_div, milliseconds
from hw.errors import InputError, command
from hw.memory_timing import MemoryTiming
from hw.presets import find_preset
from hw.tables import text_table
from sim.cycle_model import predict
from sim.program_counts import count_program
from sw.compiler.memory_map import required_config
from sw.networks.network import parse_network

BENCHMARK = Benchmark("machine.array_shapes", (*CYCLES, *SYNTHESIS, "hw/boards"))
MEASURED, LARGEST = "deit_small_patch16_224", "deit_base_patch16_224"
BOARD = "zcu102"
CLOCK_MHZ = 300
LIMITS = {"lut": 0.70, "ff": 0.70, "dsp": 0.90, "bram36": 0.85}
"""Share of the device that a machine may take."""
SHAPES = (
    (33, 16, 8), (50, 10, 8), (50, 12, 8), (66, 8, 8), (40, 12, 8), (25, 20, 8), (33, 32, 4), (28, 18, 8), (22, 24, 8),
    (20, 26, 8), (17, 32, 8), (33, 8, 16), (50, 20, 4), (40, 26, 4), (32, 16, 8),
)  # fmt: skip
"""Rows, columns, pe_depth. 197 tokens make 6 row tiles of 33 rows, 4 of 50, 9 of 22, with one to three rows to spare."""
DSP_PER_ROW = 4
"""Requantizer, square, two normalised elements."""
DSP_OF_SEQUENCER = 4


def machine(rows: int, cols: int, pe_depth: int) -> AcceleratorConfig:
    """The flagship in another shape, its buffers as deep as the largest network needs in whole block RAMs.

    The weight ring keeps 16 KiB per column, the parameter ring as many channels.
    """
    flagship = find_preset("zcu102")
    need = required_config(parse_network(LARGEST), rows, cols, pe_depth)
    block = 512 * max(1, 8 // pe_depth)  # words of a RAMB36E2; an element takes a byte of at most 64 bits
    fields = ("activation_words", "normalized_words", "residual_words", "kv_words")
    return replace(
        flagship,
        rows=rows,
        cols=cols,
        pe_depth=pe_depth,
        row_tiles=need["row_tiles"],
        weight_words=flagship.weight_words * flagship.pe_depth // pe_depth,
        parameter_tiles=1 << (ceil_div(flagship.parameter_tiles * flagship.cols, cols) - 1).bit_length(),
        **{field: ceil_div(need[field], block) * block for field in fields},
    )


def dsp_blocks(rows: int, cols: int, pe_depth: int) -> int:
    """DSP blocks of a machine: one per pair and element, four per row, four of the sequencer."""
    return rows * (ceil_div(cols, 2) * pe_depth + DSP_PER_ROW) + DSP_OF_SEQUENCER


def quantized() -> Any:
    """The measured network with random weights: cycles do not depend on them."""
    from sw.data.pixels import to_input
    from sw.networks.network import build_network
    from sw.quantization.quantize import quantize

    spec = parse_network(MEASURED)
    pixels = np.random.default_rng(0).integers(0, 256, (4, *spec.image_size, spec.channels), dtype=np.uint8)
    return quantize(build_network(MEASURED, "random", 0), to_input(pixels))


def measure(network: Any, shape: tuple[int, int, int], limit: float) -> dict[str, Any]:
    """One row of the table: cycles, and whether the DSP blocks suffice."""
    from sw.compiler.programs import compile_network

    dsp = dsp_blocks(*shape)
    row: dict[str, Any] = {"rows": shape[0], "cols": shape[1], "depth": shape[2], "dsp": dsp, "fits_dsp": dsp <= limit}
    try:
        config = machine(*shape)
    except InputError as error:
        return row | {"refused": str(error)}
    program = compile_network(network, config)
    cycles, macs = predict(program, MemoryTiming()).cycles, count_program(program).macs
    return row | {
        "macs_per_cycle": config.macs_per_cycle,
        "cycles": cycles,
        "utilization": round(macs / (cycles * config.macs_per_cycle), 4),
        "macs_per_dsp_per_cycle": round(macs / (cycles * dsp), 3),
        f"delay_ms_at_{CLOCK_MHZ}_mhz": round(milliseconds(cycles, CLOCK_MHZ), 3),
        "config": asdict(config),
    }


def choose(rows: list[dict[str, Any]], count: int, workers: int | None) -> Iterator[dict[str, Any]]:
    """Synthesize the fastest shapes until ``count`` fit, mark the first of these as chosen, and yield each when it is known."""
    capacity = find_board(BOARD).capacity
    for row in sorted((row for row in rows if row["fits_dsp"] and "cycles" in row), key=lambda row: row["cycles"]):
        parts = machine_parts(AcceleratorConfig(**row["config"]))
        resources = asdict(composed(parts, synthesize_parts(parts, workers=workers)))
        if resources["dsp"] != row["dsp"]:
            raise RuntimeError(f"DSP blocks must be {row['dsp']} by the formula, not {resources['dsp']} as synthesized")
        fits = all(resources[name] <= share * capacity[name] for name, share in LIMITS.items())
        row |= {"resources": resources, "fits": fits, "chosen": fits and not any(other.get("chosen") for other in rows)}
        yield row
        if sum(other.get("fits", False) for other in rows) >= count:
            break


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table, fastest first."""
    capacity = find_board(BOARD).capacity
    table = text_table(
        "rows x cols x pe_depth", "MAC/cycle", "cycles", "utilization", "ms", "MAC/DSP/cycle", "DSP", "LUT", "FF", "BRAM36", "",
        title=f"{MEASURED}, batch 1, {CLOCK_MHZ} MHz assumed",
    )  # fmt: skip
    for row in rows:
        shape = f"{row['rows']} x {row['cols']} x {row['pe_depth']}"
        share = [f"{row['dsp']:,}"]
        if "cycles" not in row:
            table.add_row(shape, *[""] * 5, *share, "", "", "", row["refused"])
            continue
        resources = row.get("resources", {})
        share += [f"{resources[name] / capacity[name]:.0%}" if resources else "" for name in ("lut", "ff", "bram36")]
        note = "chosen" if row.get("chosen") else "" if row["fits_dsp"] and row.get("fits", True) else "does not fit"
        table.add_row(
            shape, f"{row['macs_per_cycle']:,}", f"{row['cycles']:,}", f"{row['utilization']:.1%}",
            f"{row[f'delay_ms_at_{CLOCK_MHZ}_mhz']:.3f}", f"{row['macs_per_dsp_per_cycle']:.2f}", *share, note,
        )  # fmt: skip
    Console(width=150).print(table)


@command()
def main(arguments: list[str] | None = None) -> int:
    """Measure, choose, write the result and print the table."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--compose", type=int, default=3, metavar="N", help="shapes to synthesize (default: %(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help="syntheses at a time (default: the machine's cores)")
    options = BENCHMARK.begin(parser, arguments)
    capacity, network = find_board(BOARD).capacity, quantized()
    rows = [measure(network, shape, LIMITS["dsp"] * capacity["dsp"]) for shape in track(SHAPES, description="shapes")]
    rows.sort(key=lambda row: row.get("cycles", float("inf")))
    show(rows)
    result = {
        "network": MEASURED,
        "buffers_for": LARGEST,
        "board": BOARD,
        "capacity": capacity,
        "limits": LIMITS,
        "memory": vars(MemoryTiming()),
        "engine": "cycle model",
        "rule": "fewest cycles of the shapes that stay within the limits; resources where synthesized, else DSP blocks alone",
        "shapes": rows,
    }
    for _ in choose(rows, options.compose, options.workers):
        BENCHMARK.save(result)
    show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Speed of SCALE-Sim v3 and of our cycle model, and with --rtl of the RTL simulation, on DeiT-S at 224x224, batch 1.

    python -m benchmarks.simulation.scale_sim [--rtl]

SCALE-Sim (PyPI's scalesim 3.0.0) gets the GEMMs of one encoder as a GEMM topology, output-stationary, with its shipped
configuration and no traces on disk, on 32x32 processing elements and on 64x64, about as many as the flagship has. It needs
numpy below 2, so it runs in a virtual environment of its own in the build cache, made at the first run. The cycle model
and the RTL run the whole network on the preset zcu102: twelve such encoders, which are 99 % of its MACs, the patch
embedding and the head. Rates are simulated MACs and cycles per second of wall clock.

Rates may be compared; cycles differ for reasons that a second table counts out. SCALE-Sim gives every tile k + rows + columns - 2
cycles, so the array fills and drains anew for each; its GEMMs follow one another without dependencies, LayerNorm, softmax, GELU
or residuals, and in its default mode the memory never makes the array wait: it estimates the bandwidth that this would take. Our
cycle model equals the counters of the RTL: every unit, hazard, table, burst and memory latency, where a tile's fill and drain
hide behind its neighbours. Wall clock counts whatever else the machine does, so seconds of CPU and the load stand beside it.

Each step of SCALE-Sim is kept in scale_sim.json when it is done; an interrupted run goes on with those that are missing there.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.result import Benchmark
from benchmarks.sources import CYCLES, GOLDEN, RTL, WORKLOAD
from hw.errors import command

BENCHMARK = Benchmark("simulation.scale_sim", (*GOLDEN, *RTL, *CYCLES, *WORKLOAD))
MODEL, PRESET = "deit_small_patch16_224", "zcu102"
ARRAYS = (32, 64)
PREDICTIONS = 3

REQUIREMENTS = ("scalesim==3.0.0", "numpy==1.26.4", "tqdm<5")
"""What SCALE-Sim imports; its package asks for ten more, among them 400 MB for reports that are not used here."""

OPERATIONS = {
    "QKV": ("QKV",), "scores": ("Q K^T",), "context": ("S V",), "projection": ("projection",), "MLP": ("FC1", "FC2"),
}  # fmt: skip
"""GEMMs of `ENCODER` that each of our operations does."""

LAST_PYTHON = (3, 12)
"""The last Python (major, minor) for which numpy 1.26 has wheels."""


@dataclass(frozen=True)
class Gemm:
    """``count`` GEMMs [m, k] x [k, n] of one encoder."""

    name: str
    m: int
    n: int
    k: int
    count: int = 1

    @property
    def macs(self) -> int:
        """MACs of all ``count``."""
        return self.m * self.n * self.k * self.count


TOKENS, DIM, HEADS, MLP, ENCODERS = 197, 384, 6, 1536, 12
ENCODER = (
    Gemm("QKV", TOKENS, 3 * DIM, DIM),
    Gemm("Q K^T", TOKENS, TOKENS, DIM // HEADS, HEADS),
    Gemm("S V", TOKENS, DIM // HEADS, TOKENS, HEADS),
    Gemm("projection", TOKENS, DIM, DIM),
    Gemm("FC1", TOKENS, MLP, DIM),
    Gemm("FC2", TOKENS, DIM, MLP),
)

CONFIGURATION = """\
[general]
run_name = run
[architecture_presets]
ArrayHeight: {array}
ArrayWidth: {array}
IfmapSramSzkB: 64
FilterSramSzkB: 64
OfmapSramSzkB: 64
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Bandwidth: 10
Dataflow: os
MemoryBanks: 1
ReadRequestBuffer: 32
WriteRequestBuffer: 32
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 100
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 100
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: False
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""

RUNNER = """\
import time
from scalesim.scale_sim import scalesim

wall, cpu = time.perf_counter(), time.process_time()
files = {"config": "array.cfg", "topology": "gemms.csv", "layout": "layout.csv"}
scalesim(save_disk_space=True, verbose=False, input_type_gemm=True, **files).run_scale(top_path=".")
print(time.perf_counter() - wall, time.process_time() - cpu)
"""
"""Runs in SCALE-Sim's environment; its last line is the seconds of wall clock and of CPU, imports left out."""


def scale_sim_python() -> Path:
    """The interpreter of SCALE-Sim's environment, which is made when it is missing.

    Raises:
        InputError: When this Python is too new for SCALE-Sim.
        BuildError: When pip cannot install it.
    """
    from hw.errors import InputError
    from hw.toolchain import cache_root
    from sim.cpp_build import cached_directory, digest, run_tool

    if sys.version_info[:2] > LAST_PYTHON:
        raise InputError(f"SCALE-Sim must run with numpy 1.26, so with Python 3.11 or 3.12, not {sys.version.split()[0]}")

    def build(directory: Path) -> None:
        run_tool([sys.executable, "-m", "venv", directory], cwd=directory)
        pip: list[str | Path] = [directory / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
        run_tool([*pip, "--no-deps", "--only-binary", ":all:", *REQUIREMENTS], cwd=directory)

    key = f"scale-sim-{digest(sys.version, sys.base_prefix, *REQUIREMENTS)}"
    return cached_directory(cache_root() / "environments", key, build) / "bin" / "python"


def read_report(text: str, macs: int, array: int) -> dict[str, Any]:
    """Cycles, stalls and utilization of a COMPUTE_REPORT.csv; the rows are equal GEMMs, ``macs`` together.

    Raises:
        ValueError: When the report's utilization is not its MACs by its cycles, so that it was of other GEMMs.
    """
    header, *lines = (line.strip().rstrip(",") for line in text.splitlines() if line.strip())
    names = [name.strip() for name in header.split(",")]
    rows = [dict(zip(names, map(float, line.split(",")), strict=True)) for line in lines]
    cycles = int(sum(row["Total Cycles"] for row in rows))
    reported = sum(row["Overall Util %"] for row in rows) / len(rows) / 100
    if abs(reported - macs / (cycles * array**2)) > 1e-6:
        raise ValueError(f"SCALE-Sim's utilization must be {macs / (cycles * array**2)}, not {reported}")
    stalls = int(sum(row["Stall Cycles"] for row in rows))
    return {"cycles": cycles, "stall_cycles": stalls, "utilization": round(reported, 4)}


def with_rates(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry with ``macs``, ``cycles`` and ``wall_s``, and its rates beside them."""
    rates = {f"{name}_per_s": round(entry[name] / entry["wall_s"]) for name in ("macs", "cycles")}
    return entry | {name: round(entry[name], 3) for name in ("wall_s", "cpu_s") if name in entry} | rates


def simulate(python: Path, array: int, gemm: Gemm) -> dict[str, Any]:
    """One step of SCALE-Sim: all GEMMs of one kind on an ``array`` x ``array`` array."""
    from sim.cpp_build import run_tool

    with tempfile.TemporaryDirectory(prefix="pivot-scale-sim-") as name:
        directory = Path(name)
        (directory / "array.cfg").write_text(CONFIGURATION.format(array=array), encoding="utf-8")
        rows = [f"gemm{index},{gemm.m},{gemm.n},{gemm.k}," for index in range(gemm.count)]
        (directory / "gemms.csv").write_text("\n".join(["Layer,M,N,K,", *rows]) + "\n", encoding="utf-8")
        (directory / "layout.csv").write_text("Layer,\n", encoding="utf-8")  # must exist; the default layout has no entries
        output = run_tool([python, "-c", RUNNER], cwd=directory)
        wall_s, cpu_s = map(float, output.splitlines()[-1].split())
        report = read_report((directory / "run" / "COMPUTE_REPORT.csv").read_text(encoding="utf-8"), gemm.macs, array)
    load = round(os.getloadavg()[0], 2)
    return with_rates({**asdict(gemm), "macs": gemm.macs, **report, "wall_s": wall_s, "cpu_s": cpu_s}) | {"load": load}


def total(entries: Sequence[dict[str, Any]], array: int) -> dict[str, Any]:
    """One encoder on one array."""
    sums = {name: sum(entry[name] for entry in entries) for name in ("macs", "cycles", "wall_s", "cpu_s")}
    utilization = round(sums["macs"] / (sums["cycles"] * array**2), 4)
    return {"macs_per_cycle": array**2, "utilization": utilization, **with_rates(sums)}


def explain(entry: dict[str, Any], array: int) -> dict[str, float]:
    """Where the cycles of one step of SCALE-Sim go, by its rule for output-stationary tiles: the MACs themselves, the parts of
    tiles beyond the matrix, filling and draining, and one cycle less per GEMM, the number of its last cycle counted from 0."""
    tiles = -(-entry["m"] // array) * -(-entry["n"] // array) * entry["count"]
    ideal = entry["macs"] / array**2
    parts = {"ideal": ideal, "padding": tiles * entry["k"] - ideal, "fill_and_drain": tiles * (2 * array - 2) - entry["count"]}
    unexplained = round(entry["cycles"] - sum(parts.values()), 6)
    return {name: round(value, 1) for name, value in parts.items()} | {"unexplained": unexplained}


def own_split(program: Any, counters: dict[str, int], macs_per_cycle: int) -> dict[str, dict[str, float]]:
    """Where our cycles go, by operation: the MACs themselves, words of tiles beyond the matrix, cycles without a word."""
    from sim.program_counts import count_operations

    split = {}
    for name, part in count_operations(program).items():
        cycles, ideal = counters[f"operation_{name}"], part.macs / macs_per_cycle
        if cycles:
            padding = round(part.array_cycles - ideal, 1)
            split[name] = {"cycles": cycles, "ideal": round(ideal, 1), "padding": padding, "waits": cycles - part.array_cycles}
    return split


def measure_own(rtl: bool, status: Callable[[str], None]) -> dict[str, Any]:
    """Our cycle model, and with ``rtl`` the RTL, on the whole network.

    Raises:
        BuildError: When the simulation cannot be built.
        BenchFailure: When the simulated machine stops.
    """
    from hw.device import mismatches
    from hw.golden import GoldenDevice
    from hw.presets import find_preset
    from sim.cycle_model import predict
    from sim.program_counts import count_program
    from sim.rtl.device import RtlDevice
    from sim.stimulus.workload import prepare
    from sw.networks.options import NetworkOptions

    status(f"quantize and compile {MODEL}")
    config, started = find_preset(PRESET), time.perf_counter()
    workload = prepare(NetworkOptions(MODEL, "random"), config, images=1)
    prepare_s = time.perf_counter() - started
    program, macs = workload.program, count_program(workload.program).macs
    status(f"cycle model, {PRESET}")
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(PREDICTIONS):
        counters = predict(program).counters
    wall_s, cpu_s = (time.perf_counter() - wall) / PREDICTIONS, (time.process_time() - cpu) / PREDICTIONS
    cycles = counters["cycles"]
    common = {"macs": macs, "cycles": cycles, "utilization": round(macs / (cycles * config.macs_per_cycle), 4)}
    result: dict[str, Any] = {
        "model": MODEL,
        "preset": PRESET,
        "macs_per_cycle": config.macs_per_cycle,
        "prepare_wall_s": round(prepare_s, 1),
        "load": round(os.getloadavg()[0], 2),
        "cycle_model": with_rates({**common, "wall_s": wall_s, "cpu_s": cpu_s}),
        "split": own_split(program, counters, config.macs_per_cycle),
    }
    if rtl:
        status(f"build and simulate the RTL of {PRESET}")
        run = RtlDevice(config).run(program, workload.images)
        counted = run.counters["cycles"]
        entry = {"macs": macs, "cycles": counted, "utilization": round(macs / (counted * config.macs_per_cycle), 4)}
        result["rtl"] = with_rates({**entry, "wall_s": run.wall_s}) | {
            "build_wall_s": round(run.build_wall_s, 1),
            "mismatches": mismatches(GoldenDevice().run(program, workload.images), run),
            "cycle_model_equal": counted == cycles,
        }
    return result


def print_tables(result: dict[str, Any]) -> None:
    """Print a result that is complete."""
    from rich.console import Console

    from hw.tables import text_table

    def cells(entry: dict[str, Any]) -> list[str]:
        cycles, rate = f"{entry['cycles']:,}", f"{entry['macs_per_s'] / 1e6:,.2f}"
        seconds = [f"{entry[name]:.2f}" if name in entry else "" for name in ("wall_s", "cpu_s")]
        return [f"{entry['macs'] / 1e6:,.1f}", cycles, f"{entry['utilization']:.1%}", *seconds, rate, f"{entry['cycles_per_s']:,}"]

    table = text_table(
        "simulator", "work", "MMAC", "cycles", "utilization", "wall s", "CPU s", "MMAC/s", "cycles/s",
        title="DeiT-S, 224x224, batch 1: SCALE-Sim on one encoder, ours on the whole network", words=2,
    )  # fmt: skip
    for array, part in result["scale_sim"].items():
        for entry in part["gemms"]:
            shape = f"{entry['m']}x{entry['k']}x{entry['n']}"
            times = f"{entry['count']} x " if entry["count"] > 1 else ""
            table.add_row(f"SCALE-Sim {array}", f"{entry['name']}: {times}{shape}", *cells(entry))
        table.add_row(f"SCALE-Sim {array}", "encoder", *cells(part["encoder"]), style="bold", end_section=True)
    own = result["own"]
    table.add_row("cycle model", own["preset"], *cells(own["cycle_model"]), style="bold")
    if "rtl" in own:
        table.add_row("RTL (Verilator)", own["preset"], *cells(own["rtl"]), style="bold")
    console = Console(width=132)
    console.print(table)
    console.print(f"Quantizing and compiling {own['model']} for {own['preset']}, beside the cycle model: {own['prepare_wall_s']} s")
    for array, part in result["scale_sim"].items():
        for rate in ("macs", "cycles"):
            wall, cpu = (
                own["cycle_model"][rate] / own["cycle_model"][seconds] * part["encoder"][seconds] / part["encoder"][rate]
                for seconds in ("wall_s", "cpu_s")
            )
            console.print(
                f"Cycle model against SCALE-Sim {array}: {wall:,.0f} times the {rate.replace('mac', 'MAC')} a second, "
                f"{cpu:,.0f} times a second of CPU"
            )
    console.print(_split_table(result))


def _split_table(result: dict[str, Any]) -> Any:
    """Cycles of all encoders' GEMMs, counted out."""
    from hw.tables import text_table

    table = text_table(
        "simulator", "GEMMs", "cycles", "MACs / peak", "beyond the matrix", "fill and drain", "waits",
        title=f"Cycles of all {ENCODERS} encoders, counted out", words=2,
    )  # fmt: skip
    for array, part in result["scale_sim"].items():
        steps = {entry["name"]: entry for entry in part["gemms"]}
        for name, gemms in OPERATIONS.items():
            parts = [ENCODERS * sum(steps[gemm]["split"][key] for gemm in gemms) for key in ("ideal", "padding", "fill_and_drain")]
            cycles = ENCODERS * sum(steps[gemm]["cycles"] for gemm in gemms)
            table.add_row(f"SCALE-Sim {array}", name, *(f"{value:,.0f}" for value in (cycles, *parts)), "0")
        table.add_section()
    own = result["own"]["split"]
    for name, part in own.items():
        ours = (part["cycles"], part["ideal"], part["padding"], 0, part["waits"])
        table.add_row(f"ours, {result['own']['preset']}", name, *(f"{value:,.0f}" for value in ours))
    return table


def known_steps() -> dict[tuple[int, Gemm], dict[str, Any]]:
    """The steps of SCALE-Sim in scale_sim.json that are of this encoder and these arrays."""
    result = BENCHMARK.last("benchmarks/simulation/scale_sim.py")
    if result.get("packages") != list(REQUIREMENTS):
        return {}
    steps = {}
    for array in ARRAYS:
        for entry in result["scale_sim"].get(f"{array}x{array}", {"gemms": ()})["gemms"]:
            steps[array, Gemm(*(entry[name] for name in ("name", "m", "n", "k", "count")))] = entry
    return steps


def collect(steps: dict[tuple[int, Gemm], dict[str, Any]]) -> dict[str, Any]:
    """The result so far; an array's sum is there when all of its steps are."""
    parts: dict[str, Any] = {}
    for array in ARRAYS:
        entries = [steps[array, gemm] for gemm in ENCODER if (array, gemm) in steps]
        entries = [entry | {"split": explain(entry, array)} for entry in entries]
        parts[f"{array}x{array}"] = {"gemms": entries}
        if len(entries) == len(ENCODER):
            parts[f"{array}x{array}"] = {"encoder": total(entries, array), "gemms": entries}
    return {"cores": os.cpu_count(), "packages": list(REQUIREMENTS), "dataflow": "os", "scale_sim": parts}


def measure(rtl: bool, again: bool) -> dict[str, Any]:
    """Run what is missing in scale_sim.json, and our own simulators; returns what it then holds."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


    steps = {} if again else known_steps()
    missing = [(array, gemm) for array in ARRAYS for gemm in ENCODER if (array, gemm) not in steps]
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("environment of SCALE-Sim", total=len(missing) + 1)
        python = scale_sim_python() if missing else Path()
        for array, gemm in missing:
            progress.update(task, description=f"SCALE-Sim {array}x{array}: {gemm.name}")
            steps[array, gemm] = simulate(python, array, gemm)
            BENCHMARK.save(collect(steps))
            progress.advance(task)
        own = measure_own(rtl, lambda text: progress.update(task, description=text))
        progress.advance(task)
    result = collect(steps) | {"own": own}
    BENCHMARK.save(result)
    return result


@command(RuntimeError)
def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--rtl", action="store_true", help=f"also simulate the RTL of {PRESET}: a large build, then minutes")
    parser.add_argument("--again", action="store_true", help="forget the steps that are in scale_sim.json")
    options = BENCHMARK.begin(parser, arguments)
    try:
        result = measure(options.rtl, options.again)
    except KeyboardInterrupt:
        print("interrupted; the same command without --again goes on where this one stopped", file=sys.stderr)
        return 1
    print_tables(result)
    unexplained = any(entry["split"]["unexplained"] for part in result["scale_sim"].values() for entry in part["gemms"])
    rtl = result["own"].get("rtl", {"mismatches": 0, "cycle_model_equal": True})
    return int(rtl["mismatches"] > 0 or not rtl["cycle_model_equal"] or unexplained)


if __name__ == "__main__":
    sys.exit(main())

"""The machine's RTL as a device: whole Programs in Verilator, at simulation speed."""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

import hw
from hw.batch import Batch, MemoryImage
from hw.config import AcceleratorConfig
from hw.device import RunResult, check_program
from hw.errors import InputError
from hw.host import Report
from hw.memory_timing import MemoryTiming
from hw.program import Program
from hw.progress import stage
from hw.toolchain import cache_root
from sim.cpp_build import cached_directory, digest
from sim.rtl.bench_runner import run_bench
from sim.rtl.fast_top import MEMORY_GUARD, MEMORY_MODEL, fast_top
from sim.rtl.verilate import verilate

PROGRAM_BASE = 0x1000
"""Address of the first Program: not 0, so that a machine that forgets to add the base reads something else."""

ALIGNMENT = 4096
"""Programs, images and results start at multiples of this."""

LEAST_CAPACITY = 1 << 24
"""Bytes that every simulated memory can hold."""

LEAST_LANES = 8
"""Rows from which on the simulation is that of `sim.rtl.row_lanes`."""

MAX_CYCLES = 2_000_000_000
"""Cycles after which a run without an interrupt is a failure."""


@dataclass(frozen=True, kw_only=True)
class Job(Batch):
    """One batch for the machine, perhaps with faults, for tests.

    Attributes:
        corrupt: (byte offset, bit) of the Program to flip in the simulated memory alone.
        registers: Further settings by name, written last.
    """

    corrupt: tuple[int, int] | None = None
    registers: tuple[tuple[str, int], ...] = ()

    def program_bytes(self) -> bytes:
        """The Program as the simulated memory holds it.

        Raises:
            InputError: When ``corrupt`` names a bit outside the Program.
        """
        if self.corrupt is None:
            return self.program.memory
        offset, bit = self.corrupt
        if not 0 <= offset < len(self.program.memory) or not 0 <= bit < 8:
            raise InputError(f"Flipped bit must be in the Program's {len(self.program.memory)} bytes, not {self.corrupt}")
        memory = bytearray(self.program.memory)
        memory[offset] ^= 1 << bit
        return bytes(memory)


def memory_image() -> MemoryImage:
    """An empty memory of the simulation."""
    return MemoryImage(PROGRAM_BASE, ALIGNMENT)


def _sources_digest() -> str:
    """Digest of the packages hw and sim.rtl.row_lanes: whatever decides the simulated Verilog."""
    root = Path(hw.__file__).parents[1]
    files = sorted(file for package in ("hw", "sim/rtl/row_lanes") for file in (root / package).rglob("*.py"))
    return digest(*(part for file in files for part in (str(file.relative_to(root)), file.read_bytes())))


def accelerator_verilog(config: AcceleratorConfig) -> Path:
    """The machine's Verilog as a file in the build cache, generated when the hw package or the configuration is new."""

    def build(directory: Path) -> None:
        from hw.accelerator import generate_verilog

        with stage("Verilog of the machine, kept for the next time"):
            verilog = generate_verilog(config)
        if config.rows >= LEAST_LANES:
            from sim.rtl.row_lanes import with_row_lanes

            verilog = with_row_lanes(verilog)
        (directory / "accelerator.v").write_text(verilog, encoding="utf-8")

    key = f"accelerator-{digest(_sources_digest(), repr(config), str(LEAST_LANES))}"
    return cached_directory(cache_root() / "verilog", key, build) / "accelerator.v"


@lru_cache(maxsize=32)
def build_simulation(
    config: AcceleratorConfig,
    machine: Callable[[AcceleratorConfig], Path] = accelerator_verilog,
    capacity_bytes: int = LEAST_CAPACITY,
    quick_build: bool = False,
    timeline: bool = False,
    trace_saif: bool = False,
) -> tuple[Path, float]:
    """Build the fast simulation of a configuration, or find it in the cache.

    Args:
        config: The machine.
        machine: Gives the file with the module ``accelerator``.
        capacity_bytes: Most bytes of its memory.
        quick_build: As for `RtlDevice`.
        timeline: As for `RtlDevice`.
        trace_saif: Whether runs can record switching activity, which makes them several times slower.

    Returns:
        The executable, and the seconds it took to build or find it.

    Raises:
        BuildError: When Verilator or the compiler refuses the design.
    """
    started = time.perf_counter()
    source = machine(config)
    lanes = config.rows >= LEAST_LANES
    sources, probe = [MEMORY_MODEL, MEMORY_GUARD, source], ""
    if timeline:
        from sim.timeline.probe import PROBE, timeline_probe

        sources, probe = [*sources, PROBE], timeline_probe(config)
    with tempfile.TemporaryDirectory(prefix="pivot-top-") as directory:
        top = Path(directory) / "fast_top.sv"
        top.write_text(fast_top(config, capacity_bytes, probe), encoding="utf-8")
        executable = verilate(
            [top, *sources],
            "fast_top",
            optimization="-O3" if lanes and not quick_build else "-Og",
            arguments=["-O3", *(("--unroll-count", "1") if lanes else ())],
            compiler_arguments=["-march=native"] if lanes and not quick_build else [],
            trace_saif=trace_saif,
        )
    return executable, time.perf_counter() - started


def job_files(directory: Path) -> dict[str, str]:
    """Environment that tells a bench where its job is and where its results go."""
    return {"PIVOT_JOB": str(directory / "job.json"), "PIVOT_RESULT": str(directory / "result.json")}


class RtlDevice:
    """Simulated RTL of one configuration; built at the first run.

    Args:
        config: The machine.
        timeout_s: Wall-clock seconds after which a simulation is killed.
        quick_build: Compile a machine of `LEAST_LANES` rows or more like all smaller ones, without what makes it fast (-O3): for
            runs of few cycles.
        machine: Gives the file with the module ``accelerator``; the generated one by default.
        timeline: Record what every unit does (`sim.timeline.spans`); slower.
        activity: Where every run writes the switching activity of all signals as SAIF (see `sim.energy.saif`); none when None. Only
            for machines of fewer than `LEAST_LANES` rows, whose simulation has the hierarchy of the hardware.

    Attributes:
        timeline_text: With ``timeline``: what the last run's units did, a span a line.

    Raises:
        InputError: When ``activity`` is asked of a machine of too many rows.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        timeout_s: float = 3600.0,
        quick_build: bool = False,
        machine: Callable[[AcceleratorConfig], Path] = accelerator_verilog,
        timeline: bool = False,
        activity: Path | None = None,
    ) -> None:
        if activity is not None and config.rows >= LEAST_LANES:
            raise InputError(f"Activity is recorded of machines of at most {LEAST_LANES - 1} rows, not {config.rows}")
        self.config = config
        self.timeout_s = timeout_s
        self.quick_build = quick_build
        self.machine = machine
        self.timeline = timeline
        self.timeline_text = ""
        self.activity = activity

    def run(
        self,
        program: Program,
        images: np.ndarray,
        *,
        memory_timing: MemoryTiming | None = None,
        path_masks: tuple[int, int] | None = None,
        threshold: int | None = None,
        deadline: int | None = None,
        corrupt: tuple[int, int] | None = None,
    ) -> RunResult:
        """Run a batch; see `hw.device.Device` and `Job`.

        Raises:
            InputError: When images, Program and configuration do not fit each other.
            BuildError: When the simulation cannot be built.
            BenchFailure: When the machine never raises its interrupt, or breaks AXI's rules.
        """
        job = Job(program=program, images=images, path_masks=path_masks, threshold=threshold, deadline=deadline, corrupt=corrupt)
        return self.run_jobs([job], memory_timing=memory_timing)[0]

    def run_jobs(
        self, jobs: Sequence[Job], *, memory_timing: MemoryTiming | None = None, max_cycles: int = MAX_CYCLES
    ) -> list[RunResult]:
        """Run several batches one after the other on one simulated machine; after an error it gets a soft reset.

        Args:
            jobs: The batches.
            memory_timing: Of the simulated memory.
            max_cycles: Cycles after which a batch without an interrupt is a failure.

        Raises:
            As `run`.
        """
        for job in jobs:
            check_program(job.program, self.config)
        memory = memory_image()
        settings = [job.place(memory) for job in jobs]
        memory.align()
        runs = [placed | dict(job.registers) for job, placed in zip(jobs, settings, strict=True)]
        with tempfile.TemporaryDirectory(prefix="pivot-run-") as name:
            directory = Path(name)
            (directory / "memory.bin").write_bytes(memory.data)
            (directory / "job.json").write_text(json.dumps({"runs": runs, "max_cycles": max_cycles}), encoding="utf-8")
            build_wall_s = self.simulate(directory, len(memory.data), memory_timing or MemoryTiming())
            answers = json.loads((directory / "result.json").read_text(encoding="utf-8"))
            dump = (directory / "dump.bin").read_bytes()
        return [
            job.result(Report(**answer), dump[placed["result_base"] :], build_wall_s)
            for job, answer, placed in zip(jobs, answers, settings, strict=True)
        ]

    def simulate(self, directory: Path, size: int, timing: MemoryTiming, bench: str = "sim.benches.bench_program") -> float:
        """Run job.json on memory.bin, ``size`` bytes, to result.json and dump.bin; seconds of building.

        Raises:
            BuildError: When the simulation cannot be built.
            BenchFailure: When the bench fails.
        """
        # Powers of two, so that few builds serve all Programs.
        capacity = max(LEAST_CAPACITY, 1 << (size - 1).bit_length())
        executable, build_wall_s = build_simulation(
            self.config, self.machine, capacity, self.quick_build, self.timeline, self.activity is not None
        )
        plusargs = [f"+memory={directory / 'memory.bin'}", f"+dump={directory / 'dump.bin'}"]
        plusargs += ["+dump_offset=0", f"+dump_bytes={size}", *timing.plusargs]
        plusargs += [f"+timeline={directory / 'timeline.txt'}"] if self.timeline else []
        with stage("RTL simulation"):
            run_bench(
                executable, "fast_top", bench, plusargs=plusargs, env=job_files(directory), cwd=directory,
                timeout_s=self.timeout_s, trace_file=self.activity and self.activity.absolute(),
            )  # fmt: skip
        if self.timeline:
            self.timeline_text = (directory / "timeline.txt").read_text(encoding="utf-8")
        return build_wall_s

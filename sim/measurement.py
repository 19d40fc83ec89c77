"""Measures a workload: exactness against the golden machine, cycles, energy and the attention's share of the delay."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from hw.config import AcceleratorConfig, milliseconds
from hw.device import RunResult, mismatches
from hw.golden import GoldenDevice
from hw.memory_timing import MemoryTiming
from hw.program import Program
from hw.progress import stage
from sim.cycle_model import predict
from sim.energy.estimate import energy_by_operation, energy_mj
from sim.engines import check_engine
from sim.program_counts import count_program, operation_cycles
from sim.rtl.device import Job, RtlDevice
from sim.stimulus.workload import Workload

SCHEMA_VERSION = 1


def breakdown(counters: Mapping[str, int]) -> dict[str, int]:
    """Busy cycles by operation, without those that did not occur."""
    return {name: cycles for name, cycles in operation_cycles(counters).items() if cycles}


def signal_to_noise_db(workload: Workload, result: RunResult) -> float | None:
    """SQNR of the logits against the float network in dB; None where there is no difference at all."""
    from sw.quantization.quantize import logits_sqnr_db

    value = logits_sqnr_db(workload.float_logits, result.logits)
    return round(value, 2) if np.isfinite(value) else None


def _golden(workload: Workload) -> RunResult:
    with stage(f"golden machine, {len(workload.images)} images"):
        return GoldenDevice().run(workload.program, workload.images)


def _masks(workload: Workload) -> tuple[int, int, int]:
    """Path masks of the workload's path, of all attentions, and of none."""
    return workload.path.mask, (1 << workload.path.depth) - 1, 0


def run_rtl(workload: Workload, config: AcceleratorConfig, timing: MemoryTiming) -> tuple[RunResult, list[RunResult]]:
    """The batch, and one image each on the workload's path, with all attentions, and with none.

    All run on the same simulated machine. Cycles do not depend on the image, so one image gives the cycles.

    Raises:
        MachineError: When the machine reports an error.
    """
    jobs = [Job(program=workload.program, images=workload.images)]
    jobs += [Job(program=workload.program, images=workload.images[:1], path_masks=(mask, mask)) for mask in _masks(workload)]
    batch, *single = (result.checked() for result in RtlDevice(config).run_jobs(jobs, memory_timing=timing))
    return batch, single


def _model_counters(workload: Workload, timing: MemoryTiming) -> list[dict[str, int]]:
    """The cycle model's counters of an image on the workload's path, with all attentions, and with none."""
    return [predict(workload.program, timing, path_masks=(mask, mask)).counters for mask in _masks(workload)]


ENERGY_FIELDS = (
    "energy_mj", "energy_low_mj", "energy_high_mj", "energy_breakdown_mj", "energy_operations_mj", "average_power_w",
)  # fmt: skip


def energy_fields(
    counters: Mapping[str, int], program: Program, path_masks: tuple[int, int] | None = None, *, exit_low: bool = False
) -> dict[str, Any]:
    """`ENERGY_FIELDS` of measure.json for one image.

    Args:
        counters: The machine's counters of the image.
        program: What ran.
        path_masks: As for `sim.program_counts.count_program`.
        exit_low: The same.
    """
    config = program.config
    report = energy_mj(counters, config, counters["cycles"])
    operations = energy_by_operation(report, counters, program, path_masks, exit_low=exit_low)
    delay_ms = milliseconds(counters["cycles"], config.clock_mhz)
    return {
        "energy_mj": report.total_mj,
        "energy_low_mj": report.low_mj,
        "energy_high_mj": report.high_mj,
        "energy_breakdown_mj": report.classes_mj,
        "energy_operations_mj": {
            name: {"total": part.total_mj, "low": part.low_mj, "high": part.high_mj} for name, part in operations.items()
        },
        "average_power_w": {
            "total": report.total_mj / delay_ms,
            "low": report.low_mj / delay_ms,
            "high": report.high_mj / delay_ms,
        },
    }


def measure(
    workload: Workload, config: AcceleratorConfig, *, engine: str = "rtl", timing: MemoryTiming | None = None
) -> dict[str, Any]:
    """Run a workload on an engine, and but for ``model`` on the golden machine, too.

    Args:
        workload: What to run; for ``model`` it needs no images.
        config: The machine.
        engine: One of `sim.engines.ENGINES`.
        timing: Of the simulated memory.

    Returns:
        The fields of measure.json but `preset` and `network` (docs/measure.md); cycles, energy and counters are of one image,
        `wall_s` of the whole batch. What the engine does not know is None. ``both`` adds `model_run` and `rtl_run`, each with
        ``cycles`` and ``counters``, and `runs_equal`: all counters, on the path, with all attentions and with none.

    Raises:
        InputError: For an unknown engine.
        MachineError: When the machine reports an error.
    """
    check_engine(engine)
    timing = timing or MemoryTiming()
    macs = count_program(workload.program).macs
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model": workload.model,
        "engine": engine,
        "data": workload.data,
        "images": len(workload.images),
        "kept": list(workload.path.kept),
        "skipped": list(workload.path.skipped),
        "kinds": list(workload.path.kinds),
        "memory": vars(timing),
        "config": vars(config),
        "clock_mhz": config.clock_mhz,
        "macs": macs,
        "macs_per_cycle": config.macs_per_cycle,
    }
    if engine == "golden":
        golden = _golden(workload)
        absent = ("mismatches", "cycles", "utilization", "attention_share", "delay_ms", "breakdown")
        return fields | dict.fromkeys(absent + ENERGY_FIELDS + ("counters", "build_wall_s", "sim_cycles_per_s")) | {
            "logits_sqnr_db": signal_to_noise_db(workload, golden),
            "wall_s": golden.wall_s,
        }  # fmt: skip
    if engine == "model":
        started = time.perf_counter()
        runs = _model_counters(workload, timing)
        wall_s = (time.perf_counter() - started) / len(runs)
        fields |= {"mismatches": None, "logits_sqnr_db": None, "batch_cycles": None}
        speed = {"wall_s": wall_s, "build_wall_s": None, "sim_cycles_per_s": runs[0]["cycles"] / wall_s}
    else:
        golden, (batch, single) = _golden(workload), run_rtl(workload, config, timing)
        runs = [dict(result.counters) for result in single]
        fields |= {"mismatches": mismatches(golden, batch), "logits_sqnr_db": signal_to_noise_db(workload, batch)}
        fields["batch_cycles"] = batch.counters["cycles"]
        speed = {"wall_s": batch.wall_s, "build_wall_s": batch.build_wall_s, "sim_cycles_per_s": batch.sim_cycles_per_s}
    if engine == "both":
        model = _model_counters(workload, timing)
        fields["model_run"], fields["rtl_run"] = (
            {"cycles": counters["cycles"], "counters": counters} for counters in (model[0], runs[0])
        )
        fields["runs_equal"] = model == runs
    counters, full, none = runs
    cycles = counters["cycles"]
    return fields | speed | energy_fields(counters, workload.program) | {
        "cycles": cycles,
        "utilization": macs / (cycles * config.macs_per_cycle),
        "attention_share": 1 - none["cycles"] / full["cycles"],
        "delay_ms": milliseconds(cycles, config.clock_mhz),
        "breakdown": breakdown(counters),
        "counters": counters,
    }  # fmt: skip

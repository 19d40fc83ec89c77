"""Energy of a run: events counted by the machine times energy per event, plus static power times time.

The energy of every class is a linear form of the counters, so a million runs are one matrix product (`energy_matrix`); how a
class's energy divides over the operations is what the Program's descriptors say (`energy_by_operation`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hw.config import AcceleratorConfig, milliseconds
from hw.isa import COUNTERS
from hw.program import Program
from sim.energy.table import ENERGY_TABLE, STATIC, energy_line, events_per_count
from sim.program_counts import OperationCounts, count_operations

__all__ = [
    "ENERGY_TABLE", "EnergyReport", "bounds_mj", "energy_by_operation", "energy_events", "energy_line", "energy_matrix",
    "energy_mj",
]  # fmt: skip

PICOJOULES_PER_MILLIJOULE = 1e9

_FACTORS = np.array([line.factor for line in ENERGY_TABLE])


@dataclass(frozen=True)
class EnergyReport:
    """Energy of a run, or of a part of it.

    Attributes:
        total_mj: Millijoules.
        classes_mj: Millijoules by the names of `ENERGY_TABLE`; their sum is the total.
        low_mj: Total with every line's error downwards, errors taken as independent.
        high_mj: The same upwards.
    """

    total_mj: float
    classes_mj: dict[str, float]
    low_mj: float
    high_mj: float


def bounds_mj(classes_mj: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest total, the lines' errors taken as independent.

    Args:
        classes_mj: [..., lines] in the order of `ENERGY_TABLE`.

    Returns:
        (low, high), each [...].
    """
    total = classes_mj.sum(axis=-1)
    below = np.sqrt(np.square(classes_mj * (1 - 1 / _FACTORS)).sum(axis=-1))
    above = np.sqrt(np.square(classes_mj * (_FACTORS - 1)).sum(axis=-1))
    return total - below, total + above


def _report(classes_mj: np.ndarray) -> EnergyReport:
    """Report of one run's classes [lines]."""
    low, high = bounds_mj(classes_mj)
    named = {line.name: float(value) for line, value in zip(ENERGY_TABLE, classes_mj, strict=True)}
    return EnergyReport(sum(named.values()), named, float(low), float(high))


def energy_matrix(config: AcceleratorConfig) -> np.ndarray:
    """Millijoules of each class per count of each counter, static power over the busy cycles.

    Args:
        config: The machine.

    Returns:
        float64 [counters, lines] in the orders of `isa.COUNTERS` and `ENERGY_TABLE`; counters [..., counters] @ this is what each
        class takes.
    """
    rows = {name: number for number, (name, _) in enumerate(COUNTERS)}
    matrix = np.zeros((len(COUNTERS), len(ENERGY_TABLE)))
    forms = events_per_count(config)
    for column, line in enumerate(ENERGY_TABLE):
        if line.name in STATIC:
            matrix[rows["cycles"], column] = line.value * milliseconds(1, config.clock_mhz)
            continue
        for counter, events in forms[line.name].items():
            matrix[rows[counter], column] = events * line.value / PICOJOULES_PER_MILLIJOULE
    return matrix


def energy_events(counters: Mapping[str, int], config: AcceleratorConfig, *, dsp48: bool = True) -> dict[str, float]:
    """Events of each class but the static ones, from the machine's counters; arguments as `energy_mj`.

    Raises:
        KeyError: When a counter is missing.
    """
    forms = events_per_count(config, dsp48=dsp48)
    return {name: sum(factor * counters[counter] for counter, factor in form.items()) for name, form in forms.items()}


def energy_mj(
    counters: Mapping[str, int], config: AcceleratorConfig, cycles: int, *, dsp48: bool = True
) -> EnergyReport:
    """Energy of a run.

    Args:
        counters: The machine's counters of the run.
        config: The machine.
        cycles: Cycles over which static power is drawn.
        dsp48: Products in DSP48E2s, as on the device; else in their behavioural twin, as in simulation.

    Raises:
        KeyError: When a counter is missing.
    """
    delay_ms = milliseconds(cycles, config.clock_mhz)
    events = energy_events(counters, config, dsp48=dsp48)
    # picojoules to millijoules, watts and milliseconds to millijoules
    amounts = [delay_ms if line.name in STATIC else events[line.name] / PICOJOULES_PER_MILLIJOULE for line in ENERGY_TABLE]
    return _report(np.array([line.value * amount for line, amount in zip(ENERGY_TABLE, amounts, strict=True)]))


def _delays(parts: Mapping[str, OperationCounts], config: AcceleratorConfig) -> dict[str, float]:
    """Events of the class ``delay`` by operation."""
    form = events_per_count(config)["delay"]
    return {name: form["array_cycles"] * count.array_cycles + form["tiles"] * count.tiles for name, count in parts.items()}


def energy_by_operation(
    report: EnergyReport,
    counters: Mapping[str, int],
    program: Program,
    path_masks: tuple[int, int] | None = None,
    *,
    exit_low: bool = False,
) -> dict[str, EnergyReport]:
    """Energy of one image by operation; what takes none is left out, and the totals sum to the report's.

    Events are those of each operation's own descriptors. Bytes that no descriptor names (alignment, descriptors read and not
    executed, the record) are OTHER's. What costs time (clock, control, banks that read all the time, static power) goes with the
    busy cycles that the machine counted under each operation. Exps are SOFTMAX's, although the machine looks them up as it feeds
    CONTEXT; a NORM's cycles beside a GEMM are that GEMM's.

    Args:
        report: Of the image, by `energy_mj`.
        counters: The machine's counters of the image.
        program: What ran.
        path_masks: (low, high) masks of kept attentions; the Program's own when None.
        exit_low: Whether the image left at the first gate.
    """
    parts = count_operations(program, path_masks, exit_low=exit_low)
    moved = sum(counters[name] for name in ("weight_bytes", "system_bytes_read", "system_bytes_written"))
    time = {name: float(counters[f"operation_{name}"]) for name in parts}
    shares = {
        "exp": {"softmax": 1.0},
        "residual": {name: float(count.residual_bytes) for name, count in parts.items()},
        "lane": {name: float(count.tiles) for name, count in parts.items()},
        "delay": _delays(parts, program.config),
        "norm": {name: float(count.norm_cycles) for name, count in parts.items()},
        "dma": {name: float(count.bytes) for name, count in parts.items()},
    }
    shares["dma"]["other"] += max(0.0, moved - sum(shares["dma"].values()))
    shares["memory"] = shares["dma"]
    words = {name: float(count.array_cycles) for name, count in parts.items()}
    shares |= dict.fromkeys(("mac", "accumulate", "feed", "weight_read"), words)
    classes = {name: np.zeros(len(ENERGY_TABLE)) for name in parts}
    for column, line in enumerate(ENERGY_TABLE):
        share = shares.get(line.name, time)
        whole = sum(share.values())
        for name, part in share.items():
            classes[name][column] = report.classes_mj[line.name] * part / whole if whole else 0.0
    return {name: _report(values) for name, values in classes.items() if values.any()}

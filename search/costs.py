"""Delay and energy of paths, from counters; the cycle model gives every path's."""

from collections.abc import Callable
from dataclasses import dataclass

from hw.config import AcceleratorConfig, milliseconds
from hw.program import Program
from search.experiment import Run


@dataclass(frozen=True)
class PathCost:
    """Cost of one image on one path.

    Attributes:
        cycles: busy cycles of the machine, from start to interrupt.
        delay_ms: at the configuration's clock.
        energy_mj: by `sim.energy.estimate`.
        counters: `isa.COUNTERS` of the image.
    """

    cycles: int
    delay_ms: float
    energy_mj: float
    counters: dict[str, int]


def path_cost(config: AcceleratorConfig, counters: dict[str, int]) -> PathCost:
    """Cost of one image on a machine from its counters."""
    from sim.energy.estimate import energy_mj

    cycles = counters["cycles"]
    delay, energy = milliseconds(cycles, config.clock_mhz), energy_mj(counters, config, cycles)
    return PathCost(cycles, delay, energy.total_mj, counters)


def model_cost(run: Run, name: str, program: Callable[[], Program], mask: int | None = None) -> PathCost:
    """Cost of one image by the cycle model, which equals the RTL.

    Args:
        run: the search.
        name: of the step that keeps the answer.
        program: gives the Program if the step is not finished.
        mask: path mask; None for the Program's own.
    """
    from sim.cycle_model import predict

    def compute() -> dict[str, int]:
        masks = None if mask is None else (mask, mask)
        return predict(program(), run.memory, path_masks=masks).counters

    return path_cost(run.config, run.store.value(f"{name}.model", compute))

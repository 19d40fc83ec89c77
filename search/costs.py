"""Delay and energy of paths: by the cycle model for every path, and by the RTL for the chosen ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from search.experiment import Run, device_images

_GATED_BATCH = 16
"""Images of the gated run that are kept as one step."""


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

    @property
    def breakdown(self) -> dict[str, int]:
        """Cycles per operation."""
        prefix = "operation_"
        return {name.removeprefix(prefix): value for name, value in self.counters.items() if name.startswith(prefix)}


def path_cost(run: Run, counters: dict[str, int]) -> PathCost:
    """Cost of one image from its counters."""
    from sim.energy.estimate import energy_mj

    cycles = counters["cycles"]
    return PathCost(
        cycles, cycles / (run.config.clock_mhz * 1e3), energy_mj(counters, run.config, cycles).total_mj, counters
    )


def model_cost(run: Run, name: str, program: Callable[[], Any], mask: int | None = None) -> PathCost:
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

    return path_cost(run, run.store.value(f"{name}.model", compute))


def rtl_costs(run: Run, programs: dict[str, Any]) -> dict[str, PathCost]:
    """Costs of Programs in RTL by name, one image each: cycles do not depend on the image."""
    from sim.rtl.device import Job, RtlDevice

    image = device_images(run.data.calibration.take(1))

    def compute() -> list[dict[str, int]]:
        jobs = [Job(program=program, images=image) for program in programs.values()]
        return [dict(result.counters) for result in RtlDevice(run.config).run_jobs(jobs, memory_timing=run.memory)]

    with run.steps.step(f"RTL: {', '.join(programs)}"):
        answers = run.store.value("rtl", compute)
    return {name: path_cost(run, counters) for name, counters in zip(programs, answers, strict=True)}


def gated_images(exits_low: np.ndarray, count: int) -> np.ndarray:
    """Which images go through the gated pair in RTL: the first ones, but a quarter by each exit where there are so many.

    Args:
        exits_low: bool [n], whether each image leaves at the gate on the golden device.
        count: images wanted, at most n.

    Returns:
        int64 [count], ascending.
    """
    low, high = np.flatnonzero(exits_low), np.flatnonzero(~exits_low)
    quarter = count // 4
    at_least, at_most = min(len(low), quarter), count - min(len(high), quarter)
    wanted_low = int(np.clip(np.count_nonzero(exits_low[:count]), at_least, at_most))
    return np.sort(np.concatenate([low[:wanted_low], high[: count - wanted_low]]))


def gated_run(run: Run, program: Any, exits_low: np.ndarray) -> dict[str, Any]:
    """The gated pair in RTL on test images (see `gated_images`), compared with the golden device.

    Args:
        run: the search.
        program: the pair.
        exits_low: bool [test images], the golden device's exits.

    Returns:
        ``images``, ``exits_low``, ``mismatches`` (images whose exit, entropy or any logit differs), ``cycles_low`` and
        ``cycles_high``: mean cycles of an image by exit, None without one.
    """
    from hw.device import EXIT_LOW, mismatches
    from hw.golden import GoldenMachine
    from sim.rtl.device import RtlDevice

    images = device_images(run.data.test)[gated_images(exits_low, run.arguments.rtl_images)]
    golden, device = GoldenMachine(program), RtlDevice(run.config)

    def compute(start: int) -> dict[str, Any]:
        batch = images[start : start + _GATED_BATCH]
        rtl = device.run(program, batch, memory_timing=run.memory)
        low = rtl.exits == EXIT_LOW
        return {
            "images": len(batch),
            "exits_low": int(low.sum()),
            "mismatches": mismatches(golden.run(batch), rtl),
            "cycles_low": int(rtl.cycles[low].sum()),
            "cycles_high": int(rtl.cycles[~low].sum()),
        }

    total: dict[str, Any] = {}
    with run.steps.step(f"RTL: {len(images)} test images through the gated pair") as update:
        for start in range(0, len(images), _GATED_BATCH):
            part = run.store.value(f"gated from image {start}", partial(compute, start))
            total = {name: total.get(name, 0) + value for name, value in part.items()}
            update(total["images"], len(images))
    high = total["images"] - total["exits_low"]
    return total | {
        "cycles_low": total["cycles_low"] / total["exits_low"] if total["exits_low"] else None,
        "cycles_high": total["cycles_high"] / high if high else None,
    }

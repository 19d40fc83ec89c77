"""Delay and energy of paths: counted by the RTL, one image per path, since cycles do not depend on the image."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from search.run import Run, device_images

_GATED_BATCH = 16
"""Images of the gated run that are kept as one step."""


@dataclass(frozen=True)
class PathCost:
    """Cost of one image on one path.

    Attributes:
        cycles: from the image's start to its record.
        delay_ms: at the configuration's clock.
        energy_mj: by `sim.energy`.
        counters: the machine's counters of the run.
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


def path_cost(run: Run, cycles: int, counters: dict[str, int]) -> PathCost:
    """Cost of one image from its cycles and counters."""
    from sim.energy import energy_mj

    energy = energy_mj(counters, run.config, cycles)
    return PathCost(cycles, cycles / (run.config.clock_mhz * 1e3), energy.total_mj, counters)


def rtl_costs(run: Run, name: str, jobs: list[tuple[Any, int | None]]) -> list[PathCost]:
    """Costs of Programs in RTL, one image each.

    Args:
        run: the search.
        name: of the step that keeps the answer.
        jobs: (Program, path mask or None for the Program's own).
    """
    from sim.rtl_device import Job, RtlDevice

    image = device_images(run.data.calibration.take(1))

    def compute() -> list[dict[str, Any]]:
        batch = [
            Job(program=program, images=image, path_masks=None if mask is None else (mask, mask)) for program, mask in jobs
        ]
        results = RtlDevice(run.config).run_jobs(batch, memory_timing=run.memory)
        return [{"cycles": int(r.cycles[0]), "counters": dict(r.counters)} for r in results]

    with run.steps.step(f"RTL: {name}"):
        answers = run.store.value(name, compute)
    return [path_cost(run, answer["cycles"], answer["counters"]) for answer in answers]


class AdditiveCycles:
    """Cycles of any path: those of the whole network less what skipping each encoder's attention alone saves.

    Every term is an RTL run of the same Program under another path mask; the sum is checked against RTL runs of the
    chosen paths in the same search.
    """

    def __init__(self, full: int, without: list[int]):
        """Take the cycles of the whole network and those without the attention of encoder i alone."""
        self.full = full
        self.saved = [full - cycles for cycles in without]

    @staticmethod
    def measure(run: Run, program: Any) -> "AdditiveCycles":
        """Measure on a Program of the whole network with its path mask register."""
        depth = run.network.depth
        every = (1 << depth) - 1
        masks = [every] + [every & ~(1 << index) for index in range(depth)]
        costs = rtl_costs(run, "additive cycles", [(program, mask) for mask in masks])
        return AdditiveCycles(costs[0].cycles, [cost.cycles for cost in costs[1:]])

    def cycles(self, kept: tuple[int, ...]) -> int:
        """Cycles of one image on a path."""
        return self.full - sum(saved for index, saved in enumerate(self.saved) if index not in kept)


def gated_run(run: Run, program: Any) -> dict[str, Any]:
    """The gated pair in RTL on the first test images, compared with the golden device.

    Returns:
        ``images``, ``exits_low``, ``mismatches`` (images whose exit, entropy or any logit differs), ``cycles_low`` and
        ``cycles_high``: mean cycles of an image by exit, None without one.
    """
    from hw.device import EXIT_LOW, mismatches
    from hw.golden import GoldenMachine
    from sim.rtl_device import RtlDevice

    images = device_images(run.data.test.take(run.arguments.rtl_images))
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

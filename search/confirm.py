"""Confirmation in RTL: the chosen paths beside the cycle model, and test images through the gated pair."""

from functools import partial
from typing import Any

import numpy as np

from hw.program import Program
from search.costs import PathCost, path_cost
from search.experiment import Run
from sw.data.pixels import to_pixels

_GATED_BATCH = 16
"""Images of the gated run that are kept as one step."""


def rtl_costs(run: Run, programs: dict[str, Program]) -> dict[str, PathCost]:
    """Costs of Programs in RTL by name, one image each: cycles do not depend on the image."""
    from sim.rtl.device import Job, RtlDevice

    image = to_pixels(run.data.calibration.take(1).images)

    def compute() -> list[dict[str, int]]:
        jobs = [Job(program=program, images=image) for program in programs.values()]
        return [dict(result.counters) for result in RtlDevice(run.config).run_jobs(jobs, memory_timing=run.memory)]

    with run.steps.step(f"RTL: {', '.join(programs)}"):
        answers = run.store.value("rtl", compute)
    return {name: path_cost(run.config, counters) for name, counters in zip(programs, answers, strict=True)}


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


def gated_run(run: Run, program: Program, exits_low: np.ndarray) -> dict[str, Any]:
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
    from hw.golden import GoldenDevice
    from sim.rtl.device import RtlDevice

    images = to_pixels(run.data.test.images)[gated_images(exits_low, run.arguments.rtl_images)]
    golden, device = GoldenDevice(run.config), RtlDevice(run.config)

    def compute(start: int) -> dict[str, Any]:
        batch = images[start : start + _GATED_BATCH]
        rtl = device.run(program, batch, memory_timing=run.memory)
        low = rtl.exits == EXIT_LOW
        return {
            "images": len(batch),
            "exits_low": int(low.sum()),
            "mismatches": mismatches(golden.run(program, batch), rtl),
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

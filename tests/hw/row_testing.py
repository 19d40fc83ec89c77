"""A clocked simulation of one row component, ended by its bench or by a watchdog."""

from amaranth.sim import Simulator

from hw.config import AcceleratorConfig


def small_config(**changes: int) -> AcceleratorConfig:
    """A machine small enough for Amaranth's simulator."""
    fields = dict(
        rows=2, cols=3, depth=2, activation_words=32, residual_words=16, weight_words=16, kv_words=16,
        parameter_tiles=4, row_tiles=3, classes=4,
    )  # fmt: skip
    return AcceleratorConfig(**{**fields, **changes})


def simulate(component, bench, *, cycles: int = 20_000) -> None:
    """Run ``async bench(ctx)`` to its end on ``component`` with a clock; more than ``cycles`` cycles fail."""
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    finished = False

    async def watched(ctx):
        nonlocal finished
        await bench(ctx)
        finished = True

    simulator.add_testbench(watched)
    simulator.run_until(cycles * 1e-6)
    assert finished, f"bench did not end within {cycles} cycles"

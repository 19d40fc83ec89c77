"""Components in Amaranth's simulator: elaborated and compiled once, started from their initial state for every run."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from amaranth.hdl import Elaboratable
from amaranth.sim import Simulator

CLOCK_PERIOD = 1e-6
KEPT = 32
"""Components that are kept elaborated: those of one test file, most of which come back under other stimulus."""


class Simulation:
    """A component under a clock; what the simulator compiled serves every run."""

    def __init__(self, component: Elaboratable):
        self.simulator = Simulator(component)
        self.simulator.add_clock(CLOCK_PERIOD)
        self.used = False
        self.slots = 0
        self.cycles = 0
        self.testbench: Callable | None = None
        self.processes: tuple[Callable, ...] = ()

        async def testbench(ctx):
            await self.testbench(ctx)

        async def watchdog(ctx):
            await ctx.delay(self.cycles * CLOCK_PERIOD)
            raise AssertionError(f"testbench must end within {self.cycles} cycles")

        self.simulator.add_testbench(testbench)
        self.simulator.add_testbench(watchdog, background=True)

    def _add_slot(self) -> None:
        """A place for one process of a run; it stays empty in runs of fewer."""
        slot = self.slots
        self.slots += 1

        async def process(ctx):
            if slot < len(self.processes):
                await self.processes[slot](ctx)

        self.simulator.add_process(process)

    def run(self, testbench: Callable, *processes: Callable, cycles: int) -> None:
        """Signals and memories as at first, then ``testbench`` to its end beside ``processes``."""
        self.testbench, self.processes, self.cycles = testbench, processes, cycles
        if self.used:
            self.simulator.reset()
        self.used = True
        while self.slots < len(processes):
            self._add_slot()
        self.simulator.run()


@lru_cache(KEPT)
def cached(component: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """``component(*arguments, **options)``, the same object whenever it is asked for, so that `simulate` elaborates it once."""
    return component(*arguments, **options)


_simulation = lru_cache(KEPT)(Simulation)


def simulate(component: Elaboratable, testbench: Callable, *processes: Callable, cycles: int = 20_000) -> None:
    """Run ``async testbench(ctx)`` to its end beside processes, from the reset state on; more than ``cycles`` cycles fail."""
    try:
        _simulation(component).run(testbench, *processes, cycles=cycles)
    except BaseException:
        _simulation.cache_clear()  # what stopped half-way may wake up in the next run
        raise

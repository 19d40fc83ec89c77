"""A component of one's own with model, latency and bench, as those of `hw` are made: ``python examples/own_component.py``."""

import functools
import random

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.sim import Simulator


class SaturatingAccumulator(wiring.Component):
    """Sums the numbers of a run, all of ``width`` bits, each addition saturated; a number per cycle if sums are taken at once.

    Members:
        numbers: In, stream of ``value`` and ``last``, which ends a run.
        sums: Out, stream of signed sums, valid `latency` cycles after the last number of its run was taken.
    """

    latency = 1

    def __init__(self, width: int) -> None:
        self.width, self.least, self.greatest = width, -(1 << (width - 1)), (1 << (width - 1)) - 1
        number = data.StructLayout({"value": signed(width), "last": 1})
        super().__init__({"numbers": wiring.In(stream.Signature(number)), "sums": wiring.Out(stream.Signature(signed(width)))})

    def model(self, run: list[int]) -> int:
        """Sum of a run."""
        return functools.reduce(lambda total, value: min(max(total + value, self.least), self.greatest), run, 0)

    def elaborate(self, platform) -> Module:
        """The running sum is held where the finished one is shown; a run may begin while the sum before it is taken."""
        m = Module()
        total = Signal(signed(self.width + 1))  # an addition gains one bit
        m.d.comb += self.numbers.ready.eq(~self.sums.valid | self.sums.ready)
        m.d.comb += total.eq(Mux(self.sums.valid, 0, self.sums.payload) + Mux(self.numbers.valid, self.numbers.payload.value, 0))
        with m.If(self.numbers.ready):
            m.d.sync += self.sums.valid.eq(self.numbers.valid & self.numbers.payload.last)
            m.d.sync += self.sums.payload.eq(Mux(total < self.least, self.least, Mux(total > self.greatest, self.greatest, total)))
        return m


def check(width: int, idle: float) -> None:
    """Hold random runs against model and latency; before a transfer, a side idles another cycle with probability ``idle``."""
    adder, rng = SaturatingAccumulator(width), random.Random(width)
    runs = [[rng.randint(adder.least, adder.greatest) for _ in range(rng.randint(1, 20))] for _ in range(50)]

    async def transfer(ctx, port, mine, other):
        while rng.random() < idle:
            await ctx.tick()
        ctx.set(mine, 1)
        (payload,) = await ctx.tick().sample(port.payload).until(other)
        ctx.set(mine, 0)
        return payload

    async def send(ctx):
        for value, last in ((value, index == len(run)) for run in runs for index, value in enumerate(run, start=1)):
            ctx.set(adder.numbers.payload, {"value": value, "last": last})
            await transfer(ctx, adder.numbers, adder.numbers.valid, adder.numbers.ready)

    async def take(ctx):
        for run in runs:
            assert await transfer(ctx, adder.sums, adder.sums.ready, adder.sums.valid) == adder.model(run), run

    async def watch(ctx):
        due, numbers = [0] * adder.latency, adder.numbers
        async for *_, ends, valid in ctx.tick().sample(numbers.valid & numbers.ready & numbers.payload.last, adder.sums.valid):
            assert valid or not due[0], "a sum must be valid `latency` cycles after its run"
            due = [*due[1:], ends]

    simulator = Simulator(adder)
    simulator.add_clock(1e-6)
    simulator.add_testbench(send)
    simulator.add_testbench(take)
    simulator.add_testbench(watch, background=True)
    simulator.run()


for width, idle in ((8, 0.0), (8, 0.5), (3, 0.7)):
    check(width, idle)
    print(f"{width} bits, each side idle with probability {idle}: 50 sums as the model's, in time")

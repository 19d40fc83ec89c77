import numpy as np
import pytest

from hw.row.divider import NormalizedDivider
from hw.timing import DIVIDE_LATENCY
from tests.hw.cycle_trace import seeded
from tests.hw.simulation import simulate


def cases(rng, width):
    corners = [1, 2, 3, 127, 128, (1 << (width - 1)) - 1, 1 << (width - 1), (1 << width) - 1]
    for divisor in corners:
        for multiplier in (1, 1 << 15, (1 << 16) - 1):
            yield multiplier, divisor
    for _ in range(60):
        yield rng.randrange(1, 1 << 16), max(1, rng.getrandbits(width) >> rng.randrange(width))


@pytest.mark.parametrize("width", [16, 23, 31])
def test_equals_model_with_exact_latency(width):
    rng = seeded(2)
    divider = NormalizedDivider(width)

    async def bench(ctx):
        for number, (multiplier, divisor) in enumerate(cases(rng, width)):
            ctx.set(divider.multiplier, multiplier)
            ctx.set(divider.divisor, divisor)
            ctx.set(divider.start, 1)
            assert ctx.get(divider.done) == 0
            for cycle in range(DIVIDE_LATENCY):
                await ctx.tick()
                ctx.set(divider.start, 0)
                ctx.set(divider.divisor, rng.getrandbits(width))
                ctx.set(divider.multiplier, rng.getrandbits(16))
                assert ctx.get(divider.done) == (cycle == DIVIDE_LATENCY - 1)
            quotient, exponent = NormalizedDivider.model(multiplier, np.array(divisor))
            assert exponent == divisor.bit_length()
            assert (ctx.get(divider.quotient), ctx.get(divider.exponent)) == (quotient, exponent)
            # Every other start comes as early as it may, the others find the result held.
            await ctx.tick()
            for _ in range(3 * (number % 2)):
                assert (ctx.get(divider.quotient), ctx.get(divider.done)) == (quotient, 0)
                await ctx.tick()

    simulate(divider, bench)


def test_divisor_zero_ends():
    divider = NormalizedDivider()

    async def bench(ctx):
        ctx.set(divider.start, 1)
        ctx.set(divider.multiplier, 40000)
        await ctx.tick()
        ctx.set(divider.start, 0)
        await ctx.tick().until(divider.done)
        assert ctx.get(divider.exponent) == 0

    simulate(divider, bench, cycles=2 * DIVIDE_LATENCY)

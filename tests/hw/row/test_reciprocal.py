import numpy as np

from hw.row.reciprocal import Reciprocal
from hw.timing import DIVIDE_LATENCY
from tests.hw.cycle_trace import seeded
from tests.hw.row.row_testing import small_config
from tests.hw.simulation import simulate


def test_keeps_the_result_per_row_tile():
    rng = seeded(3)
    reciprocal = Reciprocal(small_config(row_tiles=3))
    expected = {}

    async def check(ctx):
        for row_tile, (quotient, exponent) in expected.items():
            ctx.set(reciprocal.row_tile, row_tile)
            assert (ctx.get(reciprocal.quotient), ctx.get(reciprocal.exponent)) == (quotient, exponent)

    async def bench(ctx):
        for number in range(40):
            row_tile = number % 3
            total, multiplier = (
                rng.choice((1, 127, rng.randrange(1, 1 << 15), (1 << 23) - 1)),
                rng.randrange(1 << 15, 1 << 16),
            )
            ctx.set(reciprocal.start, {"valid": 1, "sum": total, "row_tile": row_tile, "multiplier": multiplier})
            for _ in range(DIVIDE_LATENCY + 1):
                await check(ctx)  # the old result, until the very last cycle
                await ctx.tick()
                ctx.set(reciprocal.start, {"valid": 0, "sum": 5, "row_tile": (row_tile + 1) % 3, "multiplier": 7})
            expected[row_tile] = Reciprocal.model(multiplier, np.array(total))
        await check(ctx)

    simulate(reciprocal, bench)

import numpy as np
import pytest

from hw import numerics
from hw.row.row_moments import RowMoments
from hw.row.row_statistics import RowStatistics
from hw.row.square_root import SquareRoot
from hw.timing import SQRT_STEPS, STATISTICS_LATENCY
from tests.hw.cycle_trace import seeded, signed_corner, trace
from tests.hw.row.row_testing import small_config
from tests.hw.simulation import simulate


def norm_parameters(rng, channels):
    inverse, inverse_shift = numerics.multiplier_and_shift(1 / channels)
    epsilon = rng.choice((1, rng.getrandbits(20) + 1, (1 << 32) - 1))
    return {
        "channels": channels, "inverse": int(inverse), "inverse_shift": int(inverse_shift), "epsilon": epsilon,
        "multiplier": rng.randrange(1 << 15, 1 << 16),
    }  # fmt: skip


def updates(rng, values, row_tile, columns):
    """A row tile's elements as updates, ``columns`` per tile, with slots beyond the last element and gaps."""
    for first in range(0, len(values), columns):
        chunk = list(values[first : first + columns])
        chunk += [0] * (columns - len(chunk))
        for column, value in enumerate(chunk):
            yield {
                "valid": 1, "start": int(first == 0), "first": int(column == 0), "last": int(column == columns - 1),
                "row_tile": row_tile, "value": int(value),
            }  # fmt: skip
            if rng.random() < 0.05:
                yield {"valid": 0, "first": 1, "value": 55}


@pytest.mark.parametrize("columns", [1, 4])
def test_moments_of_interleaved_row_tiles(columns):
    rng = seeded(6)
    rows = {row_tile: [signed_corner(rng, 16) for _ in range(11)] for row_tile in range(3)}
    moments = RowMoments(small_config(row_tiles=3))
    stream = [[], [], []]
    for row_tile, values in rows.items():
        for update in updates(rng, values, row_tile, columns):
            stream[row_tile].append(update)
    # Weight-major order: tile by tile, all row tiles of a column tile one after the other.
    inputs, tile = [], [0, 0, 0]
    while any(stream):
        for row_tile in range(3):
            while stream[row_tile]:
                update = stream[row_tile].pop(0)
                inputs.append({"update": update})
                if update["valid"] and update["last"]:
                    break
            tile[row_tile] += 1
    inputs += [{}]
    looked_up = trace(moments, inputs + [{"row_tile": row_tile} for row_tile in range(3)], ("sum", "square_sum"))[-3:]
    expected = [{"sum": sum(v), "square_sum": sum(x * x for x in v)} for v in rows.values()]
    assert looked_up == expected


def test_root_equals_model():
    rng = seeded(7)
    root = SquareRoot()
    values = [0, 1, 2, 3, 4, (1 << 54) - 1, (1 << 27) ** 2 - 2 * (1 << 27) + 1, ((1 << 27) - 1) ** 2 - 1]
    values += [rng.getrandbits(54) >> rng.randrange(54) for _ in range(60)]

    async def bench(ctx):
        for value in values:
            ctx.set(root.start, 1)
            ctx.set(root.digits, rng.getrandbits(2))
            for step in range(SQRT_STEPS + 1):
                assert not ctx.get(root.done)
                await ctx.tick()
                ctx.set(root.start, 0)
                ctx.set(root.digits, value << 2 * step >> 2 * SQRT_STEPS - 2 & 3)
            assert (ctx.get(root.done), ctx.get(root.root)) == (1, int(SquareRoot.model(value)))
            await ctx.tick()

    simulate(root, bench)


def rows_of(rng, channels):
    yield np.full(channels, -32768)
    yield np.full(channels, 32767)
    yield np.zeros(channels, dtype=np.int64)
    yield np.array([(-32768, 32767)[index % 2] for index in range(channels)])
    for scale in (1, 50, 3000):
        yield np.array([round(rng.gauss(scale / 3, scale)) for _ in range(channels)]).clip(-32768, 32767)


@pytest.mark.parametrize("channels", [1, 7, 96, 384])
def test_equals_model_at_the_stated_latency(channels):
    """Statistics of the next row tile run during the pass of this one, and begin with its capture."""
    rng = seeded(channels)
    config = small_config(row_tiles=2)
    rows = list(rows_of(rng, channels))
    if channels > 100:
        rows = rows[:1] + rows[3:5]
    unit = RowStatistics(config)
    results = []

    async def bench(ctx):
        for row in rows:
            for update in updates(rng, row, 1, 5):
                ctx.set(unit.update, update)
                await ctx.tick()
            ctx.set(unit.update, {})  # the command comes one cycle after the last update
            job = norm_parameters(rng, channels)
            ctx.set(unit.command, job | {"statistics": 1, "row_tile": 1})
            for _ in range(STATISTICS_LATENCY):
                await ctx.tick()
                ctx.set(unit.command, {"inverse": 1, "channels": 5})
            ctx.set(unit.command, {"capture": 1, "statistics": 1, "row_tile": 0, "inverse_shift": 20})
            await ctx.tick()
            ctx.set(unit.command, {})
            if results:
                assert read(ctx) == results[-1]  # the element before the capture still needs the old ones
            await ctx.tick()
            mean, *rest = (int(x) for x in RowStatistics.model(row.astype(np.int16), **job))
            results.append((-mean, *rest))
            for _ in range(STATISTICS_LATENCY + 5):
                assert read(ctx) == results[-1]
                await ctx.tick()

    def read(ctx):
        return ctx.get(unit.minus_mean), ctx.get(unit.quotient), ctx.get(unit.exponent)

    simulate(unit, bench)
    assert len({result[1] for result in results}) > 1

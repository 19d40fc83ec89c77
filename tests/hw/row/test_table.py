import numpy as np

from hw.row.table import Table, exp_table
from tests.hw.cycle_trace import seeded
from tests.hw.row.row_testing import gelu_table
from tests.hw.simulation import simulate


def test_model_and_helpers():
    assert exp_table(0.1).dtype == np.uint8
    assert exp_table(0.1)[0] == 127
    table = gelu_table(0.05, 0.05, -100)
    assert table.dtype == np.int8
    assert table[128] == -100  # gelu(0) = 0
    assert Table.model(table, np.array([0, 255])).tolist() == [table[0], table[255]]


def test_reads_are_combinational_and_see_the_last_write():
    rng = seeded(1)
    table = Table(width=7, read_ports=3)
    expected = [[0] * 256, [0] * 256]

    async def bench(ctx):
        for _ in range(1500):
            slot, index, value = rng.randrange(2), rng.randrange(256), rng.randrange(128)
            valid = rng.randrange(2)
            ctx.set(table.write, {"valid": valid, "slot": slot, "index": index, "data": value})
            for port in range(3):
                select = (rng.randrange(2), rng.randrange(256)) if port else (slot, index)
                ctx.set(table.select[port], {"slot": select[0], "index": select[1]})
                assert ctx.get(table.value[port]) == expected[select[0]][select[1]]
            if valid:
                expected[slot][index] = value
            await ctx.tick()

    simulate(table, bench)

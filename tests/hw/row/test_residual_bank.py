from hw.row.residual_bank import RESIDUAL_READ_LATENCY, ResidualBank
from tests.hw.cycle_trace import seeded, signed_corner, trace
from tests.hw.row.row_testing import small_config


def test_reads_and_writes():
    rng = seeded(5)
    depth, words = 3, 5
    memory = [[0] * depth for _ in range(words)]
    inputs, expected = [], []
    for _ in range(2000):
        reads, write = [rng.randrange(words) for _ in range(2)], rng.randrange(words)
        cycle = {name: {"valid": 1, "address": read} for name, read in zip(("lane_read", "norm_read"), reads, strict=True)}
        expected.append([list(memory[read]) for read in reads])
        kind = rng.randrange(3)
        if kind == 1:
            element, value = rng.randrange(depth), signed_corner(rng, 16)
            cycle["lane_write"] = {"valid": 1, "address": write, "element": element, "data": value & 0xFFFF}
            memory[write][element] = value
        elif kind == 2:
            memory[write] = [signed_corner(rng, 16) for _ in range(depth)]
            word = sum((value & 0xFFFF) << (16 * index) for index, value in enumerate(memory[write]))
            cycle["load_write"] = {"valid": 1, "address": write, "data": word}
        inputs.append(cycle)
    inputs += [{}] * RESIDUAL_READ_LATENCY
    bank = ResidualBank(small_config(pe_depth=depth, residual_words=words))
    recorded = trace(bank, inputs, ("lane_word", "norm_word"))[RESIDUAL_READ_LATENCY:]
    assert [[cycle["lane_word"], cycle["norm_word"]] for cycle in recorded] == expected

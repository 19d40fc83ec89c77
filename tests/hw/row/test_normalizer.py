import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.commands import norm_command
from hw.row.normalizer import LayerNorm, Normalizer, masked_write
from hw.row.residual_bank import ResidualBank, word_write
from hw.row.row_moments import statistics_update
from hw.row.row_statistics import RowStatistics
from hw.timing import NORM_LATENCY, STATISTICS_LATENCY
from tests.hw.cycle_trace import seeded, trace
from tests.hw.row.row_testing import small_config


class LayerNormWithBank(wiring.Component):
    """LayerNorm and its residual bank."""

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "update": In(statistics_update(config)),
                "command": In(norm_command(config)),
                "load_write": In(word_write(config)),
                "normalized_write": Out(masked_write(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.norm, m.submodules.bank = norm, bank = LayerNorm(self.config), ResidualBank(self.config)
        m.d.comb += [
            norm.update.eq(self.update),
            norm.command.eq(self.command),
            bank.load_write.eq(self.load_write),
            bank.norm_read.eq(norm.residual_read),
            norm.residual_word.eq(bank.norm_word),
            self.normalized_write.eq(norm.normalized_write),
        ]
        return m


def stimulus(config, rows, job):
    """Loads, updates, then statistics and pass of every row tile, the next statistics with the capture of the pass before."""
    depth, channels = config.pe_depth, rows.shape[1]
    words = -(-channels // depth)
    inputs = []
    padded = np.pad(rows, ((0, 0), (0, words * depth - channels)))
    for row_tile, row in enumerate(padded):
        for word, elements in enumerate(row.reshape(words, depth)):
            data = sum((int(x) & 0xFFFF) << (16 * i) for i, x in enumerate(elements))
            inputs.append({"load_write": {"valid": 1, "address": row_tile * words + word, "data": data}})
    for row_tile, row in enumerate(rows):
        for index, value in enumerate(row):
            edge = {"start": int(index == 0), "first": int(index == 0), "last": int(index == channels - 1)}
            inputs.append({"update": {"valid": 1, "row_tile": row_tile, "value": int(value)} | edge})
    groups = depth // config.norm_elements
    interval = max(STATISTICS_LATENCY, words * groups)
    for row_tile in range(len(rows) + 1):
        for cycle in range(interval):
            command = dict(job)
            if row_tile < len(rows) and cycle == 0:
                command |= {"statistics": 1, "row_tile": row_tile}
            if row_tile and cycle < words * groups:
                word = (row_tile - 1) * words + cycle // groups
                command |= {
                    "valid": 1,
                    "capture": int(cycle == 0),
                    "source": word,
                    "destination": word,
                    "group": cycle % groups,
                }
            inputs.append({"command": command})
    return inputs + [{}] * (NORM_LATENCY - 1), words


@pytest.mark.parametrize(
    ("depth", "norm_elements", "channels", "tiles"), [(4, 1, 13, 3), (8, 2, 96, 3), (6, 6, 24, 2), (1, 1, 120, 3)]
)
def test_rtl_equals_model(depth, norm_elements, channels, tiles):
    rng = np.random.default_rng(seeded(depth * 7 + channels).randrange(1 << 30))
    rows = np.rint(rng.normal(100, 1, (tiles, channels)) * (10.0 ** rng.integers(0, 3, (tiles, 1)))).astype(np.int16)
    rows[0, 0] = 32767
    words = -(-channels // depth)
    config = small_config(
        pe_depth=depth,
        norm_elements=norm_elements,
        row_tiles=tiles,
        residual_words=tiles * words,
        normalized_words=tiles * words,
    )
    inverse, inverse_shift = numerics.multiplier_and_shift(1 / channels)
    multiplier, shift = numerics.multiplier_and_shift(channels * 30 / 16)
    job = {
        "inverse": int(inverse),
        "inverse_shift": int(inverse_shift),
        "epsilon": 12345,
        "multiplier": int(multiplier),
    }
    inputs, words = stimulus(config, rows, job | {"channels": channels, "shift": int(shift)})
    recorded = [cycle["normalized_write"] for cycle in trace(LayerNormWithBank(config), inputs, ("normalized_write",))]
    valid_commands = np.array([bool(cycle.get("command", {}).get("valid")) for cycle in inputs])
    writes = np.array([bool(write["valid"]) for write in recorded])
    assert np.array_equal(writes[NORM_LATENCY - 1 :], valid_commands[: len(inputs) - NORM_LATENCY + 1])

    bank = np.zeros((tiles * words, depth), dtype=np.int8)
    for write in recorded:
        for byte in range(depth):
            if write["valid"] and write["mask"] >> byte & 1:
                bank[write["address"], byte] = np.uint8(write["data"] >> (8 * byte) & 0xFF).astype(np.int8)
    result = bank.reshape(tiles, words * depth)[:, :channels]
    expected = LayerNorm.model(rows, int(inverse), int(inverse_shift), 12345, int(multiplier), int(shift))
    assert np.array_equal(result, expected)
    assert np.abs(expected.astype(int)).max() > 50


def test_model_is_exact_where_it_uses_float():
    rng = np.random.default_rng(9)
    residual = rng.integers(-32768, 32768, (400, 8)).astype(np.int16)
    mean = rng.integers(-(1 << 19), 1 << 19, 400)
    quotient, exponent = rng.integers(0, 1 << 17, 400), rng.integers(0, 28, 400)
    for shift in (0, 5, 9, 12, 20, 36):
        scaled = (16 * residual.astype(np.int64) - mean[:, None]) * quotient[:, None]
        expected = numerics.saturate(numerics.rounding_shift(scaled, exponent[:, None] + shift), 8)
        assert np.array_equal(Normalizer.model(residual, mean, quotient, exponent, shift), expected)
    # Products that sit exactly on a rounding boundary.
    half = Normalizer.model(np.array([[1, 3, -1, -3]], dtype=np.int16), np.array([0]), np.array([1 << 16]), np.array([20]), 1)
    assert half.tolist() == [[1, 2, 0, -1]]


def test_statistics_of_all_equal_elements_do_not_divide_by_zero():
    mean, quotient, exponent = RowStatistics.model(np.full((2, 5), -7, dtype=np.int16), 5, 52429, 18, 1, 40000)
    assert mean.tolist() == [-112, -112]
    assert (quotient * 2.0**-exponent).tolist() == [40000, 40000]

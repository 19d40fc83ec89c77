"""How far the integer arithmetic may be from real numbers."""

import numpy as np
import pytest

from hw import numerics
from hw.row.normalizer import LayerNorm
from hw.row.reciprocal import Reciprocal
from hw.row.table import Table, exp_table


@pytest.mark.parametrize("scale", [0.005, 0.02, 0.05, 0.1, 0.5])
def test_exp_table_is_within_half_a_unit(scale):
    distance = np.arange(256)
    assert np.abs(exp_table(scale) - 127 * np.exp(-scale * distance)).max() <= 0.5


@pytest.mark.parametrize("scale", [0.02, 0.05, 0.1])
def test_softmax_error(scale):
    """Weights of a row of integer scores: each within half an exp unit of the sum, and the reciprocal's 2^-15."""
    rng = np.random.default_rng(11)
    scores = rng.integers(-128, 128, (200, 197))
    exps = Table.model(exp_table(scale), scores.max(axis=1, keepdims=True) - scores).astype(np.int64)
    total = exps.sum(axis=1)
    quotient, exponent = Reciprocal.model(40000, total)
    weights = exps * (quotient * 2.0**-exponent / 40000)[:, None]
    real = np.exp(scale * (scores - scores.max(axis=1, keepdims=True)))
    real /= real.sum(axis=1, keepdims=True)
    # Numerator and sum are off by half a unit per key at most.
    bound = (0.5 + 0.5 * exps.shape[1] * weights) / total[:, None] + 2.0**-15
    assert (np.abs(weights - real) <= bound).all()
    assert np.sqrt(np.mean((weights - real) ** 2) / np.mean(real**2)) < 0.02


def test_reciprocal_is_within_two_to_the_minus_15():
    rng = np.random.default_rng(12)
    sums = np.concatenate([np.arange(1, 5000), 1 << np.arange(31), rng.integers(1, 1 << 31, 20000)])
    for multiplier in (1 << 15, 40961, (1 << 16) - 1):
        quotient, exponent = Reciprocal.model(multiplier, sums)
        assert quotient.max() < 1 << numerics.QUOTIENT_WIDTH
        relative = quotient * 2.0**-exponent * sums / multiplier - 1
        assert relative.max() <= 0
        assert relative.min() >= -(2.0**-15)


@pytest.mark.parametrize("channels", [24, 96, 384, 768, 4095])
@pytest.mark.parametrize("deviation", [40, 700, 6000])
def test_layer_norm_is_within_one_unit(channels, deviation):
    rng = np.random.default_rng(channels + deviation)
    offset = rng.normal(0, deviation, (64, 1))
    residual = np.clip(np.rint(rng.normal(offset, deviation, (64, channels))), -32768, 32767).astype(np.int16)
    units = 127 / 4  # output units per standard deviation
    inverse, inverse_shift = numerics.multiplier_and_shift(1 / channels)
    # y = (16 x - mean) / root * n / 16 * units, as root is n standard deviations.
    multiplier, shift = numerics.multiplier_and_shift(channels / 16 * units)
    epsilon = max(1, round(channels**2 * 1e-3))
    y = LayerNorm.model(residual, int(inverse), int(inverse_shift), epsilon, int(multiplier), int(shift)).astype(float)
    x = residual.astype(float)
    real = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-3) * units
    error = np.abs(y - np.clip(real, -128, 127))
    print(f"largest error {error.max():.3f} units")
    assert error.max() <= 1
    assert np.sqrt(np.mean(error**2)) < 0.4  # rounding alone is 0.29

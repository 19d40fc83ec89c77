import math

import numpy as np
import pytest

from hw import numerics


def test_rounding_is_half_up():
    values = np.array([-6, -5, -3, -2, -1, 0, 1, 2, 3, 5, 6])
    assert numerics.rounding_shift(values, 2).tolist() == [math.floor(v / 4 + 0.5) for v in values.tolist()]
    assert numerics.rounding_shift(values, 0).tolist() == values.tolist()


def test_requantization_at_the_corners_of_its_range(rng):
    accumulator = np.concatenate([rng.integers(-(1 << 26) + 1, 1 << 26, 500), [(1 << 26) - 1, -(1 << 26) + 1, 0]])
    for width in (8, 16, 24):
        for shift in (0, 1, 17, 43, 63):
            multiplier = int(rng.integers(1, 1 << 17))
            expected = [
                min(max((a * multiplier + ((1 << shift) >> 1)) >> shift, -(1 << (width - 1))), (1 << (width - 1)) - 1)
                for a in accumulator.tolist()
            ]
            got = numerics.requantize(accumulator, 0, multiplier, shift, width)
            assert got.tolist() == expected


def test_normalized_divide_is_a_reciprocal_to_2_pow_minus_15(rng):
    divisor = np.concatenate([rng.integers(1, 1 << 31, 1000), 2 ** np.arange(31), 2 ** np.arange(1, 31) - 1])
    for multiplier in (1 << 15, 40_000, (1 << 16) - 1):
        quotient, exponent = numerics.normalized_divide(multiplier, divisor)
        assert quotient.max() < 1 << 17
        assert exponent.tolist() == [value.bit_length() for value in divisor.tolist()]
        error = np.abs(quotient * np.exp2(-exponent.astype(float)) * divisor / multiplier - 1)
        assert error.max() <= 2.0**-15


def test_integer_sqrt_is_exact_around_squares(rng):
    roots = np.concatenate([rng.integers(0, 1 << 31, 1000), [0, 1, (1 << 31) - 1]])
    for offset in (-1, 0, 1):
        values = np.maximum(roots * roots + offset, 0)
        assert numerics.integer_sqrt(values).tolist() == [math.isqrt(value) for value in values.tolist()]


def test_multiplier_and_shift_come_within_half_a_unit(rng):
    scale = np.exp(rng.uniform(np.log(1e-9), np.log(60_000), 1000))
    multiplier, shift = numerics.multiplier_and_shift(scale)
    assert multiplier.min() >= 1 << 15 and multiplier.max() < 1 << 16
    assert np.abs(multiplier * np.exp2(-shift.astype(float)) / scale - 1).max() <= 2.0**-15
    assert numerics.multiplier_and_shift(np.nextafter(1.0, 0))[0] == 1 << 15


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), 65536.0])
def test_scales_out_of_range_are_refused(scale):
    with pytest.raises(ValueError, match="must be positive and below"):
        numerics.multiplier_and_shift(scale)

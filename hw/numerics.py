"""Number formats and the arithmetic that golden model, RTL and board share bit for bit.

All functions take and return numpy integer arrays (int64 unless stated) and are exact.
"""

import numpy as np

MULTIPLIER_WIDTH = 16
"""Bits of an unsigned requantization multiplier; with a normalised quotient it grows to 17."""
QUOTIENT_WIDTH = MULTIPLIER_WIDTH + 1
"""Bits of the quotient of `normalized_divide`."""
SHIFT_WIDTH = 6
"""Bits of a requantization shift, 0 to 63."""
RESIDUAL_WIDTH = 16
"""Bits of an element of the residual stream."""
LOGIT_WIDTH = 24
"""Bits of a logit; its unit is 2^-12 nat."""
ENTROPY_FRACTION = 12
"""Fractional bits of logits, entropies and thresholds: one unit is 2^-12 nat."""
UNITS_PER_NAT = 1 << ENTROPY_FRACTION
"""Of logits, entropies and thresholds."""
EXP_WIDTH = 7
"""Bits of an exp table's entry, 0 to 127; 255 would overflow a packed chain of 8 products."""
MEAN_FRACTION = 4
"""Fractional bits of the LayerNorm mean."""
PACKED_CHAIN = 8
"""Products that may be summed in a packed chain: the low sum is at most 8 * 128 * 128 = 2^17, just told apart from -2^17."""


def rounding_shift(value: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """``floor(value / 2^shift + 1/2)``: the one rounding rule (half up) of every requantization."""
    value = np.asarray(value, dtype=np.int64)
    shift = np.minimum(np.asarray(shift, dtype=np.int64), 63)
    return (value + np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)) >> shift


def saturate(value: np.ndarray, width: int) -> np.ndarray:
    """Clamp to a signed integer of ``width`` bits."""
    return np.clip(value, -(1 << (width - 1)), (1 << (width - 1)) - 1)


def requantize(accumulator: np.ndarray, bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray, width: int) -> np.ndarray:
    """``saturate(rounding_shift((accumulator + bias) * multiplier, shift), width)``, int32.

    |accumulator|, |bias| and their sum are below 2^26 and the multiplier below 2^17, so the product fits 44 bits and float64, in
    which numpy is several times as fast, holds it and every number on the way exactly; over 2^50 it rounds to 0, as over any
    greater power of 2.
    """
    scale = np.ldexp(np.asarray(multiplier, np.float64), -np.minimum(np.asarray(shift, np.int64), 50))
    value = np.asarray(np.multiply(accumulator, scale, dtype=np.float64))
    value += bias * scale + 0.5
    np.floor(value, out=value)
    greatest = (1 << (width - 1)) - 1
    return np.clip(value, -greatest - 1, greatest, out=value).astype(np.int32)


def normalized_divide(multiplier: int | np.ndarray, divisor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(q, e)`` with ``e = bit_length(divisor)`` and ``q = floor(multiplier * 2^e / divisor)``, so that
    ``multiplier / divisor = q * 2^-e`` up to a relative error of 2^-15 for a multiplier of at least 2^15.

    Args:
        multiplier: 1 to 2^16 - 1.
        divisor: at least 1, below 2^31.

    Returns:
        q below 2^17 and e from 1, int64, of the divisor's shape.
    """
    divisor = np.asarray(divisor, dtype=np.int64)
    exponent = np.frexp(divisor.astype(np.float64))[1].astype(np.int64)
    return (np.asarray(multiplier, dtype=np.int64) << exponent) // divisor, exponent


def integer_sqrt(value: np.ndarray) -> np.ndarray:
    """``floor(sqrt(value))`` of non-negative int64 below 2^62, exactly."""
    value = np.asarray(value, dtype=np.int64)
    root = np.sqrt(value.astype(np.float64)).astype(np.int64)
    root = np.where(root * root > value, root - 1, root)
    return np.where((root + 1) * (root + 1) <= value, root + 1, root)


def multiplier_and_shift(scale: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Multiplier in [2^15, 2^16) and shift with ``multiplier * 2^-shift`` closest to a positive real scale.

    Returns:
        (multiplier, shift) int64; a scale below 2^-47 gets multiplier 0 or a smaller one with the greatest shift, 63.

    Raises:
        ValueError: when a scale is not positive, or 2^16 and above.
    """
    scale = np.asarray(scale, dtype=np.float64)
    if np.any(scale <= 0) or np.any(scale >= 1 << MULTIPLIER_WIDTH) or not np.all(np.isfinite(scale)):
        raise ValueError(f"Requantization scale must be positive and below 2^16, not {scale}")
    exponent = np.frexp(scale)[1].astype(np.int64)
    shift = np.minimum(MULTIPLIER_WIDTH - exponent, (1 << SHIFT_WIDTH) - 1)
    multiplier = np.rint(np.ldexp(scale, shift)).astype(np.int64)
    carry = multiplier == 1 << MULTIPLIER_WIDTH
    return np.where(carry, multiplier >> 1, multiplier), np.where(carry, shift - 1, shift)

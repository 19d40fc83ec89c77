"""Confidence intervals of accuracies measured on the same images."""

import numpy as np

Z95 = 1.959963984540054
"""97.5 % quantile of the normal distribution: a two-sided 95 % interval."""


def paired_difference(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Mean difference of two 0/1 outcomes on the same images, with its paired standard error.

    Args:
        first: bool [n], first answer right.
        second: bool [n], second answer right.

    Returns:
        ``difference`` (first - second, fraction of 1), ``standard_error``, ``low95``, ``high95`` and ``equal``: whether
        the difference is under two paired standard errors.
    """
    difference = first.astype(np.float64) - second.astype(np.float64)
    mean = float(difference.mean())
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return {
        "difference": mean,
        "standard_error": error,
        "low95": mean - Z95 * error,
        "high95": mean + Z95 * error,
        "equal": abs(mean) <= 2 * error,
    }


def wilson(successes: int, count: int) -> tuple[float, float]:
    """95 % Wilson score interval of a fraction (Wilson, JASA 1927)."""
    fraction = successes / count
    centre = fraction + Z95**2 / (2 * count)
    half = Z95 * np.sqrt(fraction * (1 - fraction) / count + Z95**2 / (4 * count**2))
    scale = 1 + Z95**2 / count
    return float((centre - half) / scale), float((centre + half) / scale)

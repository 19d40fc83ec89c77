"""How a network is quantized."""

from dataclasses import dataclass

from hw.errors import InputError

MSE, PERCENTILE, GREATEST = "mse", "percentile", "max"
METHODS = (MSE, PERCENTILE, GREATEST)
"""How a scale is chosen: least squared error; so that 99.99 % of the magnitudes fit; so that all fit."""


@dataclass(frozen=True)
class Options:
    """How a network is quantized.

    Attributes:
        scales: one of `METHODS`.
        correct_bias: whether the biases take up the mean error of every output channel.

    Raises:
        InputError: the method is unknown.
    """

    scales: str = MSE
    correct_bias: bool = False

    def __post_init__(self) -> None:
        if self.scales not in METHODS:
            raise InputError(f"Scales must be chosen by {', '.join(METHODS)}, not {self.scales!r}")

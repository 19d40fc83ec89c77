"""The engines that can measure a workload; apart from `sim.measurement`, so that ``--help`` loads nothing heavy."""

from hw.errors import InputError

ENGINES = {"rtl": "simulated hardware", "model": "cycle model", "both": "compare the two", "golden": "bits alone"}
"""What each one is. `model` takes bits from the golden machine and cycles from the cycle model."""


def check_engine(engine: str) -> None:
    """Refuse a name that is none of `ENGINES`.

    Raises:
        InputError: For an unknown engine.
    """
    if engine not in ENGINES:
        raise InputError(f"--engine must be one of {', '.join(ENGINES)}, not {engine!r}")

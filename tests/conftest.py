"""What all tests share: a printed seed, and OpenMP threads that do not spin or crowd."""

import os
import secrets

import numpy as np
import pytest

# Before anything imports torch: spinning threads halve the speed of whatever runs beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:  # pytest's workers are the threads already
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SEED = int(os.environ.get("PIVOT_TEST_SEED") or secrets.randbelow(2**31))


def pytest_report_header() -> str:
    return f"randomised tests: PIVOT_TEST_SEED={SEED}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The run's seed; set PIVOT_TEST_SEED to repeat a run. A failing test prints it."""
    print(f"PIVOT_TEST_SEED={SEED} in {request.node.nodeid}")
    return SEED


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """A generator of its own for each test, seeded with the run's seed."""
    return np.random.default_rng(seed)

"""What all tests share: a printed seed, OpenMP threads that do not spin or crowd, long files first, the slowest tests named."""

import gc
import json
import os
import secrets
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

# Before anything imports torch: spinning threads halve the speed of whatever runs beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:  # pytest's workers are the threads already
    os.environ.setdefault("OMP_NUM_THREADS", "1")

gc.set_threshold(100_000)  # with torch loaded, looking at every object costs a third of what Amaranth's elaboration takes

SEED = int(os.environ.get("PIVOT_TEST_SEED") or secrets.randbelow(2**31))
SECONDS = Path(__file__).parent / "seconds.json"
"""Seconds of the longest files, as ``--record-seconds`` wrote them; they start first, so that all workers end together."""
LEAST_SECONDS = 3.0
SLOWEST = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-seconds", action="store_true", help=f"write the seconds of every long test file to {SECONDS.name}")


def pytest_report_header() -> str:
    return f"randomised tests: PIVOT_TEST_SEED={SEED}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seconds = json.loads(SECONDS.read_text())
    items.sort(key=lambda item: -seconds.get(item.nodeid.partition("::")[0], 0.0))  # stable: a file's tests stay together


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tests: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            tests[report.nodeid] += report.duration
            files[report.nodeid.partition("::")[0]] += report.duration
    slowest = (f"{name.rpartition('/')[2]} {seconds:.0f} s" for name, seconds in tests.most_common(SLOWEST))
    terminalreporter.write_line(f"slowest tests: {', '.join(slowest)}")
    if config.getoption("--record-seconds"):
        longest = {name: round(seconds) for name, seconds in files.most_common() if seconds >= LEAST_SECONDS}
        SECONDS.write_text(json.dumps(longest, indent=1) + "\n")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The run's seed; set PIVOT_TEST_SEED to repeat a run. A failing test prints it."""
    print(f"PIVOT_TEST_SEED={SEED} in {request.node.nodeid}")
    return SEED


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """A generator of its own for each test, seeded with the run's seed."""
    return np.random.default_rng(seed)

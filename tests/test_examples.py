"""The examples as their readers run them, from a folder of their own."""

import re
import runpy
import subprocess
import sys

import pytest

from sim.stimulus.small_machines import SMALL_MACHINES
from tests.sources import ROOT

EXAMPLES = {
    "own_network": [r"\b0 of 4$", r"([\d,]+) in RTL, \1 in the cycle model$"],
    "own_machine": [r"([\d,]+) cycles in RTL, \1 in the model, 0 mismatches; counters equal$"] * 3,
    "own_component": [r"50 sums as the model's, in time$"] * 3,
}
"""What the last lines of each script must show."""


def script(name):
    return ROOT / "examples" / f"{name}.py"


def test_every_example_is_run():
    assert {path for path in (ROOT / "examples").glob("*.py")} == {script(name) for name in EXAMPLES}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, tmp_path):
    call = subprocess.run([sys.executable, script(name)], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert (call.returncode, call.stderr) == (0, "")
    expected = EXAMPLES[name]
    for pattern, line in zip(expected, call.stdout.splitlines()[-len(expected) :], strict=True):
        assert re.search(pattern, line), call.stdout


def test_the_machine_is_one_that_other_tests_simulate():
    assert runpy.run_path(str(script("own_machine")))["MACHINE"] in SMALL_MACHINES.values()

"""Run a cocotb bench in a built simulation and judge it by cocotb's own results file.

A simulation returns normally when a bench fails, so the results are what counts; a crash, a timeout or a run without a
single test is a failure too.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from hw.processes import parent_tie
from hw.toolchain import find_libpython

LOG_TAIL_LINES = 40

_FOREIGN = ("COCOTB_", "GPI_", "PYGPI_", "PYTEST_", "PYTHON", "TOPLEVEL", "VERILATOR_", "VERILATED_")
"""Beginnings of variables by which a user's shell would choose tests, drop assertions (``PYTHONOPTIMIZE``) or replace libraries."""
_KEPT = frozenset(("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"))

STEP_NS = {"fs": 1e-6, "ps": 1e-3, "ns": 1.0, "us": 1e3, "ms": 1e6, "sec": 1e9}
"""Cocotb's names of the time units, in nanoseconds."""


class BenchFailure(RuntimeError):
    """A bench failed, crashed, ran too long or held no test; the message says which and shows the end of the log."""


@dataclass(frozen=True)
class BenchResult:
    """What cocotb says of one test.

    Attributes:
        name: ``module.test``.
        wall_s: Wall-clock time in seconds.
        sim_time_ns: Simulated time in nanoseconds.
    """

    name: str
    wall_s: float
    sim_time_ns: float


def _bench_environment(top: str, module: str, results: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment that cocotb 2.1 reads when the simulator loads it."""
    from cocotb_tools import config

    env = {name: value for name, value in os.environ.items() if name in _KEPT or not name.startswith(_FOREIGN)}
    env["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    env["PYGPI_PYTHON_BIN"] = sys.executable
    env["GPI_USERS"] = f"{find_libpython()};{config.pygpi_entry_point()}"
    env["COCOTB_TOPLEVEL"] = top
    env["COCOTB_TEST_MODULES"] = module
    env["COCOTB_RESULTS_FILE"] = str(results)
    # Cocotb would have pytest rewrite the assertions of all that a bench imports, and load its plugins: 1.6 s at every start.
    env["COCOTB_REWRITE_ASSERTION_FILES"] = f"{module.rpartition('.')[2]}.py"
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    env["COCOTB_TRUST_INERTIAL_WRITES"] = "1"
    env["COCOTB_ANSI_OUTPUT"] = "0"
    env["TOPLEVEL_LANG"] = "verilog"
    # A busy-waiting OpenMP pool of a numpy or torch in the bench would take the simulation's core.
    env.setdefault("OMP_WAIT_POLICY", "passive")
    return env | dict(extra)


def _read_results(results: Path) -> tuple[list[BenchResult], list[str]]:
    """Passed tests, and one ``name: message`` for each failed one, of a results file."""
    passed, failed = [], []
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        name = f"{case.get('classname', '')}.{case.get('name', '')}"
        problem = next((child for child in case if child.tag in ("failure", "error")), None)
        if problem is not None:
            message = problem.get("error_msg") or problem.get("message") or problem.text or "no message"
            failed.append(f"{name}: {message.strip()}")
        elif case.find("skipped") is None:
            properties = {entry.get("name"): entry.get("value") for entry in case.iter("property")}
            duration = float(properties.get("sim_time_duration") or 0)
            unit_ns = STEP_NS[properties.get("sim_time_unit") or "ns"]
            passed.append(BenchResult(name, float(case.get("time", 0)), duration * unit_ns))
    return passed, failed


def _simulate(command: list[str], env: dict[str, str], cwd: Path, log: Path, timeout_s: float) -> str | None:
    """Run the simulation in a process group of its own that ends with this process, however that ends; what went wrong with the
    process itself, or None."""
    with open(log, "w") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=parent_tie(),
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return f"ran longer than {timeout_s:g} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return None if code == 0 else f"ended with exit code {code}"


def run_bench(
    executable: Path,
    top: str,
    module: str,
    *,
    testcase: str | Sequence[str] | None = None,
    plusargs: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 300.0,
    seed: int | None = None,
    trace_file: Path | None = None,
) -> list[BenchResult]:
    """Run the cocotb tests of a Python module in a simulation.

    Args:
        executable: From ``sim.rtl.verilate.verilate``.
        top: Name of the top module, the bench's ``dut``.
        module: Name of the bench's module as ``import`` takes it, for example ``sim.bench_accelerator``.
        testcase: Names of the tests to run; all when None. A parameterized test runs with all its values,
            unless the name says one: ``test/n=1``.
        plusargs: Arguments such as ``"+memory=program.hex"`` for ``$value$plusargs`` and ``cocotb.plusargs``.
        env: Environment variables for the bench, on top of this process's.
        cwd: Working directory of the simulation, which keeps ``<module>.log`` and ``<module>.xml``; one of its own for
            each run at the same time. A temporary one when None.
        timeout_s: Wall-clock seconds after which the simulation is killed.
        seed: Seed of ``random`` in the bench; cocotb draws one and logs it when None.
        trace_file: Where to write switching activity; needs ``verilate(..., trace_saif=True)``.

    Returns:
        One entry per test that ran; all passed.

    Raises:
        BenchFailure: When any test failed, none ran, or the simulation crashed or took too long.
        InputError: When the Python in use has no shared library.
    """
    if cwd is None:
        with tempfile.TemporaryDirectory(prefix="pivot-bench-") as temporary:
            return run_bench(
                executable, top, module, testcase=testcase, plusargs=plusargs, env=env, cwd=Path(temporary),
                timeout_s=timeout_s, seed=seed, trace_file=trace_file and Path(trace_file).absolute(),
            )  # fmt: skip
    cwd = Path(cwd).absolute()
    cwd.mkdir(parents=True, exist_ok=True)
    results, log = cwd / f"{module}.xml", cwd / f"{module}.log"
    results.unlink(missing_ok=True)
    settings = _bench_environment(top, module, results, env or {})
    if testcase is not None:
        names = [testcase] if isinstance(testcase, str) else list(testcase)
        settings["COCOTB_TEST_FILTER"] = r"\.(" + "|".join(re.escape(name) for name in names) + ")(/.*)?$"
    if seed is not None:
        settings["COCOTB_RANDOM_SEED"] = str(seed)
    trace = ["--trace", "--trace-file", str(trace_file)] if trace_file is not None else []
    problem = _simulate([str(executable), *trace, *plusargs], settings, cwd, log, timeout_s)
    passed, failed = _read_results(results) if results.is_file() else ([], [])
    if failed:
        problem = f"{len(failed)} of {len(failed) + len(passed)} tests failed: " + "; ".join(failed)
    elif problem is None and not passed:
        problem = "ran no test" if testcase is None else f"ran no test: none is named {testcase}"
    if problem is not None:
        tail = log.read_text(errors="replace", encoding="utf-8").splitlines()[-LOG_TAIL_LINES:]
        raise BenchFailure("\n".join([f"Bench {module} on {top}: {problem}", *tail]))
    return passed

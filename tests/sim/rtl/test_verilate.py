import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from hw.errors import InputError
from sim import cpp_build
from sim.rtl.bench_runner import BenchFailure, run_bench
from sim.rtl.verilate import BuildError, lint, verilate

DESIGN = """
module slave #(parameter WIDTH = 8) (
    input  logic clk, input logic rst, input logic [31:0] awaddr, input logic awvalid, output logic awready,
    input  logic [WIDTH-1:0] d, output logic [WIDTH-1:0] q
);
    logic [WIDTH-1:0] hidden;
    logic [WIDTH-1:0] shown /*verilator public_flat_rw*/;
    always_ff @(posedge clk) begin
        hidden <= rst ? '0 : d;
        shown <= rst ? '0 : d + 1'b1;
    end
    assign q = hidden;
    assign awready = awvalid & awaddr[0] & shown[0];
endmodule
"""

CLOCKED = """
module clocked(input go, output reg [31:0] count, output irq);
    logic clk = 1'b0;
    always #1 clk = ~clk;
    initial count = 0;
    always @(posedge clk) count <= count + 32'(go);
    assign irq = count >= 1000;
endmodule
"""

BENCH = """
import os, cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge, Timer

@cocotb.test(timeout_time=10, timeout_unit="us")
async def ports(dut):
    Clock(dut.clk, 10, "ns").start()
    dut.rst.value = 0
    dut.d.value = 200
    dut.awaddr.value = 0xDEADBEEF
    dut.awvalid.value = 1
    await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    await ReadOnly()
    assert (dut.q.value, dut.shown.value, dut.awready.value) == (200, 201, 1)
    assert dut.awaddr.value == 0xDEADBEEF
    await Timer(1, "ns")
    dut.shown.value = 2
    await Timer(1, "ns")
    assert dut.awready.value == 0

@cocotb.test()
@cocotb.parametrize(exists=[False, True])
async def hidden(dut, exists):
    assert hasattr(dut, "hidden" if exists else "nonexistent") == (exists and "PUBLIC_ALL" in os.environ)

@cocotb.test(skip="WIDTH" not in os.environ)
async def width(dut):
    assert len(dut.q) == int(os.environ["WIDTH"]), f"{len(dut.q)} bits"

@cocotb.test(skip="CRASH" not in os.environ)
async def crash(dut):
    os._exit(7)

@cocotb.test(skip="HANG" not in os.environ)
async def hang(dut):
    while True:
        pass

@cocotb.test(skip="SELF" not in os.environ)
async def self_clocked(dut):
    dut.go.value = 1
    await RisingEdge(dut.irq)
    assert int(dut.count.value) == 1000
    assert not hasattr(dut, "clk")
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bench module that exists for this test alone."""
    (tmp_path / "bench_slave.py").write_text(textwrap.dedent(BENCH))
    monkeypatch.syspath_prepend(str(tmp_path))
    return "bench_slave"


@pytest.fixture
def design(tmp_path: Path) -> Path:
    path = tmp_path / "slave.sv"
    path.write_text(DESIGN)
    return path


def test_unusable_sources_are_refused(tmp_path, design):
    with pytest.raises(InputError, match=r"must be a file: .*missing\.sv"):
        verilate([tmp_path / "missing.sv"], "slave")
    with pytest.raises(InputError, match="At least one Verilog source"):
        verilate([], "slave")
    with pytest.raises(InputError, match="Optimization must be one of"):
        verilate([design], "slave", optimization="-O9")
    with pytest.raises(InputError, match="Top module master must be defined"):
        verilate([design], "master")


def test_verilog_errors_are_shown(tmp_path):
    source = tmp_path / "bad.sv"
    source.write_text("module bad(output q);\n  assign q = nowhere;\nendmodule\n")
    with pytest.raises(BuildError, match=r"bad\.sv:2.*nowhere"):
        verilate([source], "bad")


def test_ports_and_marked_signals_are_visible_and_nothing_else(tmp_path, design, bench):
    results = run_bench(verilate([design], "slave"), "slave", bench, testcase=["ports", "hidden"], cwd=tmp_path / "run")
    names = [result.name.removeprefix(f"{bench}.") for result in results]
    assert names == ["ports", "hidden/exists=False", "hidden/exists=True"]
    assert results[0].sim_time_ns > 10
    assert (tmp_path / "run" / f"{bench}.log").is_file()


def test_failing_bench_raises_its_message(tmp_path, design, bench, monkeypatch):
    """Whatever a user's shell exports for cocotb, pytest and Python."""
    for name, value in (
        ("COCOTB_TEST_FILTER", "nothing"), ("COCOTB_TESTCASE", "nothing"), ("COCOTB_RESULTS_FILE", "elsewhere.xml"),
        ("TOPLEVEL", "other"), ("GPI_EXTRA", "absent.so:none"), ("PYGPI_ENTRY_POINT", "absent"), ("PYTEST_ADDOPTS", "--absent"),
        ("PYTHONOPTIMIZE", "2"), ("PYTHONHOME", "/absent"), ("PYTHONSTARTUP", "/absent"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    executable = verilate([design], "slave", parameters={"WIDTH": 12})
    run_bench(executable, "slave", bench, testcase="width", env={"WIDTH": "12"})
    with pytest.raises(BenchFailure, match=r"1 of 1 tests failed: bench_slave\.width: .*12 bits"):
        run_bench(executable, "slave", bench, testcase="width", env={"WIDTH": "8"})


def test_crash_timeout_and_empty_run_are_failures(design, bench):
    executable = verilate([design], "slave")
    with pytest.raises(BenchFailure, match="exit code 7"):
        run_bench(executable, "slave", bench, testcase="crash", env={"CRASH": "1"})
    with pytest.raises(BenchFailure, match="ran longer than 2 s"):
        run_bench(executable, "slave", bench, testcase="hang", env={"HANG": "1"}, timeout_s=2)
    with pytest.raises(BenchFailure, match="none is named absent"):
        run_bench(executable, "slave", bench, testcase="absent")


ENDLESS = """
import os, sys, tempfile
from pathlib import Path
from hw.errors import command
from sim.rtl.bench_runner import _simulate

@command()
def main(arguments=None):
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        (Path(folder) / "begun").touch()
        endless = ["sh", "-c", f"echo $$ > {sys.argv[1]}/child; exec sleep 100"]
        _simulate(endless, dict(os.environ), Path(folder), Path(folder, "log"), 90)

sys.exit(main())
"""


@pytest.mark.parametrize(
    ("number", "code", "told", "left"),
    [
        (signal.SIGINT, 130, "error: interrupted\n", 0),
        (signal.SIGTERM, 143, "error: terminated\n", 0),
        (signal.SIGKILL, -signal.SIGKILL, "", 1),  # nobody is left to clean up
    ],
)
def test_what_ends_a_command_ends_its_simulation(tmp_path, number, code, told, left):
    command = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, tmp_path],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which shells ignore for what they run behind
    )
    until(lambda: (tmp_path / "child").is_file() and (tmp_path / "child").read_text().strip())
    child = Path("/proc", (tmp_path / "child").read_text().strip())
    until(lambda: "sleep" in (child / "cmdline").read_text())
    command.send_signal(number)
    assert (command.wait(60), command.stderr.read()) == (code, told)
    until(lambda: not running(child))
    assert len(list(tmp_path.glob("*/begun"))) == left


def running(process):
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_self_clocked_top(tmp_path, bench):
    source = tmp_path / "clocked.sv"
    source.write_text(CLOCKED)
    results = run_bench(verilate([source], "clocked"), "clocked", bench, testcase="self_clocked", env={"SELF": "1"})
    assert 1990 < results[0].sim_time_ns < 2010


def test_public_all_and_activity(tmp_path, design, bench):
    executable = verilate([design], "slave", public_all=True, trace_saif=True)
    trace = tmp_path / "activity.saif"
    run_bench(executable, "slave", bench, testcase=["ports", "hidden"], env={"PUBLIC_ALL": "1"}, trace_file=trace)
    assert "SAIFILE" in trace.read_text() and "hidden" in trace.read_text()


def test_cache_follows_content_and_options(tmp_path, design):
    design.write_text(DESIGN.replace("module slave", '(* src = "a.py:1" *) module slave'))
    first = verilate([design], "slave")
    built = first.stat().st_mtime_ns
    elsewhere = tmp_path / "elsewhere.sv"
    elsewhere.write_text(DESIGN.replace("module slave", '(* src = "b.py:22" *) module slave'))
    assert verilate([elsewhere], "slave") == first
    assert first.stat().st_mtime_ns == built
    assert verilate([design], "slave", optimization="-O2") != first
    assert verilate([design], "slave", parameters={"WIDTH": 9}) != first
    design.write_text(DESIGN.replace("shown[0]", "~shown[0]"))
    assert verilate([design], "slave") != first


def test_two_processes_build_an_entry_once(tmp_path):
    code = f"""
import time
from pathlib import Path
from sim.cpp_build import cached_directory
def build(entry):
    print("built", flush=True)
    time.sleep(0.5)
    (entry / "done").touch()
assert (cached_directory(Path({str(tmp_path)!r}), "key", build) / "done").is_file()
"""
    root = Path(__file__).parents[3]
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(outputs) == ["", "", "built\n"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_failed_build_leaves_nothing(tmp_path):
    def build(entry: Path) -> None:
        (entry / "half").touch()
        raise BuildError("stopped")

    with pytest.raises(BuildError, match="stopped"):
        cpp_build.cached_directory(tmp_path, "key", build)
    assert not [entry for entry in tmp_path.iterdir() if entry.is_dir()]


def test_a_store_that_cannot_be_written_serves_what_it_has(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(30, "Read-only file system")

    kept = cpp_build.cached_directory(tmp_path / "store", "key", lambda entry: (entry / "done").touch())
    with monkeypatch.context() as patch:
        for name in ("os.utime", "tempfile.TemporaryFile", "pathlib.Path.mkdir"):
            patch.setattr(name, refuse)
        assert cpp_build.cached_directory(tmp_path / "store", "key", lambda entry: 1 // 0) == kept
        with pytest.raises(InputError, match=r"PIVOT_CACHE must name a directory that can be written: .* Read-only file system"):
            cpp_build.cached_directory(tmp_path / "store", "other", lambda entry: 1 // 0)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"PIVOT_CACHE must name a directory .*file must be writable: "):
        cpp_build.cached_directory(tmp_path / "file", "key", lambda entry: 1 // 0)


def test_lint_reports_warnings(tmp_path, design):
    with pytest.raises(BuildError, match="UNUSED"):
        lint([design], "slave")
    clean = tmp_path / "clean.sv"
    clean.write_text("module clean(input logic a, output logic q);\n  assign q = ~a;\nendmodule\n")
    lint([clean], "clean")

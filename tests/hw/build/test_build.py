"""`python -m hw.build`: its files, its refusals, and the vendor project as a Tcl interpreter reads it."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hw.boards import BOARDS, find_board
from hw.boards.vivado import wrapper
from hw.build import __main__ as build
from hw.presets import PRESETS, find_preset

ROOT = Path(__file__).parents[3]
TINY = "rows=2,cols=3,pe_depth=2,activation_words=64,residual_words=64,weight_words=64,kv_words=64,weight_ports=2"
CONFIG = find_preset("nano").with_fields(TINY)
TCLSH = shutil.which("tclsh")

# Every command of Vivado that the script calls, recorded; queries answer with what the script asked for.
STUBS = """
set calls [open calls.txt w]
proc record {name args} {
    puts $::calls [concat $name $args]
    if {$name eq "get_board_parts"} { return xilinx.com:zcu102:part0:3.4 }
    if {$name eq "get_property"} { return [expr {[lindex $args 0] eq "PROGRESS" ? "100%" : "."}] }
    if {$name eq "get_bd_addr_segs" && [lindex $args 0] eq "-quiet"} { return {HP_DDR_LOW HP_LPS_OCM} }
    if {[string match get_* $name]} { return [lindex $args end] }
    return $name
}
proc unknown {name args} { record $name {*}$args }
proc file_copy args {}
rename file real_file
proc file {verb args} { if {$verb ne "copy"} { real_file $verb {*}$args } }
"""


def run_command(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hw.build", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, env=environment or None)


def test_help_loads_nothing_heavy():
    script = (
        "import runpy, sys\n"
        "sys.argv = ['hw.build', '--help']\n"
        "try:\n    runpy.run_module('hw.build', run_name='__main__')\n"
        "except SystemExit as end:\n    print(end.code, sorted({'amaranth', 'numpy', 'pyosys', 'torch'} & set(sys.modules)))\n"
    )
    call = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"board to build for: {', '.join(BOARDS)}" in call.stdout
    assert call.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--board", "zcu104"), f"board must be one of {', '.join(BOARDS)}, not 'zcu104'"),
        (("--board", "zcu102", "--preset", "mega"), f"preset must be one of {', '.join(PRESETS)}, not 'mega'"),
        (("--board", "zcu102", "--set", "row=3"), "--set takes field=value"),
        (("--board", "zcu102", "--set", "rows=many"), "--set rows must be an integer, not 'many'"),
        (("--board", "zcu102", "--set", "rows=0"), "rows must be a positive integer, not 0"),
        (("--board", "zcu102", "--set", "weight_ports=4"), "weight_ports must be at most 3 on zcu102, not 4"),
        (("--board", "zcu102", "--set", "address_width=50"), "address_width must be at most 49 on zcu102, not 50"),
        (("--board", "zcu102", "--out", "README.md"), "README.md must be a directory, not a file"),
        (("--board", "ulx3s", "--preset", "nano"), "clock_mhz must be 25 on ulx3s, the board's oscillator, not 200"),
        (("--board", "ulx3s", "--set", "address_width=16"), "address_width must be at least 17 for a memory of 131072 bytes"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]):
    assert build.main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("board", "message"),
    [
        ("zcu102", "Vivado must be on PATH for --bitstream on zcu102; all else is written without --bitstream"),
        ("ulx3s", "nextpnr-ecp5 and ecppack must be on PATH for --bitstream: pip install 'pivot-codesign[ecp5]'"),
    ],
)
def test_a_missing_tool_is_named_before_any_work(
    board: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))  # the extra's tools lie beside it
    assert build.main(["--board", board, "--bitstream", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "out").exists()


def test_the_wrapper_has_the_ports_of_the_machine(tmp_path: Path):
    from hw.accelerator import generate_verilog
    from hw.toolchain import require_pyosys

    yosys = require_pyosys()
    text = generate_verilog(CONFIG, dsp48=True)
    assert text.count("DSP48E2 #(") == 2 * CONFIG.pe_depth  # in the pair, and in the single one of an odd number of columns
    assert len(re.findall(r'\(\* use_dsp = "no" \*\)\nmodule \\accelerator\.(?:system|weights)\b', text)) >= 2
    (tmp_path / "accelerator.v").write_text(text)
    (tmp_path / "board.v").write_text(wrapper(CONFIG))
    design = yosys.Design()
    for command in (
        f"read_verilog {tmp_path}/accelerator.v",
        f"read_verilog {tmp_path}/board.v",
        "proc",
        f"write_json {tmp_path}/design.json",
    ):
        yosys.Pass.call(design, f"tee -q {command}")
    modules = json.loads((tmp_path / "design.json").read_text())["modules"]
    ports, outside = ({name: (port["direction"], len(port["bits"])) for name, port in modules[module]["ports"].items()}
                      for module in ("accelerator", "accelerator_board"))  # fmt: skip
    assert ports == outside
    connections = modules["accelerator_board"]["cells"]["machine"]["connections"]
    assert connections == {name: port["bits"] for name, port in modules["accelerator_board"]["ports"].items()}
    assert {"m0_axi_wdata", "m1_axi_rdata", "m2_axi_rdata", "s_axi_awaddr"} <= ports.keys()
    assert "ASSOCIATED_BUSIF s_axi:m0_axi:m1_axi:m2_axi, ASSOCIATED_RESET rst" in wrapper(CONFIG)


@pytest.mark.skipif(TCLSH is None, reason="no tclsh on PATH")
@pytest.mark.parametrize("ports", [1, 3])
def test_the_project_connects_every_port(tmp_path: Path, ports: int):
    board = find_board("zcu102")
    config = replace(CONFIG, weight_ports=ports, clock_mhz=250, address_width=40 if ports == 3 else 32)
    (tmp_path / "build.tcl").write_text(STUBS + board.project(config)["vivado/build.tcl"] + "\nclose $calls\n")
    call = subprocess.run([str(TCLSH), "build.tcl"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert call.returncode == 0, call.stderr
    calls = (tmp_path / "calls.txt").read_text()
    assert "-part xczu9eg-ffvb1156-2-e" in calls
    assert "CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ 250" in calls
    for port in range(ports + 1):
        assert f"CONFIG.PSU__USE__S_AXI_GP{port + 2} 1 CONFIG.PSU__SAXIGP{port + 2}__DATA_WIDTH 128" in calls
        assert f"connect_bd_intf_net machine/m{port}_axi memory_bus_{port}/S00_AXI" in calls
        assert f"connect_bd_intf_net memory_bus_{port}/M00_AXI ps/S_AXI_HP{port}_FPD" in calls
    assert f"m{ports + 1}_axi" not in calls
    assert ("HP0_DDR_HIGH" in calls) == (ports == 3)
    assert "exclude_bd_addr_seg -target_address_space machine/m0_axi HP_LPS_OCM" in calls
    assert "-offset 0xA0000000 -range 4K" in calls
    assert re.search(r"launch_runs synth_1\n(.*\n)*launch_runs impl_1 -to_step write_bitstream\n", calls)


def test_boards_say_who_they_are():
    assert [board.name for board in BOARDS.values()] == list(BOARDS)
    assert find_board("zcu102").capacity == {"lut": 274_080, "ff": 548_160, "dsp": 2_520, "bram36": 912}
    for board in BOARDS.values():
        board.check(find_preset(board.preset))


@pytest.mark.slow
def test_a_tiny_machine_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    arguments = ["--board", "zcu102", "--preset", "nano", "--set", TINY]
    assert build.main([*arguments, "--out", f"{tmp_path}/out", "--json", f"{tmp_path}/r.json"]) == 0
    capsys.readouterr()
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {
        *("accelerator.v", "accelerator_board.v", "constraints.xdc", "vivado/build.tcl"),
        *("pivot.h", "registers.md", "report.json"),
    }
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report == json.loads((tmp_path / "r.json").read_text())
    assert report["macs_per_cycle"] == 12
    assert report["peak_macs_per_dsp_per_cycle"] == round(12 / report["resources"]["dsp"], 3)
    assert report["clock_mhz"] == 200
    assert report["logic_levels"] > 0
    assert report["components"]["processing_pair"]["instances"] == 2
    assert report["components"]["processing_single"]["instances"] == 2
    for name in ("lut", "ff", "dsp", "bram36"):
        parts = report["components"].values()
        assert report["resources"][name] == sum(part["instances"] * part["resources"][name] for part in parts)
        assert 0 < report["utilization"][name] < 0.2
    dsps, multipliers = report["resources"]["dsp"], 8
    for capacity, needed in ((dsps - 1, dsps), (multipliers - 1, multipliers)):  # the latter is told without synthesis
        small = replace(find_board("zcu102"), capacity={**report["capacity"], "dsp": capacity})
        monkeypatch.setitem(BOARDS, "zcu102", small)
        assert build.main([*arguments, "--out", f"{tmp_path}/other"]) == 2
        message = capsys.readouterr().err.splitlines()[-1]
        assert message == f"error: The machine must fit XCZU9EG, but needs {needed} dsp of {capacity}"
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("board", "fields"), [("zcu102", "rows=64,cols=64,pe_depth=8"), ("ulx3s", "rows=8,cols=7,pe_depth=4")])
def test_multipliers_that_do_not_fit_are_told_before_synthesis(board, fields, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")  # no tool can be called
    monkeypatch.delattr("hw.build.synthesis.machine_parts")
    assert build.main(["--board", board, "--set", fields, "--out", str(tmp_path / "out")]) == 2
    assert re.fullmatch(r"error: The machine must fit \S+, but needs [\d,]+ dsp of [\d,]+\n", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_flagship_fits(tmp_path: Path):
    call = run_command("--board", "zcu102", "--out", tmp_path)
    assert call.returncode == 0, call.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["macs_per_cycle"] == 4224
    assert report["peak_macs_per_dsp_per_cycle"] > 1.8
    assert all(share <= 1 for share in report["utilization"].values())

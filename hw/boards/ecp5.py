"""From a design to an ECP5 bitstream with open tools: Yosys in a process of its own, nextpnr-ecp5, ecppack."""

import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw.build.logic_levels import longest_path
from hw.build.resources import check_capacity
from hw.progress import stage

NAME = "pivot"
"""Of the design and its bitstream."""
CELLS = {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "dsp": "MULT18X18D", "bram": "DP16KD"}
"""Report's names of resources by nextpnr's; a TRELLIS_COMB is the site of a LUT4, half a carry cell or a bit of distributed RAM."""
CAPACITY = {"lut": 83_640, "ff": 83_640, "dsp": 156, "bram": 208}
"""Of the LFE5U-85F (Lattice FPGA-DS-02012, table 1.1)."""
LUT_SITES = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}
"""LUT sites of the cells of a synthesized netlist: a DPR16X4 takes four for its bits and two for its write port."""


def _synthesize(directory: str, script: str) -> None:
    """Run a Yosys script of a directory; its log goes to synthesis.log there. Ends the process where Yosys rejects the design."""
    from hw.toolchain import require_pyosys

    os.chdir(directory)
    yosys = require_pyosys()
    yosys.Pass.call(yosys.Design(), f"tee -q -o synthesis.log script {script}")


def synthesize(directory: Path, script: str) -> None:
    """Run a Yosys script of a directory, in a process of its own.

    Raises:
        RuntimeError: when Yosys rejects the design.
    """
    from concurrent.futures.process import BrokenProcessPool

    from hw.processes import worker_pool

    try:
        with worker_pool(1) as pool:
            pool.submit(_synthesize, str(directory), script).result()
    except BrokenProcessPool:
        raise RuntimeError(f"Synthesis must end, but Yosys died; its last lines: {_tail(directory / 'synthesis.log')}") from None


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace", encoding="utf-8").strip().splitlines() if path.exists() else []
    return " | ".join(lines[-3:]) or "none"


def _run(tool: Path, arguments: Sequence[str], directory: Path) -> None:
    """Run a tool without its output, which goes to a file that an error quotes."""
    log = directory / f"{tool.name}.log"
    with log.open("w") as file:
        command = [str(tool), *arguments]
        code = subprocess.run(command, cwd=directory, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise RuntimeError(f"{tool.name} must end without an error, but ended with code {code}: {_tail(log)}")


def netlist_resources(netlist: Mapping[str, Any]) -> dict[str, int]:
    """Resources of Yosys's ``write_json`` of the flat design, before placement, by the names of CELLS."""
    cells = Counter(cell["type"] for cell in netlist["modules"][NAME]["cells"].values())
    luts = sum(sites * cells[kind] for kind, sites in LUT_SITES.items())
    return {"lut": luts} | {name: cells[kind] for name, kind in CELLS.items() if name != "lut"}


def placed_resources(report: Mapping[str, Any]) -> dict[str, int]:
    """Resources of nextpnr's ``--report``, by the names of CELLS."""
    return {name: report["utilization"][cell]["used"] for name, cell in CELLS.items()}


def slowest_clock(report: Mapping[str, Any]) -> float:
    """Least of the frequencies in MHz that nextpnr's ``--report`` says clocks may have."""
    return min(clock["achieved"] for clock in report["fmax"].values())


def build_design(
    platform: Any, top: Any, clock_mhz: float, tools: Mapping[str, Path] | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Synthesize a design, and place, route and pack it.

    Args:
        platform: Amaranth's, for an ECP5 with the Trellis tools, with all files that the design needs.
        top: the design.
        clock_mhz: that it must reach.
        tools: of `toolchain.require_ecp5_tools`; None to end after synthesis.

    Returns:
        Fields of the report and files by name. Fields: ``resources`` by the names of CELLS, ``logic_levels`` of the netlist,
        ``clock_mhz``, ``method``, ``wall_s`` of each step; with tools also ``fmax_mhz`` and ``bitstream``, the file's name.

    Raises:
        InputError: when the netlist is too large for the LFE5U-85F.
        RuntimeError: when a tool fails.
    """
    wall: dict[str, float] = {}
    fields: dict[str, Any] = {"clock_mhz": clock_mhz}
    files: dict[str, bytes] = {}

    def timed(name: str, work: Any, *arguments: Any) -> None:
        start = time.monotonic()
        with stage(name):
            work(*arguments)
        wall[name] = round(time.monotonic() - start, 1)

    with tempfile.TemporaryDirectory(prefix="pivot-ecp5-") as name:
        directory = Path(name)
        # Elements of arrays are called word[0], which synthesis would take for bits of `word`.
        plan = platform.build(top, name=NAME, do_build=False, script_after_read="rename -hide w:*[*")
        for file, content in plan.files.items():
            (directory / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        timed("synthesis", synthesize, directory, f"{NAME}.ys")
        netlist = json.loads((directory / f"{NAME}.json").read_text(encoding="utf-8"))
        fields |= {"resources": netlist_resources(netlist), "logic_levels": longest_path(netlist["modules"][NAME])}
        check_capacity(fields["resources"], CAPACITY, platform.device)
        files["constraints.lpf"] = (directory / f"{NAME}.lpf").read_bytes()
        fields["method"] = "Yosys synth_ecp5, flat, without placement; a carry cell counts as 2 LUT sites, 16x4 bits of RAM as 6"
        if tools is not None:
            options = [
                *(platform._nextpnr_device_options[platform.device], "--speed", platform.speed),
                *("--package", platform._nextpnr_package_options[platform.package].upper()),
                *("--json", f"{NAME}.json", "--lpf", f"{NAME}.lpf", "--textcfg", f"{NAME}.config"),
                *("--report", "report.json", "--timing-allow-fail", "--quiet", "--log", "nextpnr.log"),
            ]
            timed("place and route", _run, tools["nextpnr-ecp5"], options, directory)
            packing = ["--compress", "--input", f"{NAME}.config", "--bit", f"{NAME}.bit"]
            timed("packing", _run, tools["ecppack"], packing, directory)
            report = json.loads((directory / "report.json").read_text(encoding="utf-8"))
            fields |= {
                "resources": placed_resources(report),
                "fmax_mhz": round(slowest_clock(report), 2),
                "bitstream": f"{NAME}.bit",
            }
            fields["method"] = (
                "Yosys synth_ecp5, flat; placed and routed by nextpnr-ecp5, whose own counts and static timing these are"
            )
            files[f"{NAME}.bit"] = (directory / f"{NAME}.bit").read_bytes()
            files["nextpnr.log"] = (directory / "nextpnr.log").read_bytes()
    return fields | {"wall_s": wall}, files

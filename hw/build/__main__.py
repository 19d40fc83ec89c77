"""Everything that a board needs to run a machine: Verilog, vendor project, C header, documentation, resource report.

    python -m hw.build --board zcu102 [--preset zcu102] [--set rows=16,...] [--out DIR] [--json FILE] [--bitstream]
    python -m hw.build --board ulx3s --bitstream

Writes ``build/<board>/``: ``accelerator.v``, ``pivot.h``, ``registers.md`` and ``report.json``; for zcu102 also
``accelerator_board.v``, ``constraints.xdc`` and ``vivado/build.tcl``, for ulx3s ``constraints.lpf`` and, with ``--bitstream``,
``pivot.bit`` and ``nextpnr.log``. Synthesis of parts that were synthesized before comes from the user's cache (zcu102).
"""

import argparse
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.boards import BOARDS, find_board
from hw.errors import InputError, command
from hw.files import check_directory, check_writable, json_text, write_file, write_files
from hw.progress import progress, stage

if TYPE_CHECKING:
    from hw.boards import Board
    from hw.config import AcceleratorConfig

METHOD = (
    "Yosys synth_xilinx -family xcup, each part synthesized once and multiplied by its instances; every LUT cell counts as one "
    "site, without placement; an upper bound of a flat synthesis by the same tool"
)
"""How the report's resources come about."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m hw.build", description=str(__doc__).splitlines()[0])
    result.add_argument("--board", required=True, help=f"board to build for: {', '.join(BOARDS)}")
    result.add_argument("--preset", help="machine (default: the board's own)")
    result.add_argument("--set", dest="overrides", default="", metavar="FIELD=N,...", help="fields of the preset to override")
    result.add_argument("--out", type=Path, metavar="DIR", help="default: build/<board>")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file too")
    result.add_argument("--bitstream", action="store_true", help="make the bitstream too, with Vivado or nextpnr-ecp5")
    return result


def build_report(board: "Board", preset: str, config: "AcceleratorConfig", fields: dict[str, Any]) -> dict[str, Any]:
    """Content of ``report.json``.

    Args:
        board: what was built for.
        preset: name of the machine, before fields were overridden.
        config: the machine.
        fields: of `synthesis_report` or `Board.build`; ``resources`` and what else the board says.

    Returns:
        The fields, and: ``board``, ``preset``, ``config``, ``cells`` (the device's names), ``capacity`` and ``utilization``
        (fractions of 1) by the names of ``resources``, ``macs_per_cycle``, ``peak_macs_per_dsp_per_cycle`` of all DSP blocks,
        ``clock_mhz`` where the board does not say another.

    Raises:
        InputError: when the machine does not fit the board.
    """
    from hw.build.resources import check_capacity

    resources = fields["resources"]
    check_capacity(resources, board.capacity, board.device)
    return {
        "schema": 1,
        "board": board.name,
        "device": board.device,
        "preset": preset,
        "config": asdict(config),
        "resources": resources,
        "cells": board.cells,
        "capacity": board.capacity,
        "utilization": {name: round(resources[name] / limit, 4) for name, limit in board.capacity.items()},
        "macs_per_cycle": config.macs_per_cycle,
        "peak_macs_per_dsp_per_cycle": round(config.macs_per_cycle / resources["dsp"], 3),
        "clock_mhz": config.clock_mhz,
        **fields,
    }


def synthesis_report(config: "AcceleratorConfig") -> dict[str, Any]:
    """Synthesize the machine for UltraScale+.

    Returns:
        Fields of the report: ``resources`` by ``lut``, ``ff``, ``dsp`` and ``bram36``, ``logic_levels`` (the longest of any part),
        ``components`` (per part: instances, resources of one, its logic levels and synthesis seconds), ``method``.

    Raises:
        RuntimeError: when synthesis fails.
    """
    from hw.build.resources import Resources, composed
    from hw.build.synthesis import machine_parts, synthesize_parts

    parts = machine_parts(config)
    results = synthesize_parts(parts)
    return {
        "resources": asdict(composed(parts, results)),
        "logic_levels": max(result.logic_levels for result in results.values()),
        "components": {
            part.name: {
                "instances": part.instances,
                "resources": asdict(Resources.of_cells(results[part.name].cells)),
                "logic_levels": results[part.name].logic_levels,
                "synthesis_s": results[part.name].seconds,
            }
            for part in parts
        },
        "method": METHOD,
    }


def project_files(board: "Board", config: "AcceleratorConfig") -> dict[str, str]:
    """All files but the report, by path within the output directory."""
    from hw.accelerator import generate_verilog
    from hw.build.c_header import generate_header
    from hw.build.register_docs import generate_register_docs

    return {
        "accelerator.v": generate_verilog(config, dsp48=True),
        "pivot.h": generate_header(config),
        "registers.md": generate_register_docs(),
        **board.project(config),
    }


def require_vivado(board: "Board") -> Path:
    """The ``vivado`` executable.

    Raises:
        InputError: when it is not on PATH.
    """
    from hw.toolchain import find_vivado

    vivado = find_vivado()
    if vivado is None:
        raise InputError(f"Vivado must be on PATH for --bitstream on {board.name}; all else is written without --bitstream")
    return vivado


def run_vivado(vivado: Path, directory: Path) -> None:
    """Build the bitstream of a written project; Vivado's own messages go to the terminal.

    Raises:
        RuntimeError: when Vivado fails.
    """
    folder = directory / "vivado"
    command = [str(vivado), "-mode", "batch", "-source", "build.tcl"]
    if code := subprocess.run(command, cwd=folder, check=False).returncode:
        raise RuntimeError(f"Vivado must end without an error, but ended with code {code}: see {folder / 'vivado.log'}")


def _show(report: dict[str, Any], directory: Path, seconds: float) -> None:
    from hw.tables import terminal, text_table

    components = report.get("components", {})
    names = list(report["cells"].values())
    head = ("part", *(["instances"] if components else []), *names, *(["levels"] if components else []))
    table = text_table(*head, title=f"{report['preset']} on {report['board']} ({report['device']})")
    for name, part in components.items():
        numbers = [f"{value * part['instances']:,}" for value in part["resources"].values()]
        table.add_row(name, str(part["instances"]), *numbers, str(part["logic_levels"]))
    table.add_section()
    blank, levels = ([""], [str(report["logic_levels"])]) if components else ([], [])
    table.add_row("machine", *blank, *(f"{report['resources'][name]:,}" for name in report["capacity"]), *levels)
    table.add_row("device", *blank, *(f"{value:,}" for value in report["capacity"].values()))
    table.add_row("share", *blank, *(f"{value:.1%}" for value in report["utilization"].values()))
    console = terminal()
    console.print(table)
    if "fmax_mhz" in report:
        console.print(f"{report['bitstream']}: placed and routed for at most {report['fmax_mhz']} MHz")
    console.print(f"{report['macs_per_cycle']:,} MAC a cycle at {report['clock_mhz']} MHz; {directory} written in {seconds:.0f} s")


def build(options: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        InputError: bad arguments, a machine that does not fit, or tools that are missing.
        RuntimeError: when a tool fails, or the routed machine is slower than its clock.
    """
    from hw.build.resources import check_capacity
    from hw.presets import find_preset

    start = time.monotonic()
    board = find_board(options.board)
    preset = options.preset or board.preset
    config = find_preset(preset).with_fields(options.overrides)
    board.check(config)
    multipliers = config.rows * config.pairs * config.pe_depth
    check_capacity({"dsp": multipliers * board.multiplier_dsps}, board.capacity, board.device)  # before synthesis takes its minutes
    directory = options.out or Path("build") / board.name
    check_directory(directory)
    check_writable(options.json)
    vivado = require_vivado(board) if options.bitstream and board.build is None else None
    files: dict[str, bytes] = {}
    with progress():
        if board.build is None:
            fields = synthesis_report(config)
        else:
            fields, files = board.build(config, options.bitstream)
        report = build_report(board, preset, config, fields)
        text = json_text(report)
        with stage("Verilog and project"):
            write_files(directory, {**project_files(board, config), **files, "report.json": text})
    if options.json is not None:
        write_file(options.json, text)
    _show(report, directory, time.monotonic() - start)
    if vivado is not None:
        run_vivado(vivado, directory)
    if report.get("fmax_mhz", report["clock_mhz"]) < report["clock_mhz"]:
        raise RuntimeError(f"The machine must reach {report['clock_mhz']} MHz, but is routed for {report['fmax_mhz']} MHz")


@command(RuntimeError)
def main(arguments: list[str] | None = None) -> int:
    """``python -m hw.build``.

    Returns:
        The exit code: 0 done; 1 a tool failed, or the clock is not reached; 2 bad input, a machine that does not fit, or a
        missing tool.
    """
    options = parser().parse_args(arguments)
    build(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())

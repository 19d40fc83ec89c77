"""Everything that a board needs to run a machine: Verilog, vendor project, C header, documentation, resource report.

    python -m hw.build --board zcu102 [--preset zcu102] [--set rows=16,...] [--out DIR] [--json FILE] [--bitstream]

Writes ``build/<board>/``: ``accelerator.v``, ``accelerator_board.v``, ``constraints.xdc``, ``vivado/build.tcl``, ``pivot.h``,
``registers.md`` and ``report.json``. Synthesis of parts that were synthesized before comes from the user's cache.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.errors import InputError

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
    result.add_argument("--board", required=True, help="board to build for: zcu102")
    result.add_argument("--preset", help="machine (default: the board's own)")
    result.add_argument("--set", dest="overrides", default="", metavar="FIELD=N,...", help="fields of the preset to override")
    result.add_argument("--out", type=Path, metavar="DIR", help="default: build/<board>")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file too")
    result.add_argument("--bitstream", action="store_true", help="run Vivado, which must be on PATH, on the project")
    return result


def build_report(board: "Board", preset: str, config: "AcceleratorConfig") -> dict[str, Any]:
    """Synthesize the machine, with a progress display on stderr.

    Returns:
        Content of ``report.json``: ``board``, ``preset``, ``config``, ``resources``, ``capacity`` and ``utilization`` (fractions
        of 1) by ``lut``, ``ff``, ``dsp`` and ``bram36``, ``macs_per_cycle``, ``clock_mhz``, ``logic_levels`` (the longest of any
        part), ``components`` (per part: instances, resources of one, its logic levels and synthesis seconds), ``method``.

    Raises:
        InputError: when the machine does not fit the board.
        RuntimeError: when synthesis fails.
    """
    from hw.resources import Resources, check_capacity, composed
    from hw.synthesis import machine_parts, synthesize_parts

    parts = machine_parts(config)
    with _Progress(len(parts)) as show:
        results = synthesize_parts(parts, progress=show)
    needed = composed(parts, results)
    check_capacity(needed, board.capacity, board.device)
    resources = asdict(needed)
    return {
        "schema": 1,
        "board": board.name,
        "device": board.device,
        "preset": preset,
        "config": asdict(config),
        "resources": resources,
        "capacity": board.capacity,
        "utilization": {name: round(resources[name] / limit, 4) for name, limit in board.capacity.items()},
        "macs_per_cycle": config.macs_per_cycle,
        "clock_mhz": config.clock_mhz,
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


class _Progress:
    """A line on stderr while parts are being synthesized."""

    def __init__(self, count: int):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("synthesis", total=count)
        self._running: list[str] = []

    def __enter__(self) -> "_Progress":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def __call__(self, name: str, state: str) -> None:
        if state == "started":
            self._running.append(name)
        else:
            self._running = [other for other in self._running if other != name]
            self._progress.advance(self._task)
        self._progress.update(self._task, description=" ".join(["synthesis", *self._running]))


def project_files(board: "Board", config: "AcceleratorConfig") -> dict[str, str]:
    """All files but the report, by path within the output directory."""
    from hw.accelerator import generate_verilog
    from hw.c_header import generate_header
    from hw.register_docs import generate_register_docs

    return {
        "accelerator.v": generate_verilog(config, dsp48=True),
        "pivot.h": generate_header(config),
        "registers.md": generate_register_docs(),
        **board.project(config),
    }


def write_files(directory: Path, files: dict[str, str]) -> None:
    """Write files in full beside their places, then move them there in order; other files of the directory stay.

    Arguments:
        directory: made where it is missing.
        files: text by path within the directory.

    Raises:
        InputError: when the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".new-") as staged:
            for name, text in files.items():
                path = Path(staged) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            for name in files:
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(staged) / name, directory / name)
    except OSError as error:
        raise InputError(f"--out and --json must be writable, not {error.filename or directory}: {error.strerror}") from None


def run_vivado(directory: Path) -> None:
    """Build the bitstream of a written project; Vivado's own messages go to the terminal.

    Raises:
        RuntimeError: when Vivado is not on PATH, or fails.
    """
    from hw.toolchain import find_vivado

    vivado = find_vivado()
    script = directory / "vivado" / "build.tcl"
    if vivado is None:
        raise RuntimeError(f"Vivado must be on PATH for --bitstream; all else is written, and the project is {script}")
    command = [str(vivado), "-mode", "batch", "-source", "build.tcl"]
    if code := subprocess.run(command, cwd=script.parent, check=False).returncode:
        raise RuntimeError(f"Vivado must end without an error, but ended with code {code}: see {script.parent / 'vivado.log'}")


def _show(report: dict[str, Any], directory: Path, seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report['preset']} on {report['board']} ({report['device']})")
    for column in ("part", "instances", "LUT", "FF", "DSP", "BRAM36", "levels"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, part in report["components"].items():
        numbers = [f"{value * part['instances']:,}" for value in part["resources"].values()]
        table.add_row(name, str(part["instances"]), *numbers, str(part["logic_levels"]))
    table.add_section()
    table.add_row("machine", "", *(f"{value:,}" for value in report["resources"].values()), str(report["logic_levels"]))
    table.add_row("device", "", *(f"{value:,}" for value in report["capacity"].values()), "")
    table.add_row("share", "", *(f"{value:.1%}" for value in report["utilization"].values()), "")
    console = Console()
    console.print(table)
    console.print(f"{report['macs_per_cycle']:,} MAC a cycle at {report['clock_mhz']} MHz; {directory} written in {seconds:.0f} s")


def build(options: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        InputError: bad arguments, or a machine that does not fit.
        RuntimeError: when synthesis or Vivado fails.
    """
    from hw.boards import find_board
    from hw.presets import find_preset

    start = time.monotonic()
    board = find_board(options.board)
    preset = options.preset or board.preset
    config = find_preset(preset).with_fields(options.overrides)
    board.check(config)
    directory = options.out or Path("build") / board.name
    if directory.exists() and not directory.is_dir():
        raise InputError(f"--out must be a directory, not the file {directory}")
    report = build_report(board, preset, config)
    text = json.dumps(report, indent=2) + "\n"
    write_files(directory, {**project_files(board, config), "report.json": text})
    if options.json is not None:
        write_files(options.json.parent, {options.json.name: text})
    _show(report, directory, time.monotonic() - start)
    if options.bitstream:
        run_vivado(directory)


def main(arguments: list[str] | None = None) -> int:
    """``python -m hw.build``.

    Returns:
        The exit code: 0 done; 1 synthesis or Vivado failed, or Vivado is missing; 2 bad input or a machine that does not fit.
    """
    options = parser().parse_args(arguments)
    try:
        build(options)
    except (InputError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

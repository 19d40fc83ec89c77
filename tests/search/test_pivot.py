"""``pivot`` from a folder that is full of files named like what it, and the processes that it starts, import."""

import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from search.pivot import COMMANDS, main
from tests.sources import PACKAGES

SCRIPT = """import sys
from search.pivot import main
if __name__ == "__main__":
    sys.exit(main())
"""
"""What pip writes for an entry point; its folder is first on the path."""
BENCH = """import sys
from search import pivot

def run(arguments):
    from hw.device import mismatches
    from hw.golden import GoldenDevice
    from sim.rtl.device import RtlDevice
    from sim.stimulus.random_programs import random_program
    from sim.stimulus.small_machines import SMALL_MACHINES

    config = next(iter(SMALL_MACHINES.values()))
    program, images = random_program(config, 0)
    print("mismatches", mismatches(GoldenDevice().run(program, images), RtlDevice(config).run(program, images)))
    return 0

if __name__ == "__main__":
    pivot.COMMANDS["bench"] = (lambda: sys.modules["__main__"], "")
    main = run
    sys.exit(pivot.main())
"""
"""The same with a command that has a simulation and no torch in it."""


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder with a file of every name that can be imported here; each raises."""
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in {*sys.stdlib_module_names, *(module.name for module in pkgutil.iter_modules()), *PACKAGES, "numpy"}:
        (folder / f"{name}.py").write_text("raise RuntimeError(f'{__file__} is imported')\n")
    return folder


def called(script: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    path = folder.parent / "bin" / "pivot"
    path.parent.mkdir()
    path.write_text(script)
    return subprocess.run([sys.executable, path, *arguments], cwd=folder, capture_output=True, text=True, timeout=300)


def test_spawned_workers_import_nothing_of_the_working_directory(trap):
    call = called(SCRIPT, trap, "prove", "sync-fifo-1", "--workers", "1")
    assert (call.returncode, call.stderr) == (0, "") and call.stdout.endswith("1 of 1 as they should be\n")


def test_simulations_import_nothing_of_the_working_directory(trap):
    call = called(BENCH, trap, "bench")
    assert (call.returncode, call.stderr, call.stdout) == (0, "", "mismatches 0\n")


@pytest.mark.slow
def test_a_measurement_imports_nothing_of_the_working_directory(trap):
    network = "vit:dim=8,depth=1,heads=2,tokens=5,classes=3"
    call = called(SCRIPT, trap, "measure", "--model", network, "--engine", "rtl", "--images", "1")
    assert call.returncode == 0 and "0 images" in call.stdout, call.stderr


@pytest.mark.parametrize(
    ("module", "planted", "name"),
    [
        *(("sim.measure", planted, "hw") for planted in ("hw.py", "hw/__init__.py", "hw/homework.py")),
        ("sw.data", "sim.py", "sim"), ("sim.measure", "sw.py", "sw"), ("search.cosearch", "sim.py", "sim"),
    ],
)  # fmt: skip
def test_python_m_refuses_what_takes_the_place_of_a_package(module, planted, name, tmp_path):
    call = beside(tmp_path, planted, module)
    assert (call.returncode, call.stdout, call.stderr.count("\n")) == (2, "", 1)
    assert call.stderr.startswith(f"error: {tmp_path / name}") and f"takes the place of the package {name}: " in call.stderr


@pytest.mark.parametrize(("module", "planted"), [("hw.toolchain", "sw.py"), ("sim.measure", "search.py")])
def test_python_m_leaves_alone_what_it_does_not_need(module, planted, tmp_path):
    call = beside(tmp_path, planted, module)
    assert (call.returncode, call.stderr) == (0, "") and f"-m {module}" in call.stdout


def beside(folder: Path, planted: str, module: str) -> subprocess.CompletedProcess:
    """``python -m module --help`` from a folder with a planted file that raises."""
    file = folder / planted
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise RuntimeError\n")
    return subprocess.run([sys.executable, "-m", module, "--help"], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(arguments, capsys):
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: pivot COMMAND [OPTION ...]"
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)


def test_version(capsys):
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pivot-codesign {version('pivot-codesign')}\n"


@pytest.mark.parametrize(("name", "near"), [("mesure", "; near: measure"), ("proof", "; near: prove"), ("--halp", ""), ("", "")])
def test_an_unknown_command_is_one_line(name, near, capsys):
    assert main([name]) == 2
    names = ", ".join(COMMANDS)
    assert capsys.readouterr() == ("", f"error: Command must be one of {names}, not {name!r}{near}\n")


@pytest.fixture
def called_here(monkeypatch):
    """Arguments and environment of this process are put back."""
    monkeypatch.setattr(sys, "argv", ["pivot"])
    monkeypatch.setenv("PYTHONSAFEPATH", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_tells_its_usage(name, capsys, called_here):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    module = COMMANDS[name][0]().__name__.removesuffix(".__main__")
    assert end.value.code == 0 and f"-m {module} " in capsys.readouterr().out.splitlines()[0]


def test_a_command_sees_its_own_arguments(monkeypatch, called_here):
    seen = []

    def command(arguments):
        seen.extend((arguments, sys.argv[1:], os.environ["PYTHONSAFEPATH"]))
        return 7

    monkeypatch.setitem(COMMANDS, "own", (lambda: SimpleNamespace(main=command), "its own"))
    sys.argv[1:] = ["own", "--a", "b"]
    assert main() == 7 and seen == [["--a", "b"], ["--a", "b"], "1"]

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hw import toolchain
from hw.errors import InputError

ROOT = Path(__file__).parents[2]


def install_fake_verilator(directory: Path, version: str) -> None:
    """A ``verilator`` that only answers the two questions that tool finding asks."""
    (directory / "share" / "include").mkdir(parents=True)
    (directory / "share" / "include" / "verilated.cpp").touch()
    script = directory / "verilator"
    answers = f'--version) echo "{version}";; --getenv) echo "{directory}/share";;'
    script.write_text(f"#!/bin/sh\ncase $1 in {answers} esac\n")
    script.chmod(0o755)


def prepend_path(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_prerequisites_of_this_machine():
    assert toolchain.missing_prerequisites() == []
    toolchain.check_prerequisites()


def test_missing_tools_are_named_with_their_packages(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError) as caught:
        toolchain.check_prerequisites()
    message = str(caught.value)
    assert "\n" not in message
    for package in ("g++", "perl", "make"):
        assert f"Debian package {package}" in message


def test_missing_libpython_is_named(monkeypatch):
    monkeypatch.setattr(toolchain, "has_shared_libpython", lambda: False)
    with pytest.raises(InputError, match=r"shared library \(Debian package libpython3"):
        toolchain.check_prerequisites()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", r"own \+\+ \(CXX\) must build and run a small C\+\+20 program: exit code 3"),
        ("echo note; echo 'x: fatal error: no coroutine' >&2; exit 1", "C..20 program: x: fatal error: no coroutine"),
        ("exit 0", "C..20 program: .*No such file"),  # and wrote nothing
    ],
)
def test_an_unusable_compiler_is_found_before_the_work(monkeypatch, tmp_path, script, message):
    compiler = tmp_path / "own ++"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(InputError, match=message) as caught:
        toolchain.check_prerequisites()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent-compiler", "g++ -O3", "/nowhere/g++"])
def test_a_compiler_that_is_not_there_is_named(monkeypatch, name):
    monkeypatch.setenv("CXX", name)
    with pytest.raises(InputError, match=re.escape(f"without arguments, not {name!r}")):
        toolchain.check_prerequisites()


def test_check_runs_before_anything_is_installed(tmp_path):
    # -S leaves site-packages out, so only the standard library is there.
    command = [sys.executable, "-S", "-m", "hw.toolchain", "--check"]
    call = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (call.returncode, call.stderr) == (0, "")
    call = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert call.returncode == 2
    assert call.stderr.startswith("error: ") and call.stderr.count("\n") == 1


def test_new_system_verilator_is_preferred(monkeypatch, tmp_path):
    install_fake_verilator(tmp_path, "Verilator 5.036 2025-04-27 rev v5.036")
    prepend_path(monkeypatch, tmp_path)
    found = toolchain.find_verilator()
    assert (found.version, found.executable, found.root) == ("5.036", tmp_path / "verilator", tmp_path / "share")
    assert toolchain.find_verilator().env["VERILATOR_ROOT"] == str(tmp_path / "share")


@pytest.mark.parametrize("version", ["Verilator 5.006 2023-01-22 rev v5.006", "Verilator 4.228 2022", " rev vUNKNOWN"])
def test_unfit_system_verilator_is_passed_over(monkeypatch, tmp_path, version):
    install_fake_verilator(tmp_path, version)
    prepend_path(monkeypatch, tmp_path)
    found = toolchain.find_verilator()
    assert found.version.endswith("(PyPI)")
    assert (found.root / "include" / "verilated.cpp").is_file()


def test_environment_of_the_packaged_verilator(monkeypatch, tmp_path):
    prepend_path(monkeypatch, tmp_path)
    monkeypatch.setattr(toolchain, "_find_system_verilator", lambda: None)
    toolchain._find_verilator.cache_clear()
    monkeypatch.setenv("PIVOT_MARK", "kept")
    env = toolchain.find_verilator().env
    toolchain._find_verilator.cache_clear()
    assert env["PATH"].startswith(env["VERILATOR_ROOT"] + "/bin:")
    assert "-fcoroutines" in env["MAKEFLAGS"]
    assert env["PIVOT_MARK"] == "kept"


def test_no_verilator_at_all(monkeypatch, tmp_path):
    prepend_path(monkeypatch, tmp_path)
    monkeypatch.setattr(toolchain, "_find_system_verilator", lambda: None)
    monkeypatch.setattr(toolchain, "_find_packaged_verilator", lambda: None)
    toolchain._find_verilator.cache_clear()
    with pytest.raises(InputError, match=r"Verilator must be installed: .*5\.036 or newer"):
        toolchain.find_verilator()


def test_cache_root(monkeypatch, tmp_path):
    monkeypatch.setenv("PIVOT_CACHE", str(tmp_path / "own"))
    assert toolchain.cache_root() == tmp_path / "own"
    monkeypatch.delenv("PIVOT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert toolchain.cache_root() == tmp_path / "pivot-codesign"
    (tmp_path / "file").touch()
    monkeypatch.setenv("PIVOT_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(InputError, match="must be writable"):
        toolchain.cache_root()
    for name in ("PIVOT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError))  # a user whom the machine does not know
    with pytest.raises(InputError, match="PIVOT_CACHE must name a directory for built simulations, for there is no home"):
        toolchain.cache_root()


def test_vivado_is_looked_up_on_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert toolchain.find_vivado() is None
    (tmp_path / "vivado").write_text("#!/bin/sh\n")
    (tmp_path / "vivado").chmod(0o755)
    assert toolchain.find_vivado() == tmp_path / "vivado"


def test_libpython_and_yosys():
    assert toolchain.find_libpython().is_file()
    assert hasattr(toolchain.require_pyosys(), "Design")
    assert toolchain.find_compiler().is_file()


def test_missing_yosys_is_an_input_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyosys", None)
    with pytest.raises(InputError, match="pip install 'pyosys"):
        toolchain.require_pyosys()


def ecp5_script(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_tool_of_the_system_comes_before_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    beside = tmp_path / "venv"
    beside.mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    assert toolchain.find_ecp5_tool("ecppack") is None
    packaged = ecp5_script(beside / "yowasp-ecppack")
    assert toolchain.find_ecp5_tool("ecppack") == packaged
    system = ecp5_script(tmp_path / "ecppack")
    assert toolchain.find_ecp5_tool("ecppack") == system

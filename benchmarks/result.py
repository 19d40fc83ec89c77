"""A benchmark's name, command line and result, and where the result comes from."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from hw.errors import InputError
from hw.files import read_json, write_json
from hw.provenance import ROOT, commit, source_digest, versions

RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"


@dataclass
class Benchmark:
    """A script of this package and the file that holds what it found last.

    Attributes:
        module: name below `benchmarks`, as ``machine.flagship``.
        sources: files and folders, from the checkout's root, that the figures depend on, beside the script itself.
        file: stem of the result's file; the last part of the module's name where it is empty.
    """

    module: str
    sources: tuple[str, ...] = ()
    file: str = ""
    _run: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _started: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        """Add the script, and drop what lies in another part."""
        parts = {*self.sources, f"benchmarks/{self.module.replace('.', '/')}.py"}
        self.sources = tuple(sorted(part for part in parts if not parts & {str(folder) for folder in Path(part).parents}))

    @property
    def command(self) -> str:
        """What runs it, without options."""
        return f"python -m benchmarks.{self.module}"

    @property
    def path(self) -> Path:
        """Of the result."""
        return RESULTS / f"{self.file or self.module.rpartition('.')[2]}.json"

    def parser(self, description: str | None) -> argparse.ArgumentParser:
        """A command line that tells the script's docstring and has no options yet."""
        return argparse.ArgumentParser(
            prog=self.command, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def begin(self, parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
        """Parse the command line and begin a run: its time counts from here, and its sources are what they are now.

        Args:
            parser: of `parser`, with the script's options.
            arguments: without the command; None for those of the process.
        """
        options = parser.parse_args(arguments)
        self._started = time.monotonic()
        self._run = {
            "command": f"{self.command} {shlex.join(sys.argv[1:] if arguments is None else arguments)}".strip(),
            "commit": commit(self.sources),
            "versions": versions(),
            "cores": os.cpu_count(),
            "digest": source_digest(self.sources),
            "sources": part_digests(self.sources),
        }
        return options

    @property
    def digest(self) -> str:
        """Of the sources of the run that was begun, hexadecimal digits."""
        return self._run["digest"]

    def save(self, content: Mapping[str, Any], seed: int | list[int] | None = None) -> None:
        """Write the result of the run that was begun, with its provenance.

        Args:
            content: the fields.
            seed: what random draws began with; None where nothing was drawn.
        """
        made = {"date": date.today().isoformat(), "wall_s": round(time.monotonic() - self._started, 1)}
        write_json(self.path, {**content, "provenance": made | ({} if seed is None else {"seed": seed}) | self._run})

    def load(self) -> Any:
        """The last result.

        Raises:
            InputError: there is none; the message names the command that makes it.
        """
        if not self.path.is_file():
            raise InputError(f"{self.path.name} must be there; make it with {self.command}")
        return read_json(self.path)

    def last(self, *parts: str) -> dict[str, Any]:
        """The last result, for a run that goes on with it; empty where there is none, or where it is of other sources.

        Args:
            parts: the sources that what is taken over depends on; by default all, and then the run counts the last one's time, too.
        """
        result = self.load() if self.path.is_file() else {}
        changed = changed_parts(result)
        if changed is None or set(changed) & set(parts or changed):
            return {}
        if not parts:
            self._started -= result["provenance"]["wall_s"]
        return result


def part_digests(parts: Iterable[str]) -> dict[str, str]:
    """`part_digest` of each part."""
    return {part: part_digest(part) for part in parts}


@cache
def part_digest(part: str) -> str:
    """Digest of a file or folder, 16 hexadecimal digits, as it was when it was first asked for; ``cache_clear`` forgets that."""
    return source_digest([part])[:16]


def changed_parts(result: Mapping[str, Any]) -> list[str] | None:
    """The parts that a result depends on and that are no longer what they were; None where it does not name its parts."""
    recorded = result.get("provenance", {}).get("sources")
    if recorded is None:
        return None
    return [part for part, digest in part_digests(recorded).items() if digest != recorded[part]]

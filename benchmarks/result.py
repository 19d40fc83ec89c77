"""A benchmark's name, command line and result."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.errors import InputError
from hw.files import read_json, write_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Benchmark:
    """A script of this package and the file that holds what it found last.

    Attributes:
        module: name below `benchmarks`, as ``machine.flagship``.
        file: stem of the result's file; the last part of the module's name where it is empty.
    """

    module: str
    file: str = ""

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

    def save(self, content: Mapping[str, Any], options: str = "") -> None:
        """Write the result with the command that makes it.

        Args:
            content: the fields.
            options: of the command.
        """
        write_json(self.path, {"command": f"{self.command} {options}".strip(), **content})

    def load(self) -> Any:
        """The last result.

        Raises:
            InputError: there is none; the message names the command that makes it.
        """
        if not self.path.is_file():
            raise InputError(f"{self.path.name} must be there; make it with {self.command}")
        return read_json(self.path)

    def last(self) -> dict[str, Any]:
        """The last result, for a run that goes on with it; empty where there is none."""
        return self.load() if self.path.is_file() else {}

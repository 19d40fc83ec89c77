"""Results that say how old they are, and the lines that tell it in documents.

A document that shows or quotes a result has a line that ends with ``<!-- result: NAME.json -->``; before it stands, from "From" on,
what ``python -m benchmarks.status --mark`` writes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from benchmarks.result import RESULTS, Benchmark, changed_parts, part_digest
from hw.files import read_json, write_file
from hw.provenance import ROOT

OLD = " Older than the code (`python -m benchmarks.status`)."
"""What the line of a stale result ends with."""
MARK = re.compile(r"(?:From .*)?<!-- result: ([\w-]+)\.json -->$", re.MULTILINE)
_COMMIT_DIGITS = 40
_SCRIPT = re.compile(r'^BENCHMARK = Benchmark\("(?P<module>[\w.]+)", .*?(?:file="(?P<file>\w+)")?\)$', re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """What a benchmark found last, if it was run.

    Attributes:
        name: stem of its file in `RESULTS`.
        content: its fields; empty where there is none.
    """

    name: str
    content: dict[str, Any]

    @staticmethod
    def read(name: str) -> "Result":
        """The result of a name."""
        path = RESULTS / f"{name}.json"
        return Result(name, read_json(path) if path.is_file() else {})

    @property
    def provenance(self) -> dict[str, Any]:
        """What `benchmarks.result.Benchmark.save` recorded; little or nothing of results from before it did."""
        return self.content.get("provenance", {})

    @property
    def command(self) -> str:
        """What made it, or the script without options."""
        return self.provenance.get("command") or self.content.get("command") or scripts()[self.name]

    @property
    def minutes(self) -> float | None:
        """What the last run took, wall clock; None where nobody knows."""
        seconds = self.provenance.get("wall_s")
        return None if seconds is None else seconds / 60

    @cached_property
    def changed(self) -> list[str] | None:
        """The sources that are no longer what they were; None where the result does not name them."""
        return changed_parts(self.content)

    @property
    def stale(self) -> bool:
        """Whether the code may find something else now."""
        return self.changed is None or bool(self.changed)

    def line(self, stale: bool | None = None) -> str:
        """What a document says of the result, its mark included; ``stale`` None asks the sources."""
        mark, age = f"<!-- result: {self.name}.json -->", OLD if (self.stale if stale is None else stale) else ""
        if not self.content:
            return f"From a run that left no `{self.name}.json`.{age} {mark}"
        commit, _, edited = self.provenance.get("commit", "").partition("+")
        short = f"commit {commit[:7]}" if len(commit) == _COMMIT_DIGITS else commit
        made = [self.provenance.get("date", "undated"), short + (" with edits" if edited else "")]
        return f"From {', '.join(filter(None, [f'`{self.name}.json`', *made]))}.{age} {mark}"


@cache
def scripts() -> dict[str, str]:
    """Command of every benchmark that saves a result, by the result's name."""
    found = (_SCRIPT.search(path.read_text(encoding="utf-8")) for path in (ROOT / "benchmarks").glob("*/*.py"))
    benchmarks = (Benchmark(match["module"], file=match["file"] or "") for match in found if match)
    return {benchmark.path.stem: benchmark.command for benchmark in sorted(benchmarks, key=lambda each: each.path)}


def all_results() -> list[Result]:
    """Of every benchmark, by name, against the sources as they are now."""
    part_digest.cache_clear()
    return [Result.read(name) for name in scripts()]


def documents(root: Path = ROOT) -> list[Path]:
    """README and everything in docs/."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def marked(text: str) -> str:
    """A document's text with its lines of results as they are now."""
    return MARK.sub(lambda match: Result.read(match[1]).line(), text)


def mark(paths: Iterable[Path]) -> dict[Path, list[str]]:
    """Rewrite the lines of results in documents.

    Returns:
        The documents that were changed, each with the results of which it told another run than the last one: with the line,
        the figures may have to change.
    """
    changed = {}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if (current := marked(text)) != text:
            pairs = zip(MARK.finditer(text), MARK.finditer(current), strict=True)
            others = {new[1] for old, new in pairs if old[0].replace(OLD, "") != new[0].replace(OLD, "")}
            write_file(path, current)
            changed[path] = sorted(others)
    return changed

"""Documents name files, modules and their contents that exist."""

import re
from pathlib import Path

import pytest

from tests.sources import PACKAGES, ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FOLDERS = "|".join((*PACKAGES, "benchmarks", "tests", "docs", "examples"))
_PATH = re.compile(rf"(?<![\w/.-])(?:{_FOLDERS})/[\w/.-]*\w")
_DOTTED = re.compile(rf"(?<![\w/.-])(?:{'|'.join((*PACKAGES, 'benchmarks'))})(?:\.\w+)+")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def _is_there(name: str) -> bool:
    """Whether a dotted name is a module, or something that the module it begins with mentions."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        file = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
        if file is not None:
            rest = parts[length : length + 1]
            text = file.read_text()
            return all(re.search(rf"\b{part}\b", text) for part in rest)
    return False


def missing(text: str, folder: Path) -> list[str]:
    """Names in a document's text that nothing has; links are relative to its folder."""
    found = [path for path in _PATH.findall(text) if not (ROOT / path).exists()]
    found += [name for name in _DOTTED.findall(text) if not _is_there(name)]
    return found + [link for link in _LINK.findall(text) if not (folder / link).exists()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_exist(path: Path):
    assert not missing(path.read_text(), path.parent)


def test_planted_names_are_found():
    text = "`hw/nothing.py`, `sim.nothing.at_all`, `hw.isa.Nothing`, [a](no.md), `hw/isa.py`, `hw.isa.Error`, [b](README.md#x)"
    assert missing(text, ROOT) == ["hw/nothing.py", "sim.nothing.at_all", "hw.isa.Nothing", "no.md"]

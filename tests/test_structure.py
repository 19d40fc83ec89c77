"""The folder listing of `hw` is the block diagram of docs/architecture.md; files and descriptions stay short; one file writes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import PACKAGES, ROOT, dotted, python_files

FOLDERS = ("control", "memory", "row", "weights")
MOST_LINES = 500
MOST_ELABORATE_LINES = 100
WRITER = "hw.files"
"""The one module that replaces files."""
TERMINAL = "hw.tables"
"""The one module that knows how text is shown."""
KNOWN_WRITERS = {"sim.cpp_build"}
"""Modules that still replace files themselves; this set only shrinks."""

SOURCES = [
    path
    for folder in (*PACKAGES, "benchmarks", "tests", "examples")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".cpp", ".hpp", ".sv", ".v", ".tcl") and "sim_build" not in path.parts
]


def too_long(name: str, text: str) -> list[str]:
    """One line for a file, and for every description of hardware in it, of too many lines."""
    lines = len(text.splitlines())
    found = [f"{name} has {lines} lines"] if lines > MOST_LINES else []
    if name.endswith(".py"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "elaborate":
                lines = (node.end_lineno or 0) - node.lineno + 1
                found += [f"{name}:{node.lineno} elaborates in {lines} lines"] if lines > MOST_ELABORATE_LINES else []
    return found


def _replaces(call: ast.Call) -> bool:
    """Whether a call puts a file in another's place or makes one that outlives its ``with``."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in ("replace", "rename"):
        # str.replace takes two arguments, dataclasses.replace and datetime.replace take fields by name.
        return owner == "os" or (isinstance(function, ast.Attribute) and len(call.args) == 1 and not keywords)
    if name == "NamedTemporaryFile":
        return isinstance(keywords.get("delete"), ast.Constant) and not keywords["delete"].value
    return name == "mkstemp" or (owner == "shutil" and name == "move")


def replacements(source: str) -> Iterator[str]:
    """The calls of a module that replace files."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _replaces(node):
            yield f"line {node.lineno}: {ast.unparse(node.func)}"


def test_every_block_is_in_the_diagram():
    text = (ROOT / "docs" / "architecture.md").read_text()
    start = text.index("    accelerator\n")
    diagram = set(text[start : text.index("\n\n", start)].split())
    for folder in FOLDERS:
        assert f"{folder}/" in diagram
        blocks = {path.stem for path in (ROOT / "hw" / folder).glob("*.py")} - {"__init__", "jobs"}
        assert blocks <= diagram, f"hw/{folder}: {sorted(blocks - diagram)} must be in the diagram"


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_files_and_descriptions_are_short(path: Path):
    assert not too_long(str(path.relative_to(ROOT)), path.read_text())


def test_a_planted_long_file_is_found():
    assert too_long("a.py", "pass\n" * MOST_LINES) == []
    assert too_long("a.hpp", "//\n" * (MOST_LINES + 1)) == ["a.hpp has 501 lines"]


def test_a_planted_long_description_is_found():
    body = "        pass\n" * (MOST_ELABORATE_LINES - 1)
    source = f"class A:\n    def elaborate(self, platform):\n{body}"
    assert too_long("a.py", source) == []
    assert too_long("a.py", f"{source}        pass\n") == ["a.py:2 elaborates in 101 lines"]


@pytest.mark.parametrize("path", python_files(*PACKAGES, "benchmarks"), ids=dotted)
def test_one_module_replaces_files(path: Path):
    if dotted(path) not in {WRITER, *KNOWN_WRITERS}:
        assert not list(replacements(path.read_text()))


@pytest.mark.parametrize(
    "call",
    [
        "os.replace(a, b)", "path.replace(target)", "Path(file.name).replace(path)", "temporary.rename(path)",
        "NamedTemporaryFile('w', delete=False)", "tempfile.NamedTemporaryFile(dir=d, delete=False)", "tempfile.mkstemp()",
        "shutil.move(a, b)",
    ],
)  # fmt: skip
def test_a_planted_second_writer_is_found(call: str):
    assert len(list(replacements(f"def f():\n    with lock:\n        {call}\n"))) == 1


def locale_bound(source: str) -> Iterator[str]:
    """The calls of a module that read or write text as the user's locale says, or show it as rich's markup."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            encoded = any(keyword.arg == "encoding" for keyword in node.keywords)
            if (name in ("read_text", "write_text") and not encoded) or name == "Console":
                yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize("path", python_files(*PACKAGES), ids=dotted)
def test_text_is_utf_8_and_shown_as_it_is(path: Path):
    if dotted(path) != TERMINAL:
        assert not list(locale_bound(path.read_text()))


@pytest.mark.parametrize("call", ["path.read_text()", "p.write_text(text)", "Console(stderr=True)", "rich.console.Console()"])
def test_a_planted_locale_is_found(call: str):
    assert len(list(locale_bound(f"def f():\n    return {call}\n"))) == 1
    assert not list(locale_bound("a.read_text(encoding='utf-8')\nb.read_bytes()\nterminal()\n"))


def test_replacing_no_file_is_allowed():
    source = "a.replace('x', 'y')\ndataclasses.replace(a, b=1)\nreplace(a, b=2)\nNamedTemporaryFile('w')\nreplace(a)\n"
    assert not list(replacements(source))

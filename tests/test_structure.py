"""The folder listing of `hw` is the block diagram of docs/architecture.md, and its files and descriptions stay short."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("control", "memory", "row", "weights")
MOST_LINES = 500
MOST_ELABORATE_LINES = 100
SOURCES = sorted((ROOT / "hw").rglob("*.py"))


def test_every_block_is_in_the_diagram():
    text = (ROOT / "docs" / "architecture.md").read_text()
    start = text.index("    accelerator\n")
    diagram = set(text[start : text.index("\n\n", start)].split())
    for folder in FOLDERS:
        assert f"{folder}/" in diagram
        blocks = {path.stem for path in (ROOT / "hw" / folder).glob("*.py")} - {"__init__", "jobs"}
        assert blocks <= diagram, f"hw/{folder}: {sorted(blocks - diagram)} must be in the diagram"


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_files_and_descriptions_are_short(path):
    text = path.read_text()
    assert text.count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name == "elaborate":
            assert node.end_lineno - node.lineno + 1 <= MOST_ELABORATE_LINES, f"line {node.lineno}"

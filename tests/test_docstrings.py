"""Every public name of the packages says what it is; arguments beyond one need more than a word, in the one section for them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import PACKAGES, ROOT, dotted, python_files

OTHER_TITLES = {"Arguments:", "Parameters:", "Params:", "Inputs:"}
"""Titles that a section of arguments, ``Args:``, might have had."""
MODULES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if not path.name.startswith("test_") and path.name != "conftest.py"
)
Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def is_exempt(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Redefinitions whose contract stands elsewhere; Amaranth's ``elaborate`` is described by its class."""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    return node.name == "elaborate" or any(name.endswith((".setter", "overload", "override")) for name in decorators)


def public_definitions(node: Definition, prefix: str) -> Iterator[tuple[str, Definition]]:
    yield prefix, node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or child.name.startswith("_"):
            continue
        if isinstance(child, ast.ClassDef) or not is_exempt(child):
            yield from public_definitions(child, f"{prefix}.{child.name}")


def parameter_count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in arguments)


def complaints(source: str, name: str) -> list[str]:
    """One line per public name without a docstring, or with one word for several parameters."""
    found = []
    for where, node in public_definitions(ast.parse(source), name):
        text = (ast.get_docstring(node) or "").split()
        if not text:
            found.append(f"{where} has no docstring")
        elif not isinstance(node, ast.Module | ast.ClassDef) and parameter_count(node) >= 2 and len(text) < 2:
            found.append(f"{where} has {parameter_count(node)} parameters and a docstring of one word")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_have_docstrings(path: Path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    assert not complaints(path.read_text(), name)


def test_missing_docstrings_are_found():
    source = "'M.'\nclass A:\n    'A.'\n    def f(self): ...\n    def _g(self): ...\ndef h(a, b):\n    'H.'\n"
    assert complaints(source, "m") == [
        "m.A.f has no docstring",
        "m.h has 2 parameters and a docstring of one word",
    ]
    assert complaints("", "m") == ["m has no docstring"]


def other_titles(source: str) -> list[str]:
    """Titles of argument sections that are not ``Args:``, of all docstrings of a file."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, Definition))
    lines = (line.strip() for node in nodes for line in (ast.get_docstring(node) or "").splitlines())
    return [line for line in lines if line in OTHER_TITLES]


@pytest.mark.parametrize("path", python_files(*PACKAGES, "benchmarks", "tests"), ids=dotted)
def test_arguments_have_one_title(path: Path):
    assert not other_titles(path.read_text())


def test_another_title_is_found():
    source = 'class A:\n    """A."""\n\n    def f(self, a, b):\n        """F.\n\n        {}\n            a: b.\n        """\n'
    assert not other_titles(source.format("Args:"))
    assert other_titles(source.format("Arguments:")) == ["Arguments:"]

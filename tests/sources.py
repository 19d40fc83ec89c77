"""The sources as the laws read them: which files there are, and which modules each one imports, in whatever way."""

import ast
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("hw", "sw", "sim", "search")


def python_files(*folders: str) -> list[Path]:
    """All Python files of some folders of the checkout."""
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def modules(package: str) -> list[Path]:
    """A package's modules that are no tests and no benches."""
    return [path for path in python_files(package) if not path.name.startswith(("test_", "bench_"))]


def dotted(path: Path, root: Path = ROOT) -> str:
    """The name that a file is imported by."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def sources(root: Path, *folders: str) -> dict[str, str]:
    """Text of every module of some folders, by dotted name."""
    return {dotted(path, root): path.read_text() for folder in folders for path in sorted((root / folder).rglob("*.py"))}


def entry_points(root: Path = ROOT) -> dict[str, str]:
    """What pyproject.toml lets others open by name: ``module:attribute`` by ``group:name``."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    groups = {"scripts": project.get("scripts", {})} | project.get("entry-points", {})
    return {f"{group}:{name}": target for group, names in groups.items() for name, target in names.items()}


def _dynamic(node: ast.AST) -> ast.expr | None:
    """The argument of ``import_module(…)`` or ``__import__(…)``, by whatever name it is reached; else None."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return node.args[0] if name in ("import_module", "__import__") else None


def _literal_start(argument: ast.expr) -> tuple[str, bool]:
    """(the text that a dynamic import's argument begins with, whether that is all of it)."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value, True
    if isinstance(argument, ast.JoinedStr) and argument.values and isinstance(argument.values[0], ast.Constant):
        return str(argument.values[0].value), False
    return "", False


def imports(source: str) -> Iterator[str]:
    """Dotted names that a file imports, anywhere in it: ``from a.b import c`` gives a.b and a.b.c.

    A dynamic import gives the literal text that its argument begins with, ``"?"`` where there is none.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif (argument := _dynamic(node)) is not None:
            yield _literal_start(argument)[0] or "?"


def import_graph(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Which of some modules imports which of them, by dotted name; a package counts where a name of its own is imported.

    A dynamic import ``f"a.{x}"`` leads to every module a.x whose x stands in the file as a string.
    """
    graph: dict[str, set[str]] = {}
    for name, text in texts.items():
        graph[name] = set()
        nodes = list(ast.walk(ast.parse(text)))
        strings = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        for node in nodes:
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names if alias.name in texts}
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    graph[name] |= {full} if full in texts else {node.module} & texts.keys()
            elif (argument := _dynamic(node)) is not None:
                start, whole = _literal_start(argument)
                graph[name] |= ({start} if whole else {start + string for string in strings}) & texts.keys()
        graph[name].discard(name)
    return graph


def reachable(graph: Mapping[str, Iterable[str]], start: str) -> set[str]:
    """What a module imports, and what that imports, and so on; without itself unless it is in a circle."""
    found: set[str] = set()
    todo = list(graph[start])
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += graph[name]
    return found


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of modules each of which leads to all others of its group."""
    after = {name: reachable(graph, name) for name in graph}
    groups = {tuple(sorted(other for other in after[name] if name in after[other])) for name in graph if name in after[name]}
    return [list(group) for group in sorted(groups)]

"""Who imports whom: ``hw ← sw ← sim ← search``, at the top of a file, inside a function, by a string, or by an entry point."""

import ast
import importlib
from collections.abc import Mapping

import pytest

from tests.sources import PACKAGES, ROOT, circles, entry_points, import_graph, imports, reachable, sources

BELOW = {
    "hw": {"hw"},
    "sw": {"hw", "sw"},
    "sim": {"hw", "sim"},
    "search": {"hw", "sw", "sim", "search"},
    "benchmarks": {"hw", "sw", "sim", "search", "benchmarks"},
}
"""The packages that a package's modules may import."""
SIM_SEES_SW = ("sim.stimulus", "sim.benches", "sim.measure", "sim.measurement")
"""What of `sim` compiles networks: commands, and what draws stimulus. The library takes a Program as data."""

TEXTS = sources(ROOT, *PACKAGES, "benchmarks")


def sees_sw(name: str) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in SIM_SEES_SW)


def backwards(texts: Mapping[str, str]) -> set[str]:
    """One line for every import of a package that the importing module may not know."""
    found = set()
    for name, text in texts.items():
        package = name.partition(".")[0]
        allowed = BELOW[package] | ({"sw"} if sees_sw(name) else set())
        for imported in imports(text):
            if imported == "?":
                found.add(f"{name} imports what only the running program knows")
            elif imported.startswith("."):
                found.add(f"{name} imports by a relative name")
            elif imported.partition(".")[0] in BELOW.keys() - allowed and imported in texts:
                found.add(f"{name} imports {imported}")
    return found


def roundabout(texts: Mapping[str, str]) -> set[str]:
    """One line for every library module of `sim` that reaches `sw` by way of others."""
    graph = import_graph(texts)
    library = [name for name in texts if name.partition(".")[0] == "sim" and not sees_sw(name)]
    return {f"{name} reaches {other}" for name in library for other in reachable(graph, name) if other.startswith("sw.")}


def test_imports_go_one_way():
    assert not backwards(TEXTS)


def test_the_library_of_sim_reaches_no_network():
    assert not roundabout(TEXTS)


def test_no_files_import_each_other_in_a_circle():
    assert not circles(import_graph(TEXTS))


@pytest.mark.parametrize("target", sorted(entry_points().values()))
def test_entry_points_exist(target: str):
    module, _, attribute = target.partition(":")
    assert module in TEXTS
    defined = {node.name for node in ast.parse(TEXTS[module]).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert attribute in defined or hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("hw.a", "import sw.b", "hw.a imports sw.b"),
        ("sw.a", "def f():\n    from sim import b", "sw.a imports sim.b"),
        ("sw.a", "from importlib import import_module\nimport_module('sim.b')", "sw.a imports sim.b"),
        ("sw.a", "import importlib\nimportlib.import_module('search.b').X", "sw.a imports search.b"),
        ("hw.a", "__import__('search.b')", "hw.a imports search.b"),
        ("hw.a", "name = 'sim.b'\nimport_module(name)", "hw.a imports what only the running program knows"),
        ("hw.a", "from . import b", "hw.a imports by a relative name"),
        ("sim.rtl.a", "from sw.b import c", "sim.rtl.a imports sw.b"),
        ("search.a", "from benchmarks.b import c", "search.a imports benchmarks.b"),
    ],
)
def test_a_planted_import_backwards_is_found(name: str, text: str, complaint: str):
    others = {f"{package}.b": "" for package in BELOW}
    assert backwards(others) == set()
    assert complaint in backwards(others | {name: text})


def test_imports_that_go_one_way_are_left_alone():
    allowed = {"sim.measure": "import sw.b", "sim.stimulus.a": "from sw import b", "search.a": "import sim.b, sw.b, hw.b"}
    assert not backwards(allowed | {f"{package}.b": "import numpy" for package in BELOW})
    assert not backwards({"hw.formal.a": "import_module(f'hw.formal.{subject}')"})


def test_a_planted_way_round_to_the_networks_is_found():
    texts = {"sim.rtl.a": "import sim.stimulus.b", "sim.stimulus.b": "def f():\n    import sw.c", "sw.c": ""}
    assert not backwards(texts)
    assert roundabout(texts) == {"sim.rtl.a reaches sw.c"}


@pytest.mark.parametrize(
    "back",
    [
        "import hw.a", "def f():\n    from hw import a", "import_module('hw.a')",
        "for name in ('a', 'z'):\n    import_module(f'hw.{name}')",
    ],
)  # fmt: skip
def test_a_planted_circle_is_found(back: str):
    texts = {"hw.a": "from hw.b import x", "hw.b": "from hw.c import y", "hw.c": back, "hw.d": "import hw.a"}
    assert circles(import_graph(texts)) == [["hw.a", "hw.b", "hw.c"]]
    assert circles(import_graph(texts | {"hw.c": ""})) == []

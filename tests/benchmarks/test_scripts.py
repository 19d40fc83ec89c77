"""Every benchmark answers ``--help`` and declares what its figures depend on: what it imports, and what lies beside that in other
languages."""

import ast
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from benchmarks.freshness import marked, scripts
from benchmarks.pages import reproduction
from benchmarks.result import ROOT, Benchmark
from hw.provenance import source_digest
from tests.sources import PACKAGES, import_graph, reachable, sources

TEXTS = sources(ROOT, *PACKAGES, "benchmarks")
GRAPH = import_graph(TEXTS)
MAIN = '__name__ == "__main__"'
COMMANDS = sorted(name for name, text in TEXTS.items() if name.startswith("benchmarks.") and MAIN in text)
MODULES = {name: command.split()[2] for name, command in scripts().items()}
"""Of each result."""
CARRIERS = ("hw.errors", "hw.files", "hw.processes", "hw.progress", "hw.provenance", "hw.tables", "search.report",
            "benchmarks.picture", "benchmarks.result", "benchmarks.sources")  # fmt: skip
"""What carries figures and makes none."""
STATUS = "benchmarks.status"
ABOUT_COMMANDS = {"benchmarks.commands.ends"}
"""Scripts that tell of the commands themselves, and so of everything, carriers too."""
ASSETS = {
    "sw.networks.network": "sw/assets",
    "sw.data.fashion_mnist": "sw/assets",
    "benchmarks.pivot.lv_vit_weights": "benchmarks/lv_vit",
}
"""Folders that modules read from."""
WITH_ITS_GROUP = {"hw/presets.py"}
"""Parts of a group that not all who declare the group need."""


def file_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def beside(module: str) -> set[str]:
    """Sources in other languages in a module's folder, and in folders of that which hold no Python."""
    folder = file_of(module).parent
    folders = [folder, *(each for each in folder.iterdir() if each.is_dir() and not any(each.rglob("*.py")))]
    suffixes = {".sv", ".v", ".vlt", ".hpp", ".cpp", ".tcl", ".xdc"}
    return {str(path.relative_to(ROOT)) for each in folders for path in each.iterdir() if path.suffix in suffixes}


def read_results(text: str) -> set[str]:
    """Results of other benchmarks that a script loads."""
    nodes = list(ast.walk(ast.parse(text)))
    imported = [(alias, node.module) for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    aliases = {alias.asname: module for alias, module in imported if alias.name == "BENCHMARK"}
    loads = {ast.unparse(node.func).removesuffix(".load") for node in nodes if isinstance(node, ast.Call)}
    names = {module: name for name, module in MODULES.items()}
    return {f"benchmarks/results/{names[aliases[alias]]}.json" for alias in loads & aliases.keys()}


def needed(module: str, graph: Mapping[str, Iterable[str]]) -> set[str]:
    """Files and folders that a script's figures may depend on."""
    strings = {node.value for node in ast.walk(ast.parse(TEXTS[module])) if isinstance(node, ast.Constant)}
    commands = strings & {name for name, text in TEXTS.items() if MAIN in text}
    modules = {module, *commands}.union(*(reachable(graph, name) for name in (module, *commands)))
    if module in ABOUT_COMMANDS:
        modules |= {name for name in TEXTS if name.startswith(PACKAGES)} | reachable(graph, STATUS) | {STATUS}
    else:
        modules -= {name for name in modules if any(f"{name}.".startswith(f"{carrier}.") for carrier in CARRIERS)}
    files = {str(file_of(name).relative_to(ROOT)) for name in modules}
    return files.union(*map(beside, modules)) | {ASSETS[name] for name in modules & ASSETS.keys()} | read_results(TEXTS[module])


def lies_in(file: str, parts: Iterable[str]) -> bool:
    return any(file == part or file.startswith(f"{part}/") for part in parts)


def missing(parts: Iterable[str], files: Iterable[str]) -> list[str]:
    return sorted(file for file in files if not lies_in(file, parts))


def undecorated(text: str) -> bool:
    """Whether errors of a script's main would be told by a traceback."""
    mains = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == "main")
    return not any(ast.unparse(decorator).startswith("command(") for main in mains for decorator in main.decorator_list)


def test_every_script_tells_errors_in_one_line():
    assert not [name for name in COMMANDS if undecorated(TEXTS[name])]
    assert undecorated("def main(arguments): ...") and not undecorated("@command(RuntimeError)\ndef main(arguments): ...")


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name: str, capsys: pytest.CaptureFixture):
    module = importlib.import_module(name)
    with pytest.raises(SystemExit) as end:
        module.main(["--help"])
    assert end.value.code == 0
    assert f"python -m {name}" in capsys.readouterr().out


def test_the_page_of_the_reproduction_is_current():
    assert marked(reproduction.PAGE.read_text()) == reproduction.page(), "run python -m benchmarks.pages.reproduction"


@pytest.fixture(scope="module")
def benchmarks() -> dict[str, Benchmark]:
    """By the result's name."""
    return {name: importlib.import_module(module).BENCHMARK for name, module in MODULES.items()}


def test_every_script_that_saves_is_known(benchmarks):
    saving = {name for name, text in TEXTS.items() if name.startswith("benchmarks.") and "BENCHMARK.save(" in text}
    assert saving == set(MODULES.values())
    assert {name: (each.path.stem, each.command) for name, each in benchmarks.items()} == {
        name: (name, command) for name, command in scripts().items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_a_declaration_holds_what_is_needed_and_nothing_else(name: str, benchmarks):
    files, parts = needed(MODULES[name], GRAPH), benchmarks[name].sources
    assert not missing(parts, files)
    assert not [part for part in parts if part not in WITH_ITS_GROUP and not any(lies_in(file, [part]) for file in files)]


def test_a_forgotten_part_is_found(benchmarks):
    for name in ("cycle_model", "energy_deit_s", "unseen_models", "pivot_result"):
        files, parts = needed(MODULES[name], GRAPH), benchmarks[name].sources
        for part in set(parts) - WITH_ITS_GROUP:
            assert missing(set(parts) - {part}, files), f"{name} without {part}"


def test_a_planted_import_is_found(benchmarks):
    planted = GRAPH | {"sim.cycle_model.prediction": {*GRAPH["sim.cycle_model.prediction"], "hw.formal.sequencer_proof"}}
    name = "benchmarks.simulation.cycle_model"
    assert missing(benchmarks["cycle_model"].sources, needed(name, planted | {"hw.formal.sequencer_proof": ()})) == [
        "hw/formal/sequencer_proof.py"
    ]


@pytest.fixture(scope="module")
def tree(benchmarks, tmp_path_factory) -> Path:
    """A checkout in which every result is fresh."""
    root = tmp_path_factory.mktemp("checkout")
    for name in (*PACKAGES, "benchmarks"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "assets", "lv_vit", "results"))
    for name, benchmark in reversed(benchmarks.items()):
        digests = {part: source_digest([part], root)[:16] for part in benchmark.sources if "/results/" not in part}
        provenance = {"command": benchmark.command, "date": "2026-11-30", "wall_s": 90, "sources": digests}
        path = root / "benchmarks" / "results" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"provenance": provenance}))
    return root


def changed(root: Path) -> dict[str, list[str]]:
    """Changed parts of every stale result, as the command says."""
    command = [sys.executable, "-m", "benchmarks.status", "--json", "status.json"]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=60)
    entries = json.loads((root / "status.json").read_text())
    assert {entry["name"] for entry in entries} == set(MODULES)
    return {entry["name"]: entry["changed"] for entry in entries if entry["state"] == "stale"}


@pytest.mark.parametrize(
    ("module", "count"),
    [("hw.row.softmax_unit", 22), ("sw.compiler.loop_order", 21), ("search.report.page", 1)],
)
def test_an_edited_source_makes_exactly_those_stale_that_depend_on_it(module: str, count: int, tree: Path):
    path = tree.joinpath(*module.split(".")).with_suffix(".py")
    name = str(path.relative_to(tree))
    depend = {result for result, script in MODULES.items() if name in needed(script, GRAPH)}
    text = path.read_text()
    path.write_text(f"{text}\n# edited\n")
    found = changed(tree)
    path.write_text(text)  # undone for whoever comes next
    assert found.keys() == depend
    assert all(len(parts) == 1 and lies_in(name, parts) for parts in found.values())
    assert len(found) == count

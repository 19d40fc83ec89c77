"""What `benchmarks.status` tells, runs and marks."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import freshness, status
from benchmarks.freshness import MARK, OLD, Result, documents, mark, marked, scripts
from benchmarks.result import RESULTS, ROOT, part_digests
from hw.errors import InputError

FRESH = {"date": "2026-11-30", "commit": "0123456789" * 4, "sources": part_digests(["hw/errors.py"]), "wall_s": 90.0}
PAGES = [path for path in documents() if path.parent.name != "decisions"]
"""Documents that tell how things are; a decision tells how they were."""


@pytest.fixture
def results(tmp_path: Path, monkeypatch) -> Path:
    """A folder of results for whom the scripts are ``a``, ``b``, ``c`` and ``d``."""
    for module in ("benchmarks.result", "benchmarks.freshness"):
        monkeypatch.setattr(f"{module}.RESULTS", tmp_path)
    known = {name: f"python -m benchmarks.machine.{name}" for name in "abcd"}
    for module in (freshness, status):
        monkeypatch.setattr(module, "scripts", lambda: known, raising=False)
    return tmp_path


def store(folder: Path, name: str, content: dict) -> Result:
    (folder / f"{name}.json").write_text(json.dumps(content))
    return Result.read(name)


def test_every_result_has_a_script():
    assert {path.stem for path in RESULTS.glob("*.json")} <= scripts().keys()
    for name in scripts():
        assert Result.read(name).command.startswith(scripts()[name])


def test_states(results: Path):
    old = {**FRESH, "sources": FRESH["sources"] | {"hw/files.py": "0" * 16, "hw/gone.py": "1" * 16}}
    contents = {"a": {"provenance": FRESH}, "b": {"provenance": old}, "c": {"command": "python -m benchmarks.machine.c --rtl"}}
    for name, content in contents.items():
        store(results, name, content)
    assert [(entry["name"], entry["state"], entry["changed"]) for entry in map(status.entry, freshness.all_results())] == [
        ("a", "fresh", []),
        ("b", "stale", ["hw/files.py", "hw/gone.py"]),
        ("c", "stale", None),
        ("d", "missing", None),
    ]
    assert [(entry["minutes"], entry["command"]) for entry in map(status.entry, freshness.all_results())] == [
        (1.5, "python -m benchmarks.machine.a"),
        (1.5, "python -m benchmarks.machine.b"),
        (None, "python -m benchmarks.machine.c --rtl"),
        (None, "python -m benchmarks.machine.d"),
    ]


def of(name: str, minutes: float | None, *reads: str, stale: bool = True) -> Result:
    read = {f"benchmarks/results/{other}.json": "0" * 16 for other in reads}
    sources = FRESH["sources"] | ({"hw/errors.py": "0" * 16} if stale else {}) | read
    seconds = {} if minutes is None else {"wall_s": 60 * minutes}
    return Result(name, {"provenance": {"sources": sources, **seconds}})


def test_what_fits_is_run_shortest_first_and_after_what_it_reads():
    results = [of("a", 30), of("b", 2), of("c", 1, "d"), of("d", 5), of("e", None), of("f", 1, stale=False)]

    def names(wanted: str, minutes: float | None) -> str:
        return "".join(result.name for result in status.choose(results, wanted, minutes))

    assert names("stale", 100) == "bdca"
    assert names("stale", 8) == "bdc"
    assert names("stale", 3.5) == "bc"
    assert names("stale", 0) == ""
    assert names("e,a,f", None) == "efa"
    with pytest.raises(InputError, match="--minutes"):
        names("stale", None)
    with pytest.raises(InputError, match=r"\(a, b, c, d, e, f\), not x, stale"):
        names("x,a,stale", None)


def test_one_failure_stops_nothing_and_is_told(results: Path, monkeypatch, capfd):
    commands = {"a": "python -c 'import sys; sys.exit(3)'", "b": "python -c 'print(1 + 1)'"}
    monkeypatch.setattr(freshness, "scripts", lambda: commands)
    report = results / "out" / "status.json"
    assert status.main(["--run", "a,b", "--json", str(report)]) == 1
    out, err = capfd.readouterr()
    assert "2" in out.splitlines() and err.splitlines()[-1] == "error: failed: a (exit code 3)"
    assert [entry["name"] for entry in json.loads(report.read_text())] == ["a", "b"]
    assert status.main(["--run", "b"]) == 0


@pytest.mark.parametrize("arguments", [["--run", "nothing"], ["--run", "stale"], ["--minutes", "3"], ["--json", "/dev"]])
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], capsys):
    assert status.main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1


def test_lines_tell_date_commit_and_age(results: Path):
    end = " <!-- result: a.json -->"
    assert Result.read("a").line() == f"From a run that left no `a.json`.{OLD}{end}"
    assert store(results, "a", {"command": "x"}).line() == f"From `a.json`, undated.{OLD}{end}"
    assert store(results, "a", {"provenance": FRESH}).line() == f"From `a.json`, 2026-11-30, commit 0123456.{end}"
    edited = FRESH | {"commit": FRESH["commit"] + "+edited", "sources": {"hw/errors.py": "0" * 16}}
    assert store(results, "a", {"provenance": edited}).line() == f"From `a.json`, 2026-11-30, commit 0123456 with edits.{OLD}{end}"
    wheel = FRESH | {"commit": "pivot-codesign 0.5.0"}
    assert store(results, "a", {"provenance": wheel}).line() == f"From `a.json`, 2026-11-30, pivot-codesign 0.5.0.{end}"


def test_documents_are_marked_and_the_rest_of_them_stays(results: Path):
    path = results / "page.md"
    mark_alone = "<!-- result: a.json -->"
    path.write_text(f"# T\n\n{mark_alone}\n\n12 of 13. From `a.json`, 2020-01-01. {mark_alone}\nFrom there on.\n")
    line = store(results, "a", {"provenance": FRESH}).line()
    assert mark([path]) == {path: ["a"]}
    assert path.read_text() == f"# T\n\n{line}\n\n12 of 13. {line}\nFrom there on.\n"
    assert mark([path]) == {}
    old = store(results, "a", {"provenance": FRESH | {"sources": {"hw/errors.py": ""}}}).line()
    assert old != line and marked(path.read_text()) == path.read_text().replace(line, old)
    assert mark([path]) == {path: []}  # the same run, older


def untrue(text: str) -> list[str]:
    """Lines of a document that call a stale result fresh, or tell another run than the last one."""
    results = {match[0]: Result.read(match[1]) for match in MARK.finditer(text)}
    return [line for line, result in results.items() if line not in {result.line(), result.line(stale=True)}]


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_document_calls_a_stale_result_fresh(path: Path):
    assert not untrue(path.read_text()), "run python -m benchmarks.status --mark"


def test_a_planted_fresh_line_is_found(results: Path):
    fresh = store(results, "a", {"provenance": FRESH})
    assert not untrue(f"{fresh.line()}\n{fresh.line(stale=True)}")
    stale = store(results, "a", {"provenance": FRESH | {"sources": {}, "date": "2026-12-01"} | {"sources": {"hw/errors.py": "0"}}})
    assert not untrue(stale.line())
    assert untrue(stale.line(stale=False)) and untrue(fresh.line(stale=True)) and untrue("<!-- result: a.json -->")


def unmarked(text: str) -> set[str]:
    """Results that a document names, or whose scripts it names, without a line that tells their age."""
    lines = set(MARK.sub("", text).split("\n"))
    named = set()
    for name, command in scripts().items():
        module = command.split()[2]
        words = (f"{name}.json", module, module.replace(".", "/") + ".py")
        if any(re.search(rf"(?<![\w/.]){re.escape(word)}(?!\w|\.\w)", line) for word in words for line in lines):
            named.add(name)
    return named - {match[1] for match in MARK.finditer(text)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_result_that_a_page_names_has_its_line(path: Path):
    assert not unmarked(path.read_text())


def test_a_planted_result_without_its_line_is_found():
    for text in ("see `speed.json`", "`python -m benchmarks.simulation.speed`", "`benchmarks/simulation/speed.py` says"):
        assert unmarked(text) == {"speed"}
        assert not unmarked(f"{text}\n{Result.read('speed').line()}")
    assert not unmarked("`simulation_speed` and `speed` are names; `benchmarks.simulation.simulation_speedy` is none")


def test_pages_that_the_search_and_its_pictures_are_on_are_marked():
    marks = {match[1] for match in MARK.finditer((ROOT / "README.md").read_text())}
    assert {"cosearch", "delay_split", "ulx3s", "random_machines"} <= marks

"""Every benchmark answers ``--help``, and what its committed result says of its command is true."""

import importlib
import json

import pytest

from benchmarks.result import RESULTS, ROOT, Benchmark
from hw.errors import InputError

SCRIPTS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name: str, capsys: pytest.CaptureFixture):
    module = importlib.import_module(name)
    with pytest.raises(SystemExit) as end:
        module.main(["--help"])
    assert end.value.code == 0
    assert f"python -m {name}" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_results_name_a_command_that_exists(path):
    result = json.loads(path.read_text())
    command = result.get("command") or result.get("provenance", {}).get("command")
    if command is None:  # a report of `python -m hw.build`
        assert {"board", "preset", "resources"} <= set(result)
    else:
        assert command.removeprefix("python -m ").split()[0] in SCRIPTS


def test_a_result_is_saved_with_its_command_and_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.result.RESULTS", tmp_path)
    benchmark = Benchmark("machine.example")
    assert benchmark.last() == {}
    with pytest.raises(InputError, match=r"example\.json must be there; make it with python -m benchmarks\.machine\.example"):
        benchmark.load()
    benchmark.save({"cycles": 3}, "--rtl")
    assert benchmark.load() == benchmark.last() == {"command": "python -m benchmarks.machine.example --rtl", "cycles": 3}
    assert Benchmark("energy.example", "energy_example").path == tmp_path / "energy_example.json"

"""A result is saved with where it comes from, and a run goes on only with what is of the same sources."""

import argparse
import json
from datetime import date
from pathlib import Path

import pytest

from benchmarks.result import RESULTS, Benchmark
from hw.errors import InputError
from hw.provenance import commit, source_digest, versions

PARTS = ("hw/errors.py", "hw/row")


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch) -> Benchmark:
    monkeypatch.setattr("benchmarks.result.RESULTS", tmp_path)
    return Benchmark("machine.flagship", PARTS)


def begin(benchmark: Benchmark, *arguments: str) -> argparse.Namespace:
    parser = benchmark.parser("What it does.")
    parser.add_argument("--set", dest="overrides")
    return benchmark.begin(parser, list(arguments))


def test_the_script_is_a_source_and_no_part_lies_in_another():
    parts = ("hw/row/lane.py", "hw/row", "hw/errors.py", "hw/row.py", "hw/errors.py")
    assert Benchmark("machine.flagship", parts).sources == ("benchmarks/machine/flagship.py", "hw/errors.py", "hw/row", "hw/row.py")


def test_a_result_is_saved_with_its_provenance_and_loaded(benchmark: Benchmark):
    assert benchmark.last() == {}
    with pytest.raises(InputError, match=r"flagship\.json must be there; make it with python -m benchmarks\.machine\.flagship"):
        benchmark.load()
    assert begin(benchmark, "--set", "rows=3, cols=4").overrides == "rows=3, cols=4"
    benchmark.save({"cycles": 3}, seed=[0, 1])
    result = benchmark.load()
    assert result == benchmark.last() and list(result) == ["cycles", "provenance"]
    provenance = result["provenance"]
    assert 0 <= provenance.pop("wall_s") < 60 and provenance.pop("cores") >= 1
    assert provenance == {
        "date": date.today().isoformat(),
        "seed": [0, 1],
        "command": "python -m benchmarks.machine.flagship --set 'rows=3, cols=4'",
        "commit": commit(benchmark.sources),
        "versions": versions(),
        "digest": source_digest(benchmark.sources),
        "sources": {part: source_digest([part])[:16] for part in ("benchmarks/machine/flagship.py", *PARTS)},
    }


def test_a_result_without_draws_has_no_seed(benchmark: Benchmark):
    begin(benchmark)
    benchmark.save({})
    assert "seed" not in benchmark.load()["provenance"]
    assert benchmark.load()["provenance"]["command"] == "python -m benchmarks.machine.flagship"


def test_another_name_of_the_file():
    assert Benchmark("energy.example", file="energy_example").path == RESULTS / "energy_example.json"


def test_a_run_goes_on_with_a_result_of_the_same_sources_alone(benchmark: Benchmark):
    begin(benchmark)
    benchmark.save({"cycles": 3})
    saved = json.loads(benchmark.path.read_text())
    saved["provenance"]["wall_s"] = 1000.0
    benchmark.path.write_text(json.dumps(saved))
    begin(benchmark)
    assert benchmark.last("hw/row")["cycles"] == 3
    benchmark.save({"cycles": 3})
    assert benchmark.load()["provenance"]["wall_s"] < 60  # of this run alone
    benchmark.path.write_text(json.dumps(saved))
    assert benchmark.last()["cycles"] == 3
    benchmark.save({"cycles": 4})
    assert benchmark.load()["provenance"]["wall_s"] >= 1000.0  # of both runs

    saved["provenance"]["sources"]["hw/row"] = "0" * 16
    benchmark.path.write_text(json.dumps(saved))
    begin(benchmark)
    assert benchmark.last() == benchmark.last("hw/row", "hw/errors.py") == {}
    assert benchmark.last("hw/errors.py")["cycles"] == 3

    del saved["provenance"]["sources"]  # from before there were any
    benchmark.path.write_text(json.dumps(saved))
    assert benchmark.last() == benchmark.last("hw/errors.py") == {}

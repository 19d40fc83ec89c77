import dataclasses
import gzip
import itertools
import json
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from sw.data.fashion_mnist import ASSETS

SMALL = (
    "--efforts=3,6", "--images=96", "--steps=24", "--batch=16", "--rtl-images=6", "--random-paths=2", "--lec=0.1",
    "--max-loss=1", "--threads=1",
)  # fmt: skip


def _command(out, *more):
    return [sys.executable, "-m", "search.cosearch", *SMALL, f"--out={out}", *more]


def _comparable(path):
    """`result.json` as bytes, without wall-clock time and provenance."""
    result = json.loads(path.read_text())
    del result["wall_s"], result["provenance"]
    return json.dumps(result).encode()


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A small search, run without interruption."""
    out = tmp_path_factory.mktemp("search")
    started = time.monotonic()
    done = subprocess.run(_command(out), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return out, time.monotonic() - started


def _steps(out):
    """Every finished step with the seconds that it took, which no second run would repeat."""
    found = []
    for file in sorted((out / "steps").glob("*/steps.sqlite")):
        found += sqlite3.connect(file).execute("SELECT name, value, wall_s FROM step ORDER BY name").fetchall()
    return found


def test_result_holds_what_the_schema_names(whole_run):
    result = json.loads((whole_run[0] / "result.json").read_text())
    assert set(result) >= {
        "model", "preset", "seed", "low", "high", "threshold_nats", "lec", "f_low", "f_low_test", "accuracy", "delay_ms",
        "energy_mj", "edp_mj_ms", "edp_gain", "best_single", "rtl", "front", "provenance", "attention_share",
    }  # fmt: skip
    assert result["model"] == "fmnist_vit_tiny" and result["preset"] == "nano"
    assert set(result["accuracy"]) == {"baseline_fp32", "baseline_int8", "low", "high", "cascade", "shipped_int8"}
    assert set(result["low"]["kept"]) < set(result["high"]["kept"])
    assert result["f_low"] >= result["lec"] and 0 < result["attention_share"] < 1
    assert result["rtl"]["gated"]["mismatches"] == 0 and result["rtl"]["gated"]["images"] == 6
    for name in ("low", "high"):
        assert result["rtl"][f"{name}_cycles"] == result[name]["cycles"] > 0
    assert result["cycle_model"]["counters_equal_rtl"]
    assert result["delay_ms"]["baseline"] * result["energy_mj"]["baseline"] == pytest.approx(result["edp_mj_ms"]["baseline"])


def test_report_is_one_page_with_its_pictures(whole_run):
    page = (whole_run[0] / "report.html").read_text()
    assert page.count("<svg") == 5
    assert not re.search(r'(src|href)="?https?:', page)  # nothing is loaded from elsewhere
    assert "Attention's share" in page.replace("&#x27;", "'")


def test_a_killed_search_goes_on_and_ends_with_the_same_bytes(whole_run, tmp_path, seed):
    reference, duration = whole_run
    moments = sorted(random.Random(seed).uniform(0.1, 0.9) * duration for _ in range(3))
    for wait in [moments[0], *(later - earlier for earlier, later in itertools.pairwise(moments))]:
        process = subprocess.Popen(_command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=max(wait, 2.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    subprocess.run(_command(tmp_path), check=True, capture_output=True, timeout=600)
    assert _comparable(tmp_path / "result.json") == _comparable(reference / "result.json")


def test_the_test_labels_choose_nothing(whole_run, tmp_path):
    """Shuffled labels of the test split change what is reported, and nothing that was chosen."""
    data = tmp_path / "data"
    shutil.copytree(ASSETS, data)
    labels = data / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(labels.read_bytes()))
    shuffled = list(content[8:])  # behind magic and count
    random.Random(0).shuffle(shuffled)
    content[8:] = bytes(shuffled)
    labels.write_bytes(gzip.compress(content))
    out = tmp_path / "run"
    subprocess.run(_command(out, f"--data={data}"), check=True, capture_output=True, timeout=600)
    shown, reference = (json.loads((path / "result.json").read_text()) for path in (out, whole_run[0]))
    for name in ("low", "high", "threshold_nats", "f_low", "f_low_test", "delay_ms", "energy_mj"):
        assert shown[name] == reference[name], name
    assert shown["best_single"]["kept"] == reference["best_single"]["kept"]
    assert shown["accuracy"]["cascade"] < 0.3 < reference["accuracy"]["cascade"]


def test_the_choice_needs_no_test_split(whole_run, tmp_path):
    """Without a test split the same pair and threshold are chosen: nothing that chooses reads one."""
    import torch

    from search import cosearch, decision, result

    threads = torch.get_num_threads()
    reference = json.loads((whole_run[0] / "result.json").read_text())
    decisions = []

    def decide_alone(run, directory):
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, test=None, test_all=None))
        decisions.append(decision.decide(run))
        raise decision.NoPairQualifies("the rest of the search needs the test split")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result, "conclude", decide_alone)
        assert cosearch.main([*SMALL, f"--out={tmp_path / 'run'}"]) == 1
    torch.set_num_threads(threads)
    (made,) = decisions
    low, high = made.pair
    assert [list(low.path.kept), list(high.path.kept)] == [reference["low"]["kept"], reference["high"]["kept"]]
    assert made.choice.cascade.threshold / result.UNITS_PER_NAT == reference["threshold_nats"]
    assert made.choice.cascade.f_low == reference["f_low"]


def test_a_finished_search_is_not_run_again_but_changed_arguments_are(whole_run):
    out = whole_run[0]
    steps = _steps(out)
    (out / "result.json").rename(out / "before.json")
    subprocess.run(_command(out), check=True, capture_output=True, timeout=600)
    assert steps and _steps(out) == steps
    assert _comparable(out / "result.json") == _comparable(out / "before.json")
    runs = {path.name for path in (out / "steps").iterdir()}
    refused = subprocess.run(_command(out, "--max-loss=0", "--lec=1"), capture_output=True, text=True, timeout=600, check=False)
    assert refused.returncode in (0, 1)  # a pair at F_low = 1 may or may not keep the accuracy
    assert len({path.name for path in (out / "steps").iterdir()} - runs) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "mega"), "preset must be one of"),
        (("--model", "vit_unheard_of"), "vit_unheard_of"),
        (("--lec", "1.5"), "--lec must be between 0 and 1, not 1.5"),
        (("--efforts", "0,3"), "--efforts must name"),
        (("--efforts", "x"), "--efforts must be integers"),
        (("--data", "/no/such/place"), "/no/such/place"),
        (("--set", "rows=99"), "rows must be between 1 and 64"),
        (("--memory", "latency=0"), "latency"),
        (("--rtl-images", "5000"), "--rtl-images must be at most"),
        (("--steps", "0"), "--steps must be at least 1, not 0"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "search.cosearch", f"--out={tmp_path / 'run'}", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0], done.stderr
    assert not (tmp_path / "run").exists()


def test_help_is_fast_and_complete():
    command = [sys.executable, "-X", "importtime", "-m", "search.cosearch", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for option in ("--lec", "--max-loss", "--preset", "--efforts", "--memory"):
        assert option in done.stdout
    assert "torch" not in done.stderr and "matplotlib" not in done.stderr

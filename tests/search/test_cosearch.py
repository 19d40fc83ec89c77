import contextlib
import dataclasses
import gzip
import json
import multiprocessing
import pathlib
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from rich.progress import Progress

from hw.numerics import UNITS_PER_NAT
from search import cosearch
from sw.data.fashion_mnist import ASSETS, load_fashion_mnist

MODEL = "vit:dim=24,depth=4,heads=2,tokens=17,classes=10,patch=7,mlp_ratio=2"
SMALL = (
    f"--model={MODEL}", "--efforts=1,2", "--images=200", "--steps=24", "--batch=16", "--rtl-images=6", "--random-paths=2",
    "--lec=0.3", "--max-loss=0.01", "--threads=1",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Searches in this process set their number of threads; results to the last bit depend on it."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, one_thread):
    """Arguments of a small search: of a network that is trained far enough to be right about every other image."""
    from sw.graph.path_vit import PathVit
    from sw.networks.checkpoint import save_tensors
    from sw.networks.network import parse_network, untrained_network
    from sw.training.finetune import finetune
    from sw.training.recipe import Recipe

    network = PathVit(untrained_network(parse_network(MODEL), 0))
    train = load_fashion_mnist("embedded").train
    trained = finetune(network, None, train, Recipe(steps=200, batch=64, lr=3e-3, distill_weight=0.0))
    weights = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_tensors(weights, trained.vit.state_dict())
    return (*SMALL, f"--weights={weights}")


def _written(path):
    """The content of a `result.json`, without wall-clock time and provenance."""
    result = json.loads(path.read_text())
    del result["wall_s"], result["provenance"]
    return result


def _found(arguments):
    """The same of a search in this process, which draws no report."""
    with Progress(disable=True) as progress:
        result, _ = cosearch.search(cosearch.parser().parse_args(arguments), progress)
    del result["data_digest"]
    return json.loads(json.dumps(result))


@pytest.fixture(scope="module")
def whole_run(arguments, tmp_path_factory):
    """Where a small search, run as a command and without interruption, left its files."""
    out = tmp_path_factory.mktemp("search")
    command = [sys.executable, "-m", "search.cosearch", *arguments, f"--out={out}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return out


def _steps(out):
    """Every finished step with the seconds that it took, which no second run would repeat."""
    found = []
    for file in sorted((out / "steps").glob("*/steps.sqlite")):
        with contextlib.suppress(sqlite3.OperationalError):  # no table yet
            found += sqlite3.connect(file).execute("SELECT name, value, wall_s FROM step ORDER BY name").fetchall()
    return found


def test_result_holds_what_the_schema_names(whole_run):
    result = json.loads((whole_run / "result.json").read_text())
    assert set(result) >= {
        "model", "preset", "seed", "low", "high", "threshold_nats", "lec", "f_low", "f_low_test", "accuracy", "delay_ms",
        "energy_mj", "edp_mj_ms", "edp_gain", "best_single", "rtl", "front", "provenance", "attention_share",
    }  # fmt: skip
    assert result["model"] == MODEL and result["preset"] == "nano"
    assert set(result["accuracy"]) == {"baseline_fp32", "baseline_int8", "low", "high", "cascade", "shipped_int8"}
    assert set(result["low"]["kept"]) < set(result["high"]["kept"])
    assert result["f_low"] >= result["lec"] and 0 < result["attention_share"] < 1
    assert result["rtl"]["gated"]["mismatches"] == 0 and result["rtl"]["gated"]["images"] == 6
    for name in ("low", "high"):
        assert result["rtl"][f"{name}_cycles"] == result[name]["cycles"] > 0
    assert result["cycle_model"]["counters_equal_rtl"]
    assert result["delay_ms"]["baseline"] * result["energy_mj"]["baseline"] == pytest.approx(result["edp_mj_ms"]["baseline"])


def test_report_is_one_page_with_its_pictures(whole_run):
    page = (whole_run / "report.html").read_text()
    assert page.count("<svg") == 5
    assert not re.search(r'(src|href)="?https?:', page)  # nothing is loaded from elsewhere
    assert "Attention's share" in page.replace("&#x27;", "'")


def _killed(arguments, count, delay):
    """Start a search and kill it ``delay`` seconds after it has finished ``count`` steps; whether it was still running."""
    searches = multiprocessing.get_context("forkserver")  # forks of a process that has imported torch already
    searches.set_forkserver_preload(["search.cosearch", "search.result", "sw.importing", "sw.training.finetune"])
    process = searches.Process(target=cosearch.main, args=(arguments,))
    process.start()
    (out,) = (pathlib.Path(text.removeprefix("--out=")) for text in arguments if text.startswith("--out="))
    while process.is_alive() and len(_steps(out)) < count:
        time.sleep(0.01)
    process.join(delay)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def test_a_killed_search_goes_on_and_ends_with_the_same_result(whole_run, arguments, tmp_path, seed):
    draw = random.Random(seed)
    arguments = [*arguments, f"--out={tmp_path}"]
    counts = sorted(draw.sample(range(len(_steps(whole_run)) - 4), 2))
    assert all([_killed(arguments, count, draw.uniform(0, 0.5)) for count in counts])
    assert counts[-1] <= len(_steps(tmp_path)) < len(_steps(whole_run))
    assert _found(arguments) == _written(whole_run / "result.json")


def test_the_test_labels_choose_nothing(whole_run, arguments, tmp_path):
    """Shuffled labels of the test split change what is reported, and nothing that was chosen; they make it another run."""
    data = tmp_path / "data"
    shutil.copytree(ASSETS, data)
    labels = data / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(labels.read_bytes()))
    shuffled = list(content[8:])  # behind magic and count
    random.Random(0).shuffle(shuffled)
    content[8:] = bytes(shuffled)
    labels.write_bytes(gzip.compress(content))
    runs = set((whole_run / "steps").iterdir())
    shown, reference = _found([*arguments, f"--data={data}", f"--out={whole_run}"]), _written(whole_run / "result.json")
    assert len(set((whole_run / "steps").iterdir()) - runs) == 1
    for name in ("low", "high", "threshold_nats", "f_low", "f_low_test", "delay_ms", "energy_mj"):
        assert shown[name] == reference[name], name
    assert shown["best_single"]["kept"] == reference["best_single"]["kept"]
    assert shown["accuracy"]["cascade"] < 0.3 < reference["accuracy"]["cascade"]


def test_the_choice_needs_no_test_split(whole_run, arguments, tmp_path):
    """Without a test split the same pair and threshold are chosen: nothing that chooses reads one."""
    from search import decision, result

    reference = json.loads((whole_run / "result.json").read_text())
    decisions = []

    def decide_alone(run, directory):
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, test=None, test_all=None))
        decisions.append(decision.decide(run))
        raise decision.NoPairQualifies("the rest of the search needs the test split")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result, "conclude", decide_alone)
        assert cosearch.main([*arguments, f"--out={tmp_path / 'run'}"]) == 1
    (made,) = decisions
    low, high = made.pair
    assert [list(low.path.kept), list(high.path.kept)] == [reference["low"]["kept"], reference["high"]["kept"]]
    assert made.choice.cascade.threshold / UNITS_PER_NAT == reference["threshold_nats"]
    assert made.choice.cascade.f_low == reference["f_low"]


def test_a_finished_search_is_not_run_again(whole_run, arguments):
    steps = _steps(whole_run)
    (whole_run / "result.json").rename(whole_run / "before.json")
    assert cosearch.main([*arguments, f"--out={whole_run}"]) == 0
    assert steps and _steps(whole_run) == steps
    assert _written(whole_run / "result.json") == _written(whole_run / "before.json")


@pytest.mark.parametrize(
    ("changed", "message"),
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
        (("--images", "1"), "--images must be at least 4, for CKA, not 1"),
        (("--steps", "0"), "--steps must be at least 1, not 0"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(changed, message, tmp_path, capsys):
    assert cosearch.main([f"--out={tmp_path / 'run'}", *changed]) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0], error
    assert not (tmp_path / "run").exists()


def test_help_is_fast_and_complete():
    command = [sys.executable, "-X", "importtime", "-m", "search.cosearch", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for option in ("--lec", "--max-loss", "--preset", "--efforts", "--memory"):
        assert option in done.stdout
    assert "torch" not in done.stderr and "matplotlib" not in done.stderr

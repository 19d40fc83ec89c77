import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hw.device import RunResult, mismatches
from hw.isa import COUNTERS
from sim.measure import _print_tables, main
from sim.measurement import breakdown

SMALL = ["--model", "vit:dim=8,depth=2,heads=2,tokens=5,classes=3", "--engine", "golden", "--images", "2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet_of_vit"], "Network"),
        (["--model", "vit:dim=8"], "must also give depth"),
        (["--preset", "none"], "preset must be one of nano"),
        ([*SMALL, "--skip", "2"], "--skip takes encoder indices from 0 to 1, not '2'"),
        ([*SMALL, "--skip", "x"], "--skip takes encoder indices"),
        ([*SMALL, "--path", "full"], "--path takes 2 kinds of full, mlp"),
        ([*SMALL, "--path", "full,half"], "--path takes 2 kinds of full, mlp"),
        ([*SMALL, "--path", "full,mlp", "--skip", "1"], "--path takes the place of --skip"),
        ([*SMALL, "--memory", "latency=0"], "Memory latency must be an integer from 1"),
        ([*SMALL, "--set", "rows=0"], "rows must be a positive integer, not 0"),
        ([*SMALL, "--set", "rows"], "--set takes field=value"),
        ([*SMALL, "--set", "kv_words=2"], "kv_words must be at least"),
        ([*SMALL, "--images", "0"], "--images must be at least 1, not 0"),
        ([*SMALL, "--seed", "-1"], "--seed must be at least 0, not -1"),
        ([*SMALL, "--set", "rows=3,rows=4"], "--set rows must be given once, not as 3 and 4"),
        ([*SMALL, "--memory", "latency=3,outstanding=1,latency=3"], "latency must be given once, not as 3 and 3"),
        ([*SMALL, "--engine", "paper"], "--engine must be one of rtl, model, both, golden, not 'paper'"),
        ([*SMALL, "--data", "somewhere"], "Data directory somewhere must exist"),
        ([*SMALL, "--image-size", "8x8"], "must be given its image size and classes in its name"),
        ([*SMALL, "--image-size", "8"], "Image size must be HEIGHTxWIDTH, such as 98x98, not '8'"),
        ([*SMALL, "--weights", "pretrained"], "'pretrained' take a timm name"),
        (["--model", "resnet18"], "aten.max_pool2d.default at maxpool does not run"),
        ([*SMALL, "--json", "/proc/none/m.json"], "/proc/none/m.json must be writable: No such file"),
        ([*SMALL, "--trace", "tests"], "tests must be a file, or not exist yet"),
        (["--weights", "missing.safetensors"], "missing.safetensors must exist"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    *stages, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and message in error
    assert all(line.endswith(" ...") for line in stages)  # on a machine that is slow enough


@pytest.mark.parametrize("path", [("--skip", "1"), ("--path", "full,mlp")])
def test_golden_engine_writes_a_measurement(path, tmp_path):
    assert main([*SMALL, *path, "--json", str(tmp_path / "m.json")]) == 0
    fields = json.loads((tmp_path / "m.json").read_text())
    assert fields["kinds"] == ["full", "mlp"] and fields["kept"] == [0] and fields["skipped"] == [1] and fields["preset"] == "nano"
    assert fields["logits_sqnr_db"] > 20 and fields["cycles"] is None
    assert list(tmp_path.iterdir()) == [tmp_path / "m.json"]


def test_a_folder_of_pictures_is_measured(tmp_path):
    for index, name in enumerate(("a", "b", "c")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(10 * index + number).integers(0, 256, (30, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    assert main([*SMALL, "--data", str(tmp_path / "data"), "--json", str(tmp_path / "m.json")]) == 0
    fields = json.loads((tmp_path / "m.json").read_text())
    assert fields["data"] == str(tmp_path / "data") and fields["images"] == 2 and fields["logits_sqnr_db"] > 20


def test_a_timm_model_at_another_size_is_measured(tmp_path):
    options = ["--model", "test_vit", "--image-size", "48x32", "--weights", "random", "--engine", "golden", "--images", "1"]
    options += ["--preset", "zcu102"]
    assert main([*options, "--json", str(tmp_path / "m.json")]) == 0
    fields = json.loads((tmp_path / "m.json").read_text())
    assert fields["logits_sqnr_db"] > 20 and fields["data"] == "random"


def test_the_model_engine_measures_cycles(tmp_path, capsys):
    arguments = [*SMALL[:2], "--engine", "model", "--images", "1", "--json", str(tmp_path / "m.json")]
    assert main([*arguments, "--trace", str(tmp_path / "trace.json")]) == 0
    fields = json.loads((tmp_path / "m.json").read_text())
    assert fields["cycles"] == fields["counters"]["cycles"] == sum(fields["breakdown"].values())
    assert fields["mismatches"] is None and "model_run" not in fields and "million cycles/s" in capsys.readouterr().out
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


def test_traces_need_a_place(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([*SMALL[:2], "--engine", "model", "--images", "1", "--trace", str(tmp_path / "file" / "trace.json")]) == 2
    assert "file/trace.json must be writable: Not a directory" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = "import sys; from sim.measure import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'numpy', 'amaranth', 'cocotb', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def result(**changes):
    values = {"logits": np.zeros((3, 2), int), "exits": np.ones(3, int), "entropy": np.zeros(3, int)}
    return RunResult(**{**values, "gate_entropy": np.zeros(3, int)} | changes)


def test_mismatches_counts_images_once():
    assert mismatches(result(), result()) == 0
    assert mismatches(result(), result(logits=np.array([[0, 0], [0, 1], [0, 0]]), entropy=np.array([0, 7, 0]))) == 1
    assert mismatches(result(), result(exits=np.array([0, 1, 0]))) == 2


def test_missing_images_are_mismatches():
    short = RunResult(*(np.zeros(size, int) for size in ((1, 2), 1, 1, 1)))
    assert mismatches(result(exits=np.zeros(3, int)), short) == 2


def test_tables_show_energy_by_operation(capsys):
    counters = dict.fromkeys((name for name, _ in COUNTERS), 0) | {"cycles": 4000, "operation_qkv": 3000, "operation_context": 1000}
    fields = {
        name: 0 for name in ("macs", "logits_sqnr_db", "mismatches", "utilization", "attention_share", "delay_ms", "clock_mhz")
    }
    fields |= {
        "model": "none",
        "preset": "nano",
        "engine": "rtl",
        "images": 1,
        "data": "random",
        "skipped": [],
        "batch_cycles": 4000,
    }
    fields |= {"wall_s": 1.0, "build_wall_s": 1.0, "sim_cycles_per_s": 4000.0, "counters": counters, "cycles": 4000}
    energy = {"qkv": {"total": 0.5, "low": 0.25, "high": 1.0}, "softmax": {"total": 0.125, "low": 0.0625, "high": 0.25}}
    fields |= {"energy_mj": 0.625, "energy_low_mj": 0.4, "energy_high_mj": 1.1, "energy_operations_mj": energy}
    fields |= {"average_power_w": {"total": 2.0, "low": 1.5, "high": 3.0}, "breakdown": breakdown(counters)}
    _print_tables(fields)
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if len(line.split()) > 4}
    assert "2.00 W, 1.50 to 3.00" in lines["average"]
    assert "3,000" in lines["qkv"] and "0.5000 │ 0.2500 │ 1.0000" in lines["qkv"]
    assert "0.0 %" in lines["softmax"] and "0.1250" in lines["softmax"] and "25.0 %" in lines["context"]

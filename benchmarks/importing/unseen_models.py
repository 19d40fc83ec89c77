"""timm models that nothing here names, on the flagship in RTL; and models with an operation that the machine does not have.

    python -m benchmarks.importing.unseen_models

Each line is one run of `python -m sim.measure --weights random --engine both`, its options in unseen_models.json: mismatches
against the golden machine, whether the cycle model equals the RTL in every counter (on the path, with all attentions and with
none), and the logits' signal-to-noise ratio. The refused ones are recorded with their error line. A quarter of an hour on two
cores.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks.result import Benchmark
from benchmarks.sources import ENERGY, GOLDEN, RTL, WORKLOAD
from hw.errors import command
from hw.files import read_json
from hw.tables import text_table

SOURCES = (
    *GOLDEN, *RTL, *ENERGY, *WORKLOAD, "sim/engines.py", "sim/measure.py", "sim/measurement.py", "sim/timeline",
)  # fmt: skip
BENCHMARK = Benchmark("importing.unseen_models", SOURCES)
PRESET = "zcu102"
LEAST_SQNR_DB = 20.0
MODELS = {
    "vit_tiny_patch16_224": None,
    "deit3_small_patch16_224": None,
    "vit_small_patch14_dinov2": "98x98",
    "deit_small_distilled_patch16_224": None,
    "vit_small_patch16_224": "160x256",
}
"""Image sizes of models that do not run at their own."""
REFUSED = (
    "swin_tiny_patch4_window7_224", "beit_base_patch16_224", "vit_base_patch16_rope_224", "vit_wee_patch16_reg1_gap_256",
)  # fmt: skip
FIELDS = ("images", "macs", "cycles", "utilization", "attention_share", "delay_ms", "mismatches", "logits_sqnr_db", "wall_s")


def measure(model: str, image_size: str | None) -> dict[str, Any]:
    """One run of sim.measure: `exit_code`, and what it found or why it refused."""
    options = ["--model", model, "--weights", "random", "--engine", "both", "--preset", PRESET, "--images", "1"]
    options += ["--image-size", image_size] if image_size else []
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "measure.json"
        words = [sys.executable, "-m", "sim.measure", *options, "--json", str(file)]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
        entry = {"command": " ".join(["python -m sim.measure", *options]), "exit_code": run.returncode}
        if not file.exists():
            return entry | {"error": run.stderr.strip().splitlines()[-1]}
        fields = read_json(file)
    entry |= {name: fields[name] for name in FIELDS}
    return entry | {"counters_equal": fields["runs_equal"], "cycles_of_the_model": fields["model_run"]["cycles"]}


def passed(entry: dict[str, Any]) -> bool:
    """Whether a run showed what it should."""
    if entry["exit_code"]:
        return False
    return entry["mismatches"] == 0 and entry["counters_equal"] and entry["logits_sqnr_db"] >= LEAST_SQNR_DB


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run all; returns 1 where one did not show what it should."""
    BENCHMARK.begin(BENCHMARK.parser(__doc__), arguments)
    runs = {name: measure(name, size) for name, size in track(MODELS.items(), description="models")}
    refused = {name: measure(name, None) for name in REFUSED}
    BENCHMARK.save({"preset": PRESET, "models": runs, "refused": refused})
    table = text_table(
        "model", "cycles", "mismatches", "counters equal", "SQNR (dB)",
        title=f"timm models with random weights on {PRESET}, RTL against golden machine and cycle model",
    )  # fmt: skip
    for name, entry in runs.items():
        if "error" in entry:
            table.add_row(name, entry["error"])
            continue
        size = f" at {MODELS[name]}" if MODELS[name] else ""
        equal = "yes" if entry["counters_equal"] else "no"
        table.add_row(f"{name}{size}", f"{entry['cycles']:,}", f"{entry['mismatches']}", equal, f"{entry['logits_sqnr_db']:.1f}")
    console = Console(width=110)
    console.print(table)
    for entry in refused.values():
        console.print(entry.get("error", f"{entry['command']} was not refused"), soft_wrap=True)
    named = all(entry["exit_code"] == 2 and "Network operation" in entry["error"] for entry in refused.values())
    return int(not (named and all(map(passed, runs.values()))))


if __name__ == "__main__":
    sys.exit(main())

"""The search that README shows: the shipped ViT on `nano`, with all of `search.cosearch`'s defaults.

    python -m benchmarks.pivot.cosearch

The result holds the fields of docs/result.md, and docs/images/front.svg is drawn from it. Twenty minutes on two cores; a killed run
goes on where it stopped, by way of `runs/`.
"""

import sys
from pathlib import Path

from benchmarks.result import DOCS, Benchmark
from benchmarks.sources import ENERGY, GOLDEN, RTL, TRAINING
from hw.errors import command
from hw.files import read_json, write_file

SOURCES = (
    *TRAINING, *GOLDEN, *RTL, *ENERGY, "search/confirm.py", "search/cosearch.py", "search/costs.py", "search/decision.py",
    "search/efforts.py", "search/experiment.py", "search/intervals.py", "search/pairs.py", "search/paths", "search/result.py",
    "search/store.py", "search/stored_pair.py", "sw/gated/pair.py",
)  # fmt: skip
BENCHMARK = Benchmark("pivot.cosearch", SOURCES)
OUT = Path("runs/fmnist_vit_tiny-nano")
"""Where the search leaves its own result, and the pair that `sw.infer` runs."""


@command()
def main(arguments: list[str] | None = None) -> int:
    """Search, and keep the result and its front."""
    BENCHMARK.begin(BENCHMARK.parser(__doc__), arguments)
    from search.cosearch import main as search
    from search.report.pictures import front_picture

    if code := search([f"--out={OUT}"]):
        return code
    result = read_json(OUT / "result.json")
    BENCHMARK.save(result, seed=result["seed"])
    write_file(DOCS / "images" / "front.svg", '<?xml version="1.0" encoding="utf-8"?>\n' + front_picture(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

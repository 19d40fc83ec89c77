"""The preset `edge` on a ULX3S-85F with open tools: the report of `hw.build`, cells and clock of the routed design.

    python -m benchmarks.machine.ulx3s

Needs the extra `ecp5`.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.result import Benchmark
from benchmarks.sources import SYNTHESIS
from hw.errors import command
from hw.files import read_json

SOURCES = (*SYNTHESIS, "hw/boards", "hw/build/__main__.py", "hw/build/c_header.py", "hw/build/register_docs.py")
BENCHMARK = Benchmark("machine.ulx3s", SOURCES)


@command()
def main(arguments: list[str] | None = None) -> int:
    """Build the bitstream, and keep the report."""
    BENCHMARK.begin(BENCHMARK.parser(__doc__), arguments)
    from hw.build.__main__ import main as build

    with tempfile.TemporaryDirectory(prefix="pivot-ulx3s-") as directory:
        if code := build(["--board", "ulx3s", "--preset", "edge", "--bitstream", "--out", directory]):
            return code
        BENCHMARK.save(read_json(Path(directory) / "report.json"))
    return 0


if __name__ == "__main__":
    sys.exit(main())

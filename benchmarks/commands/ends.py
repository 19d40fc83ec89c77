"""What every command says when it meets an end: files that are not there, full disks, signals, locales, odd names.

    python -m benchmarks.commands.ends [--only END,...]

Exit code 1 where a command ends with a traceback, another exit code than it should, or leaves something behind.
"""

import sys
import tempfile
from pathlib import Path

from rich.progress import track

from benchmarks.commands.cases import ENDS, Case, pairs, prepare_inputs
from benchmarks.result import Benchmark
from benchmarks.sources import STATUS
from hw.errors import InputError, command

BENCHMARK = Benchmark("commands.ends", ("benchmarks/commands", *STATUS, "hw", "search", "sim", "sw"))


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run all cases; returns 1 where one is wrong."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--only", default="", metavar="END,...", help="show these, and write nothing")
    options = BENCHMARK.begin(parser, arguments)
    chosen = pairs(tuple(filter(None, options.only.split(","))))
    if not chosen:
        raise InputError(f"--only must name some of {', '.join(end.name for end in ENDS)}, not {options.only}")
    rows, faults = [], 0
    with tempfile.TemporaryDirectory(prefix="pivot-ends-") as name:
        folder = Path(name)
        (folder / "inputs").mkdir()
        prepare_inputs(folder / "inputs")
        for number, (end, each) in enumerate(track(chosen, description="cases")):
            if why := end.missing():
                print(f"{end.name}: {each.module}: not here: {why}")
                continue
            outcome = Case(each, end, folder / str(number), folder / "inputs").run()
            faults += bool(outcome.wrong)
            rows.append({"end": end.name, "command": each.module, "code": outcome.code, "line": outcome.line})
            print(f"{end.name}: {each.module}: {outcome.code} {outcome.line}")
            for wrong in outcome.wrong:
                print(f"  {wrong}")
    if not options.only:
        BENCHMARK.save({"conditions": {end.name: end.what for end in ENDS}, "cases": rows, "faults": faults})
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

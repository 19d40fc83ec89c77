"""Page of the commands' ends: what each says when it meets a missing file, a full disk, a signal or an odd name.

python -m benchmarks.pages.ends
"""

import sys
from collections import defaultdict
from typing import Any

from benchmarks.freshness import Result
from benchmarks.result import DOCS, Benchmark
from hw.errors import command
from hw.files import write_file
from hw.tables import markdown_table

PAGE = DOCS / "ends.md"
ENDS = Benchmark("commands.ends")
_INTRODUCTION = """\
# How commands end

Written by `python -m benchmarks.pages.ends` from what `{command}` found; do not edit.

{line}

Every command was run as a process of its own with little work to do, under each condition that it can meet. A cell has the exit
code (0 done, 1 the work failed, 2 bad input, 130 and 143 a signal) and the line that it printed. `.` is the folder that it ran in
and `…` the one above it. The run fails where a command shows a traceback, ends with another code than it should, or leaves
processes, temporary files or half of a file behind; {faults} of {cases} did.
"""


def generate_ends_docs(result: dict[str, Any]) -> str:
    """The page.

    Args:
        result: of `benchmarks.commands.ends`.
    """
    ends: dict[str, list[list[str]]] = defaultdict(list)
    for case in result["cases"]:
        line = f"`{case['line']}`" if case["line"] else ""
        ends[case["end"]].append([f"`{case['command']}`", str(case["code"]), line])
    head = _INTRODUCTION.format(
        command=ENDS.command, line=Result.read(ENDS.path.stem).line(), faults=result["faults"], cases=len(result["cases"])
    )
    parts = [
        f"\n## {end[0].upper()}{end[1:]}\n\n{result['conditions'][end]}\n\n{markdown_table(['command', 'code', 'line'], rows)}"
        for end, rows in ends.items()
    ]
    return head + "".join(parts)


@command()
def main(arguments: list[str] | None = None) -> int:
    """``python -m benchmarks.pages.ends``: write the page."""
    Benchmark("pages.ends").parser(__doc__).parse_args(arguments)
    write_file(PAGE, generate_ends_docs(ENDS.load()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

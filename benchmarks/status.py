"""How old the results are: fresh, or stale and by which sources, with each one's date, command and last minutes.

    python -m benchmarks.status [--json FILE]
    python -m benchmarks.status --run stale --minutes 30
    python -m benchmarks.status --run NAME,...
    python -m benchmarks.status --mark

A result is stale when a source that it depends on is no longer what it was, or when it does not say what it depends on. `--run`
runs commands again, the shortest first: of all stale ones those that fit in so many minutes by what they took last, or the named
ones. `--mark` rewrites the lines of README.md and docs/ that tell how old a result is.
"""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.freshness import Result, all_results, documents, mark
from hw.errors import InputError, command
from hw.files import check_writable, write_json
from hw.provenance import ROOT
from hw.tables import terminal, text_table

MOST_PARTS = 3
"""Changed sources that the table names of a result."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m benchmarks.status", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--run", metavar="NAME,...", help="results to make again, or stale; stale needs --minutes")
    result.add_argument("--minutes", type=float, metavar="M", help="of what the stale results took last, together")
    result.add_argument("--mark", action="store_true", help="rewrite what documents say of their results")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the table to this file, too")
    return result


def entry(result: Result) -> dict[str, Any]:
    """A result's row: ``name``, ``state`` (fresh, stale or missing), ``changed`` sources, ``date``, ``minutes`` and ``command``.

    None stands for what nobody knows.
    """
    return {
        "name": result.name,
        "state": "missing" if not result.content else "stale" if result.stale else "fresh",
        "changed": result.changed,
        "date": result.provenance.get("date"),
        "minutes": result.minutes,
        "command": result.command,
    }


def show(results: Sequence[Result]) -> None:
    """Print the table."""
    table = text_table("result", "state", "changed", "date", "minutes", "command", words=3)
    table.columns[-1].justify = "left"
    for row in map(entry, results):
        changed = row["changed"]
        if changed is None:
            why = "" if row["state"] == "missing" else "without provenance"
        else:
            rest = [f"{len(changed) - MOST_PARTS} more"] if len(changed) > MOST_PARTS else []
            why = ", ".join([*changed[:MOST_PARTS], *rest])
        minutes = "–" if row["minutes"] is None else f"{row['minutes']:.1f}"
        table.add_row(row["name"], row["state"], why, row["date"] or "–", minutes, row["command"])
    terminal(width=None if sys.stdout.isatty() else 160).print(table)


def choose(results: Sequence[Result], wanted: str, minutes: float | None) -> list[Result]:
    """The results to make again, in order: the shortest first, but none before another one that it reads.

    Args:
        results: all there are.
        wanted: ``stale``, or names with commas between.
        minutes: that the stale ones may take together, by what they took last.

    Raises:
        InputError: an unknown name, or stale ones without minutes.
    """
    known = {result.name: result for result in results}
    if wanted == "stale":
        if minutes is None:
            raise InputError("--run stale must come with --minutes M")
        chosen = [result for result in results if result.stale and result.minutes is not None]
    else:
        names = list(dict.fromkeys(wanted.split(",")))
        if missing := [name for name in names if name not in known]:
            raise InputError(f"--run must name results ({', '.join(known)}), not {', '.join(missing)}")
        chosen = [known[name] for name in names]

    def reads(result: Result) -> list[Result]:
        files = result.provenance.get("sources", ())
        return [other for other in chosen if f"benchmarks/results/{other.name}.json" in files]

    def place(result: Result) -> tuple[float, int]:
        before = reads(result)
        return max(each.minutes or 0.0 for each in (result, *before)), len(before)

    ordered = sorted(chosen, key=place)
    if wanted != "stale":
        return ordered
    kept: list[Result] = []
    for result in ordered:
        if sum(each.minutes or 0.0 for each in (*kept, result)) <= (minutes or 0.0):
            kept.append(result)
    return kept


def run(results: Sequence[Result]) -> list[str]:
    """Run the commands of results, one after the other; the names of those that failed, each with a line of why."""
    failed = []
    for number, result in enumerate(results, 1):
        words = shlex.split(result.command)
        expected = "" if result.minutes is None else f", {result.minutes:.1f} minutes last"
        print(f"[{number}/{len(results)}] {shlex.join(words)}{expected}", file=sys.stderr, flush=True)
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, *words[1:]], cwd=ROOT)
        try:
            code = process.wait()
        finally:  # whatever ends this ends the run, with what the run itself has begun
            process.terminate()
            process.wait()
        took = f"{(time.monotonic() - started) / 60:.1f} minutes"
        print(f"[{number}/{len(results)}] {f'exit code {code}' if code else 'done'}, {took}", file=sys.stderr, flush=True)
        if code:
            failed.append(f"{result.name} (exit code {code})")
    return failed


@command()
def main(arguments: list[str] | None = None) -> int:
    """Show, run or mark; returns 1 where a command that was run failed."""
    options = parser().parse_args(arguments)
    check_writable(options.json)
    results = all_results()
    failed: list[str] = []
    if options.run is not None:
        failed = run(choose(results, options.run, options.minutes))
        results = all_results()
    elif options.minutes is not None:
        raise InputError("--minutes must come with --run stale")
    show(results)
    if options.json is not None:
        write_json(options.json, [entry(result) for result in results])
    if options.mark:
        for path, others in mark(documents()).items():
            look = f"; of another run, so look at its figures: {', '.join(others)}" if others else ""
            print(f"{path.relative_to(ROOT)} marked{look}")
    if failed:
        print(f"error: failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

"""docs/tour.md: every command of it is one, and, slow, the tour from top to bottom in a fresh clone gives the outputs it shows."""

import argparse
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from search.pivot import COMMANDS
from tests.sources import ROOT

TOUR = ROOT / "docs" / "tour.md"
WRITTEN = ("--out", "--json", "--trace")
"""Options whose values a command makes."""
READ = ("--pair", "--weights", "--data")


def steps(text: str) -> Iterator[tuple[str, list[str]]]:
    """(command, lines that it shows) of every ``$`` of the page's console blocks."""
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = step.splitlines()
            yield command, shown


def missing(shown: Sequence[str], output: str) -> list[str]:
    """Lines of a page that do not come in this order in an output; … is anything, spaces and the borders of tables are alike."""

    def words(line: str) -> str:
        return " ".join(re.sub("[│┃]", " ", line).split())

    left, absent = [words(line) for line in output.splitlines()], []
    for line in shown:
        pattern = re.compile(".*".join(map(re.escape, words(line).split("…"))))
        place = next((index for index, found in enumerate(left) if pattern.fullmatch(found)), None)
        if place is None:
            absent.append(line)
        else:
            del left[: place + 1]
    return absent


STEPS = list(steps(TOUR.read_text()))


class Accepted(Exception):
    """A parser took its command line."""


@pytest.fixture
def parsing_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands end where they have parsed their arguments."""
    parse = argparse.ArgumentParser.parse_args

    def parse_args(self, *arguments):
        raise Accepted(parse(self, *arguments))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)


def test_every_command_is_one(parsing_only):
    made: set[str] = set()
    for command, _ in STEPS:
        program, *arguments = shlex.split(command)
        if program == "pivot" and arguments:
            with pytest.raises(Accepted):
                COMMANDS[arguments[0]][0]().main(arguments[1:])
            values = dict(pairwise(arguments))
            assert all(values[option] in made for option in READ if option in values), command
            made |= {values[option] for option in WRITTEN if option in values}
        elif program == "python":
            assert (ROOT / arguments[0]).is_file(), command
        else:
            assert command in ("pivot", "git clone URL pivot", "cd pivot", "make install", ". .venv/bin/activate")


def test_all_subcommands_but_three_are_on_the_tour():
    toured = {command.split()[1] for command, _ in STEPS if command.startswith("pivot ")}
    assert COMMANDS.keys() - toured == {"train", "quantization-report", "data"}


def test_planted_differences_are_found():
    text = "```console\n$ a --b\n│ cycles │ 7 │\nin … s\n```\n\n```console\n$ c\n$ d\nerror: e\n```\n"
    assert list(steps(text)) == [("a --b", ["│ cycles │ 7 │", "in … s"]), ("c", []), ("d", ["error: e"])]
    shown = ["│ cycles │ 7 │", "in … s"]
    assert missing(shown, "title\n┃ cycles ┃   7 ┃\n\nin 0.3 s\n") == []
    assert missing(shown, "│ cycles │ 8 │\nin 0.3 s\n") == [shown[0]]
    assert missing(shown, "in 0.3 s\n│ cycles │ 7 │\n") == ["in … s"]
    assert missing(["a.c"], "abc") == ["a.c"]


@pytest.mark.slow
def test_the_tour_in_a_fresh_clone(tmp_path: Path):
    script = ["exec 2>&1"]
    for command, _ in STEPS:
        run = command.replace(" URL ", f" {shlex.quote(str(ROOT))} ")
        script += [f"printf '\\nstep:%s\\n' {shlex.quote(command)}", run, "echo code:$?"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON") and name != "VIRTUAL_ENV"}
    call = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=tmp_path, env=inherited | {"PIVOT_CACHE": str(tmp_path / "cache"), "COLUMNS": "80"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=7200,
    )  # fmt: skip
    (tmp_path / "tour.log").write_text(call.stdout)
    outputs = re.findall(r"^step:(.*)\n((?:.*\n)*?)code:(\d+)$", call.stdout, re.MULTILINE)
    assert [command for command, _, _ in outputs] == [command for command, _ in STEPS]
    for (command, shown), (_, output, code) in zip(STEPS, outputs, strict=True):
        refused = bool(shown) and shown[0].startswith("error: ")
        assert (int(code), missing(shown, output)) == (2 if refused else 0, []), f"{command}\n{output}"

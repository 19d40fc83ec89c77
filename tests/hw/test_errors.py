"""Commands tell of errors in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hw.errors import InputError, MachineError, command


def raising(error, *failures):
    @command(*failures)
    def main(arguments=None):
        if error is not None:
            raise error
        return len(arguments or ())

    return main


@pytest.mark.parametrize(
    ("error", "failures", "code"),
    [
        (InputError("rows must be 4"), (), 2),
        (InputError("rows must be 4"), (ValueError,), 2),  # whatever it is besides
        (MachineError("rows must be 4"), (RuntimeError, OSError), 1),
    ],
)
def test_an_error_is_one_line_and_a_code(error, failures, code, capsys):
    assert raising(error, *failures)([]) == code
    assert capsys.readouterr() == ("", "error: rows must be 4\n")


PROGRAM = """
import os, sys
from hw.errors import command

@command()
def main(arguments=None):
    {}
    return 0

sys.exit(main())
"""


def run(body, **fields):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body)], cwd=Path(__file__).parents[2], capture_output=True, **{"text": True, **fields}
    )


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("open('/nowhere/at/all')", "/nowhere/at/all: No such file or directory"),
        ("os.listdir('/proc/version')", "/proc/version: Not a directory"),
        ("raise OSError('no disk')", "no disk"),
    ],
)
def test_what_the_system_refuses_is_one_line(body, line):
    ended = run(body)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"error: {line}\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_is_shown_when_python_shows_it(unbuffered):
    said = run("print('a'); print('b', file=sys.stderr); os._exit(3)", env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
    assert (said.returncode, said.stdout, said.stderr) == (3, "a\n" * bool(unbuffered), "b\n")


def test_what_the_terminal_does_not_have_is_an_escape():
    said = run(r"print('\u2500 \xb5 \udce4')", env=os.environ | {"PYTHONIOENCODING": "latin-1"}, encoding="latin-1")
    assert (said.returncode, said.stdout, said.stderr) == (0, "\\u2500 \xb5 \\udce4\n", "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_files_of_the_work_are_never_standard_streams(closed, tmp_path):
    body = "file = open(sys.argv[1], 'w'); assert file.fileno() > 2; os.system('echo a; echo b >&2'); print('c'); file.write('d')"
    command = f'"$0" -c "$1" "$2" {closed}'
    words = ["sh", "-c", command, sys.executable, PROGRAM.format(body), tmp_path / "file"]
    ended = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    out, err = "" if " >&-" in f" {closed}" else "a\nc\n", "" if "2>&-" in closed else "b\n"
    assert (ended.returncode, ended.stdout, ended.stderr, (tmp_path / "file").read_text()) == (0, out, err, "d")


def test_other_errors_and_results_pass():
    with pytest.raises(ValueError, match="a bug"):
        raising(ValueError("a bug"), RuntimeError)()
    assert raising(None)(["a", "b"]) == 2 and raising(None)() == 0

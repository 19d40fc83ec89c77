"""Commands end in a line and an exit code, and leave nothing behind, whatever they meet: the cheap cases here, all with -m slow."""

from pathlib import Path

import pytest

from benchmarks.commands.cases import ENDS, Case, Command, End, Outcome, pairs, prepare_inputs
from benchmarks.freshness import marked
from benchmarks.pages import ends
from sw.data.fashion_mnist import ASSETS

CHEAP = {
    "missing file": ("sw.data",),
    "folder for a file": ("hw.build", "benchmarks.status"),
    "below a file": ("sim.measure",),
    "no permission": ("sw.train",),
    "full disk": ("benchmarks.status",),
    "full stdout": ("sw.data",),
    "unread stdout": ("benchmarks.status",),
    "Ctrl-C": ("hw.formal",),
    "SIGTERM": ("hw.formal",),
    "LC_ALL=C": ("sw.data", "benchmarks.status"),
    "odd paths": ("hw.formal",),
    "odd virtual environment": ("hw.toolchain",),
    "no HOME": ("hw.toolchain",),
}


def ended(end: End, command: Command, folder: Path, inputs: Path) -> Outcome:
    if why := end.missing():
        pytest.skip(why)
    return Case(command, end, folder, inputs).run()


def cases(cheap: bool) -> list:
    """Parameters of the cases that are cheap, or of those that are not."""
    chosen = [(end, each) for end, each in pairs() if (each.module in CHEAP[end.name]) == cheap]
    return [pytest.param(end, each, id=f"{end.name}-{each.module}") for end, each in chosen]


@pytest.mark.parametrize(("end", "command"), cases(cheap=True))
def test_a_command_ends_in_a_line(end, command, tmp_path):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "data").symlink_to(ASSETS)
    assert not ended(end, command, tmp_path / "case", inputs).wrong


def test_every_end_is_met():
    assert CHEAP.keys() == {end.name for end in ENDS}
    assert all(pairs([name], modules) for name, modules in CHEAP.items())


def test_the_page_is_current():
    assert marked(ends.PAGE.read_text()) == ends.generate_ends_docs(ends.ENDS.load()), "run python -m benchmarks.pages.ends"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    prepare_inputs(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("end", "command"), cases(cheap=False))
def test_every_command_ends_in_a_line(end, command, inputs, tmp_path):
    assert not ended(end, command, tmp_path, inputs).wrong


@pytest.mark.parametrize(
    ("program", "wrong"),
    [
        ("1 / 0", "a traceback"),
        ("import os; os._exit(3)", "the exit code is 3, not 0"),
        ("import tempfile; tempfile.mkstemp(prefix='mine')", "TMPDIR holds ['mine"),
        ("open('a.json.1f.tmp', 'w').close()", "half-written files are left: ['a.json.1f.tmp']"),
        ("import os; os.system('sleep 60 > /dev/null &')", "a process is left: sleep 60"),
        ("open('written.json', 'w').write('{')", "written.json is no JSON file"),
    ],
)
def test_a_planted_fault_is_found(program, wrong, tmp_path):
    def change(case: Case) -> None:
        case.codes = (0,)

    command = Command("timeit", ("-n1", "-r1", program.replace("{", "{{")))
    outcome = Case(command, End("nothing", "", change), tmp_path, tmp_path).run()
    assert any(wrong in line for line in outcome.wrong)

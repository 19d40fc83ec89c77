import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hw import files
from hw.errors import InputError

ROOT = Path(__file__).parents[2]


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_text_bytes_and_json(tmp_path: Path):
    files.write_file(tmp_path / "a" / "b" / "text", "≤\n")
    files.write_file(tmp_path / "bytes", b"\xff\x00")
    files.write_json(tmp_path / "value.json", {"b": [1, 2.5, None], "name": "µ"})
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "≤\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\xff\x00"
    assert (tmp_path / "value.json").read_bytes().endswith('"name": "µ"\n}\n'.encode())
    assert files.read_json(tmp_path / "value.json") == {"b": [1, 2.5, None], "name": "µ"}
    assert names(tmp_path) == ["a/b/text", "bytes", "value.json"]


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path: Path):
    files.write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", {"set": {1}})
    assert json.loads((tmp_path / "a.json").read_text()) == 1


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["write", "move"])
def test_what_fails_half_way_leaves_no_trace(failure, step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "result.json"
    files.write_file(path, "old")

    def fail(*_):
        raise failure

    def half_written(self: Path, content: bytes):
        with self.open("wb") as file:
            file.write(content[:1])
        fail()

    with monkeypatch.context() as patch, pytest.raises((InputError, KeyboardInterrupt)) as caught:
        if step == "write":
            patch.setattr(Path, "write_bytes", half_written)
        else:
            patch.setattr("os.replace", fail)
        files.write_file(path, "new")
    if isinstance(failure, OSError):
        assert str(caught.value) == f"{path} must be writable: No space left on device"
    assert path.read_text() == "old" and names(tmp_path) == ["result.json"]


def test_places_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("1")
    (tmp_path / "folder").mkdir()
    for call in (files.write_file, files.write_json):
        with pytest.raises(InputError, match=r"file must be writable: (Not a directory|File exists)"):
            call(tmp_path / "file" / "a", "2")
        with pytest.raises(InputError, match="folder must be a file, or not exist yet"):
            call(tmp_path / "folder", "2")
    with pytest.raises(InputError, match="/proc/none must be writable: No such file or directory"):
        files.write_file(Path("/proc/none/a"), "2")
    with pytest.raises(InputError, match="/dev/null must be a file"):
        files.write_file(Path("/dev/null"), "2")  # would become a regular file
    with pytest.raises(InputError, match="file must be writable: File exists"):
        files.make_directory(tmp_path / "file")
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "1"


def test_places_are_checked_before_the_work(tmp_path: Path):
    (tmp_path / "file").write_text("1")
    files.check_writable(None, tmp_path / "file", tmp_path / "new", tmp_path / "a" / "b" / "c")
    for wrong, message in (
        (tmp_path, "must be a file, or not exist yet"),
        (tmp_path / "file" / "a", "must be writable: Not a directory"),
        (Path("/proc/none/a"), "/proc/none/a must be writable: No such file or directory"),
    ):
        with pytest.raises(InputError, match=message):
            files.check_writable(tmp_path / "new", wrong)
    assert names(tmp_path) == ["file"]


def test_a_directory_is_checked_before_the_work(tmp_path: Path):
    (tmp_path / "file").write_text("1")
    for right in (tmp_path, tmp_path / "new", tmp_path / "a" / "b"):
        files.check_directory(right)
    for wrong, message in (("file", "file must be a directory, not a file"), ("file/a", "writable: Not a directory")):
        with pytest.raises(InputError, match=message):
            files.check_directory(tmp_path / wrong)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("read", ["a.json", "folder", ".", "link"])
def test_what_is_read_is_not_written(read: str, tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a.json")
    for name in ("a.json", "folder/a.json"):
        (tmp_path / name).write_text("1")
    output = tmp_path / ("folder/a.json" if read == "folder" else "a.json")
    with pytest.raises(InputError, match=r"a\.json must not be written, for it is read"):
        files.check_writable(output, inputs=(None, "random", tmp_path / read))
    files.check_writable(tmp_path / "folder" / "new.json", output, inputs=(tmp_path / "other",))
    with pytest.raises(InputError, match="must be named for one output, not for two"):
        files.check_writable(output, tmp_path / "folder" / ".." / output.relative_to(tmp_path))


@pytest.mark.parametrize("name", ["dät\u00e9", "d\udcc3\udca4t", "latin \udce4"])
def test_names_of_files_in_any_locale_are_written_as_utf_8(name: str, tmp_path: Path):
    files.write_json(tmp_path / "a.json", {"name": name})
    assert files.read_json(tmp_path / "a.json") == {"name": os.fsencode(name).decode(errors="replace")}


@pytest.mark.parametrize("text", ["vit:dim=24,depth=2-nano", "a/b", "../..", "C:\\a b", "d[/x]", "ä", "a\0b", "it's \"$HOME\""])
def test_a_text_becomes_a_name_of_a_file(text: str, tmp_path: Path):
    name = files.file_name(text)
    (tmp_path / "below" / name).parent.mkdir()
    (tmp_path / "below" / f"{name}-file").touch()
    assert names(tmp_path) == [f"below/{name}-file"] and not set(name) & set("/:\\ [$'\"\0")
    assert files.file_name("vit_small-1.5,a=b+c") == "vit_small-1.5,a=b+c"


@pytest.mark.parametrize("name", ["plain-1.5", "it's \"a\" d[", "$HOME", "dät\u00e9", "a;b&c"])
def test_a_directory_has_a_plain_name(name: str, tmp_path: Path):
    directory = tmp_path / name
    directory.mkdir()
    (directory / "file").write_text("1")
    with files.plain_directory(directory) as plain:
        assert subprocess.run(f"cat {plain}/file", shell=True, capture_output=True, check=True).stdout == b"1"
    assert (plain == directory) == (name == "plain-1.5") == plain.exists()


def test_a_process_killed_as_it_writes_leaves_a_whole_file(tmp_path: Path, seed: int):
    path, draw = tmp_path / "file", random.Random(seed)
    program = (
        "import sys, pathlib, itertools, hw.files\nfor number in itertools.count():\n"
        "    hw.files.write_file(pathlib.Path(sys.argv[1]), b'%d' % (number % 10) * 5_000_000)"
    )
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", program, path], cwd=ROOT)
        while not any(tmp_path.iterdir()):
            time.sleep(0.01)
        time.sleep(draw.uniform(0.05, 0.15))
        process.kill()
        process.wait()
        assert not path.exists() or (len(content := path.read_bytes()), len(set(content))) == (5_000_000, 1)


def test_a_directory_of_files(tmp_path: Path):
    directory = tmp_path / "out"
    files.write_files(directory, {"a": "1", "b/c": b"2"})
    (directory / "kept").write_text("3")
    files.write_files(directory, {"a": "4"})
    assert {name: (directory / name).read_text() for name in names(directory)} == {"a": "4", "b/c": "2", "kept": "3"}
    with pytest.raises(InputError, match="must be writable"):
        files.write_files(directory, {"a": "5", "a/b": "6"})
    assert (directory / "a").read_text() == "4"
    assert sorted(path.name for path in directory.iterdir()) == ["a", "b", "kept"]


def test_json_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "cut.json").write_text('{"step": ')
    (tmp_path / "latin.json").write_bytes(b'"\xff"')
    for name, message in (("none", "must exist"), ("cut.json", "JSON file"), ("latin.json", "JSON file"), (".", "readable")):
        with pytest.raises(InputError, match=message) as caught:
            files.read_json(tmp_path / name)
        assert "\n" not in str(caught.value)

import json
from pathlib import Path

import pytest

from hw import files
from hw.errors import InputError


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

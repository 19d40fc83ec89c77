import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from hw.provenance import DISTRIBUTIONS, ROOT, commit, source_digest, versions

WHEEL = f"pivot-codesign {version('pivot-codesign')}"
IDENTITY = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false"]
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *IDENTITY, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def copy_package(folder: Path) -> None:
    """What a wheel leaves, and a checkout has: the package, as far as it takes to ask it."""
    (folder / "hw").mkdir(parents=True)
    for name in ("__init__.py", "provenance.py"):
        shutil.copy(ROOT / "hw" / name, folder / "hw")


def repository(folder: Path, *tracked: str) -> str:
    """A repository with one commit of some of its files; the commit."""
    git(folder, "init", "--quiet")
    git(folder, "add", *tracked)
    git(folder, "commit", "--quiet", "-m", "all there is")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    copy_package(tmp_path)
    (tmp_path / "sw").mkdir()
    (tmp_path / "sw" / "a.py").write_text("")
    return tmp_path


@needs_git
def test_a_checkout_has_its_commit_and_says_where_its_parts_were_edited(checkout: Path):
    head = repository(checkout, "hw", "sw")
    parts = ("hw", "sw/a.py")
    assert commit(parts, checkout) == head
    (checkout / "notes.txt").write_text("no source")
    assert commit(parts, checkout) == head
    (checkout / "sw" / "a.py").write_text("edited")
    assert commit(parts, checkout) == f"{head}+edited"
    assert commit(["hw"], checkout) == head
    (checkout / "hw" / "new.py").write_text("")
    assert commit(["hw"], checkout) == f"{head}+edited"


@needs_git
@pytest.mark.parametrize(
    ("place", "tracked"),
    [("lib/site-packages", "README"), ("third_party/pivot", "."), (".", "README")],
    ids=["a wheel in an ignored environment", "a copy that is tracked", "installed into the top"],
)
def test_somebody_elses_repository_is_not_the_checkout(tmp_path: Path, place: str, tracked: str):
    (tmp_path / "README").write_text("a project of somebody else")
    copy_package(tmp_path / place)
    repository(tmp_path, tracked)
    code = "from hw.provenance import commit; print(commit(['hw']))"
    env = os.environ | {"PYTHONPATH": str(tmp_path / place)}
    call = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert call.stdout.strip() == WHEEL


@needs_git
def test_a_hook_of_another_repository_does_not_lead_astray(checkout: Path, tmp_path_factory, monkeypatch):
    head, other = repository(checkout, "hw", "sw"), tmp_path_factory.mktemp("other")
    (other / "a").write_text("")
    assert repository(other, "a") != head
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert commit(["hw"], checkout) == head


@needs_git
def test_a_repository_without_a_commit(checkout: Path):
    git(checkout, "init", "--quiet")
    assert commit(["hw"], checkout) == WHEEL


def test_without_git_the_version_is_told(checkout: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert commit(["hw"], checkout) == commit(["hw"]) == WHEEL


def test_versions_are_those_installed():
    assert versions() == {name: version(name) for name in DISTRIBUTIONS}


@pytest.mark.parametrize(
    "name", ["a.py", "b/deep.sv", "b/c.hpp", "b/c.cpp", "b/top.vlt", "b/c.tcl", "b/pins.xdc", "b/w.safetensors", "b/images.gz"]
)
def test_a_digest_sees_every_source(tmp_path: Path, name: str):
    path = tmp_path / "part" / name
    path.parent.mkdir(parents=True)
    digests = {source_digest(["part"], tmp_path)}
    for text in ("", "content"):
        path.write_text(text)
        digests.add(source_digest(["part"], tmp_path))
    path.rename(path.with_stem("renamed"))
    digests.add(source_digest(["part"], tmp_path))
    assert len(digests) == 4


def test_a_digest_is_of_files_and_not_of_how_they_are_named(tmp_path: Path):
    for name in ("part/a.py", "part/b/c.py", "other.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    digest = source_digest(["part", "other.py"], tmp_path)
    assert digest == source_digest(["other.py", "part/b", "part/a.py", "part", "missing"], tmp_path)
    (tmp_path / "part" / "__pycache__").mkdir()
    (tmp_path / "part" / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    (tmp_path / "part" / "notes.txt").write_text("no source")
    assert digest == source_digest(["part", "other.py"], tmp_path)

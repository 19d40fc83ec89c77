"""Worker processes end with their parent, however it ends, and take their temporary files along."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from hw.processes import worker_pool

ROOT = Path(__file__).parents[2]


def work(seconds: float) -> tuple[int, str]:
    time.sleep(seconds)
    return os.getpid(), tempfile.mkdtemp()


def alive(number: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{number}/status").read_text()
    except FileNotFoundError:
        return False


def test_what_a_pool_does_and_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with worker_pool(1) as pool:
        number, made = pool.submit(work, 0.0).result()
        assert Path(made).is_dir() and Path(made).is_relative_to(tmp_path)
        os.kill(number, signal.SIGINT)  # as a terminal's Ctrl-C, which is for this process
        assert pool.submit(work, 0.0).result()[0] == number
    assert not alive(number) and not list(tmp_path.iterdir())


def test_an_exception_ends_work_that_is_under_way(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), worker_pool(1) as pool:
        pool.submit(work, 0.0).result()
        pool.submit(work, 60.0)
        pool.submit(work, 60.0)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 30 and not multiprocessing.active_children() and not list(tmp_path.iterdir())


def test_a_killed_parent_takes_its_workers_along(tmp_path):
    program = """
import time
from hw.processes import worker_pool
from tests.hw.test_processes import work
if __name__ == "__main__":
    with worker_pool(1) as pool:
        print(pool.submit(work, 0.0).result()[0], flush=True)
        pool.submit(work, 60.0)
        time.sleep(60)
"""
    script = tmp_path / "script.py"
    script.write_text(program)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    number = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while alive(number) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(number)

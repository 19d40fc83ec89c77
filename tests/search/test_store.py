import os
import subprocess
import sys

import numpy as np
import pytest

from hw.errors import InputError
from search.store import RunStore


def test_a_finished_step_is_not_computed_again(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"accuracy": 0.1 + 0.2}

    for _ in range(2):
        store = RunStore(tmp_path, "key")
        assert store.value("step", compute) == {"accuracy": 0.1 + 0.2}
        store.close()
    assert len(calls) == 1
    other = RunStore(tmp_path, "other")
    other.value("step", compute)
    assert len(calls) == 2


def test_arrays_come_back_exactly_and_a_failed_step_leaves_nothing(tmp_path):
    store = RunStore(tmp_path, "key")
    expected = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert np.array_equal(store.arrays("logits", lambda: {"a": expected.T})["a"], expected.T)
    with pytest.raises(ZeroDivisionError):
        store.arrays("broken", lambda: {"a": np.ones(1) / (1 // 0)})
    assert not store.known("broken") and not (store.path / "broken.safetensors").exists()


def test_arrays_whose_file_is_gone_are_computed_again(tmp_path):
    store = RunStore(tmp_path, "key")
    store.arrays("a", lambda: {"x": np.zeros(1)})
    (store.path / "a.safetensors").unlink()
    assert store.arrays("a", lambda: {"x": np.ones(1)})["x"][0] == 1


@pytest.mark.parametrize("damage", [b"", b"\0", b"no tensors at all", slice(0, -1), slice(0, 9)])
def test_arrays_whose_file_is_damaged_are_computed_again_and_named(tmp_path, damage, capsys):
    store = RunStore(tmp_path, "key")
    store.arrays("a", lambda: {"x": np.zeros(5)})
    file = store.path / "a.safetensors"
    file.write_bytes(file.read_bytes()[damage] if isinstance(damage, slice) else damage)
    assert store.arrays("a", lambda: {"x": np.ones(5)})["x"].tolist() == [1] * 5
    error = capsys.readouterr().err
    assert error.startswith(f"note: {file} is damaged (") and error.endswith("computed again\n") and error.count("\n") == 1
    assert store.arrays("a", lambda: 1 // 0)["x"].tolist() == [1] * 5


@pytest.mark.parametrize("content", [b"", b"no database at all, whatever it is"])
def test_a_damaged_database(tmp_path, content):
    store = RunStore(tmp_path, "key")
    store.value("a", lambda: 1)
    store.close()
    file = store.path / "steps.sqlite"
    file.write_bytes(content)
    if content:
        with pytest.raises(InputError, match=f"{file} must be a database of finished steps; remove it to begin again"):
            RunStore(tmp_path, "key")
        file.unlink()
    assert RunStore(tmp_path, "key").value("a", lambda: 2) == 2  # nothing is known of it any more


def test_a_directory_is_one_process_s_at_a_time(tmp_path):
    store = RunStore(tmp_path, "key")
    told = f"--out {tmp_path} must be one search's at a time, and process {os.getpid()} works in it"
    for key in ("key", "other"):
        with pytest.raises(InputError, match=told):
            RunStore(tmp_path, key)
    store.close()
    program = "import os, sys, pathlib, search.store as s; it = s.RunStore(pathlib.Path(sys.argv[1]), 'a'); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", program, tmp_path], check=False).returncode == -9
    RunStore(tmp_path, "key").close()  # a killed one holds nothing

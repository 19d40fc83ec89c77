import numpy as np
import pytest

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

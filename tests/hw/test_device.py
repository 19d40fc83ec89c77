import numpy as np
import pytest

from hw.device import RunResult, check_images, mismatches
from hw.errors import InputError
from hw.presets import find_preset
from hw.program import Program


@pytest.fixture
def program():
    return Program(config=find_preset("nano"), memory=bytes(64), descriptor_count=1, image_bytes=12, classes=3, path_masks=(1, 1))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 4, 1), np.uint8), "must be int8"),
        (np.zeros((0, 3, 4, 1), np.int8), "must be int8"),
        (np.zeros((2, 3, 3, 1), np.int8), "must have 12 bytes each, not 9"),
    ],
)
def test_image_rejections(program, images, message):
    with pytest.raises(InputError, match=message):
        check_images(program, images)


def test_images_are_flattened_in_order(program):
    images = np.arange(24, dtype=np.int8).reshape(2, 3, 4, 1)
    np.testing.assert_array_equal(check_images(program, images), np.arange(24).reshape(2, 12))


def test_speed_needs_a_cycle_counter():
    empty = np.zeros(1, int)
    assert RunResult(np.zeros((1, 2)), empty, empty, empty, wall_s=2.0).sim_cycles_per_s == 0
    assert RunResult(np.zeros((1, 2)), empty, empty, empty, counters={"cycles": 10}, wall_s=2.0).sim_cycles_per_s == 5


def test_different_class_counts_never_match():
    one = RunResult(np.zeros((2, 3)), *(np.zeros(2, int) for _ in range(3)))
    other = RunResult(np.zeros((2, 4)), *(np.zeros(2, int) for _ in range(3)))
    assert mismatches(one, other) == 2

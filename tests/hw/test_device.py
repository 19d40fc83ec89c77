import numpy as np
import pytest

from hw.device import RunResult, check_images, mismatches, open_device
from hw.errors import InputError, MachineError
from hw.isa import Error
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


@pytest.mark.parametrize("name", ["golden", "rtl"])
def test_devices_are_opened_by_name(name):
    config = find_preset("nano")
    device = open_device(name, config)
    assert device.config == config and hasattr(device, "run")


def test_options_reach_the_device():
    assert open_device("golden", find_preset("nano"), chunk=3).chunk == 3


def test_an_unknown_device_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="device must be one of golden, rtl, not 'board'"):
        open_device("board", find_preset("nano"))


def test_a_stopped_machine_is_an_error():
    empty = np.zeros(0, int)
    good = RunResult(np.zeros((0, 2)), empty, empty, empty)
    assert good.checked() is good
    with pytest.raises(MachineError, match="Machine stopped with error AXI at descriptor 3"):
        RunResult(np.zeros((0, 2)), empty, empty, empty, error=Error.AXI, error_descriptor=3).checked()

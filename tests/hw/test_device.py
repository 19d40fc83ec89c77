import struct

import numpy as np
import pytest

from hw.device import NO_GATE, RunResult, check_images, decode_records, mismatches
from hw.errors import InputError
from hw.presets import find_preset
from hw.program import Program


@pytest.fixture
def program():
    return Program(config=find_preset("nano"), memory=bytes(64), descriptor_count=1, image_bytes=12, classes=3, path_masks=(1, 1))


def record(program, exit_code, entropy, gate_entropy, cycles, logits):
    head = struct.pack("<8I", exit_code, entropy, gate_entropy, 2, program.classes, cycles, 0, 0)
    return (head + struct.pack("<3i", *logits)).ljust(program.record_stride, b"\0")


def test_records_are_decoded(program):
    memory = record(program, 0, 5, 5, 100, [1, -2, 1 << 22]) + record(program, 1, 7, NO_GATE, 230, [-1, 0, -(1 << 23)])
    fields = decode_records(program, memory, 2)
    assert fields["logits"].dtype == np.int64
    np.testing.assert_array_equal(fields["logits"], [[1, -2, 1 << 22], [-1, 0, -(1 << 23)]])
    np.testing.assert_array_equal(fields["exits"], [0, 1])
    np.testing.assert_array_equal(fields["entropy"], [5, 7])
    np.testing.assert_array_equal(fields["gate_entropy"], [5, NO_GATE])
    np.testing.assert_array_equal(fields["cycles"], [100, 230])


def test_no_record_is_an_empty_result(program):
    assert decode_records(program, b"", 0)["logits"].shape == (0, 3)


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

import struct

import numpy as np
import pytest

from hw.batch import Batch, MemoryImage, decode_records
from hw.errors import InputError
from hw.host import ADDRESSES, CLEAR_INTERRUPT, SOFT_RESET, START, Report, Status, run_batch
from hw.isa import COUNTERS, NO_GATE, REGISTERS, Error
from hw.presets import find_preset
from hw.program import Program

DONE = 2
FAILED = 2 | 4 | Error.DEADLINE << 8 | 9 << 16


@pytest.fixture
def program():
    memory = bytes(range(64))
    return Program(find_preset("nano"), memory, descriptor_count=1, image_bytes=12, classes=3, path_masks=(5, 6), threshold=7)


def record(program, exit_code, entropy, gate_entropy, cycles, logits):
    head = struct.pack("<8I", exit_code, entropy, gate_entropy, 2, program.classes, cycles, 0, 0)
    return (head + struct.pack("<3i", *logits)).ljust(program.record_stride, b"\0")


def records(program):
    return record(program, 0, 5, 5, 100, [1, -2, 1 << 22]) + record(program, 1, 7, NO_GATE, 230, [-1, 0, -(1 << 23)])


def images(count=2):
    return np.arange(12 * count, dtype=np.int8).reshape(count, 3, 4, 1)


def test_records_are_decoded(program):
    result = decode_records(program, records(program), 2)
    assert result.logits.dtype == np.int64
    np.testing.assert_array_equal(result.logits, [[1, -2, 1 << 22], [-1, 0, -(1 << 23)]])
    np.testing.assert_array_equal(result.exits, [0, 1])
    np.testing.assert_array_equal(result.entropy, [5, 7])
    np.testing.assert_array_equal(result.gate_entropy, [5, NO_GATE])
    np.testing.assert_array_equal(result.cycles, [100, 230])
    assert decode_records(program, b"", 0).logits.shape == (0, 3)


def test_status_is_decoded():
    assert Status.decode(0) == Status(False, False, Error.NONE, 0)
    assert Status.decode(1) == Status(True, False, Error.NONE, 0)
    assert Status.decode(FAILED) == Status(False, True, Error.DEADLINE, 9)
    with pytest.raises(ValueError, match="99"):
        Status.decode(4 | 99 << 8)


def test_a_batch_has_places_in_memory(program):
    memory = MemoryImage(256, 128)
    first = Batch(program=program, images=images()).place(memory)
    second = Batch(program=program, images=images(1), path_masks=(1, 2), threshold=3, deadline=4).place(memory)
    assert [first[name] for name in ADDRESSES] == [256, 384, 512]
    assert second["program_base"] == 256 and second["image_base"] == 640  # the same Program lies there once
    assert bytes(memory.data[:384]) == bytes(256) + program.memory + bytes(64)
    stride = program.image_stride
    for index, image in enumerate(images()):
        assert bytes(memory.data[384 + index * stride :][:stride]) == image.tobytes().ljust(stride, b"\0")
    assert bytes(memory.data[512:][: 2 * program.record_stride]) == b"\xff" * 2 * program.record_stride
    own = {"path_mask_low": 5, "path_mask_high": 6, "threshold": 7, "deadline": 0, "image_count": 2, "descriptor_count": 1}
    given = {"path_mask_low": 1, "path_mask_high": 2, "threshold": 3, "deadline": 4, "image_count": 1, "program_bytes": 64}
    assert own.items() <= first.items() and given.items() <= second.items()
    with pytest.raises(InputError, match="12 bytes each, not 6"):
        Batch(program=program, images=images()[:, :, :2]).place(memory)


class FakeHost:
    """Registers that a test looks at; `status` is what was to be polled next."""

    def __init__(self, polls):
        self.polls, self.written = polls, []

    async def write(self, name, value):
        self.written.append((name, value))

    async def read(self, name):
        return self.polls.pop(0) if name == "status" else 1 if name == "images_done" else len(name)


def finished(coroutine):
    """What a coroutine returns that waits for nothing."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


@pytest.mark.parametrize("status", [DONE, FAILED])
def test_a_host_writes_waits_polls_and_reads(program, status):
    batch = Batch(program=program, images=images())
    settings = batch.place(MemoryImage(64, 64)) | {"program_base": (3 << 32) + 4096}
    host = FakeHost([1, 1, status])

    async def interrupt():
        assert host.written[-1] == ("control", START) and len(host.polls) == 3

    report, written = finished(run_batch(host, settings, interrupt)), host.written
    writable = {name for name, access, _ in REGISTERS if access == "rw"}
    assert {name for name, _ in written} == writable | {"control"} and not host.polls
    assert dict(written)["program_base_low"] == 4096 and dict(written)["program_base_high"] == 3
    controls = [value for name, value in written if name == "control"]
    assert controls == [START, *([SOFT_RESET] if status == FAILED else []), CLEAR_INTERRUPT]
    assert report.counters == {name: len(name) for name, _ in COUNTERS} and (report.status, report.images_done) == (status, 1)
    result = batch.result(report, records(program), build_wall_s=2.5)
    assert len(result) == 1 and result.logits[0, 1] == -2 and result.build_wall_s == 2.5 and result.wall_s == report.wall_s
    assert result.error == Status.decode(status).error and result.error_descriptor == (9 if status == FAILED else 0)


def test_more_records_than_images_are_not_believed(program):
    result = Batch(program=program, images=images()).result(Report(DONE, 7, {}, 1.0), records(program))
    assert len(result) == 2

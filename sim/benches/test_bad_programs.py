"""Bad Programs, bad starts and memory errors: an error code and a descriptor, never a hang, then a soft reset and a
correct image."""

from dataclasses import replace

import pytest

from hw.device import mismatches
from hw.golden import GoldenDevice
from hw.isa import DESCRIPTOR_BYTES, DESCRIPTOR_FIELDS, Error, Opcode
from hw.presets import find_preset
from sim.rtl.device import Job, RtlDevice
from sim.stimulus.workload import prepare

CONFIG = find_preset("nano")
MAX_CYCLES = 200_000
"""Many times what the good Program takes; the interrupt must come before."""
REPORT_CYCLES = 10_000
"""From the start of a bad batch to its error; the good Program takes fewer, so this bounds the time after the last response."""


@pytest.fixture(scope="module")
def workload():
    return prepare("vit:dim=8,depth=1,heads=2,tokens=5,classes=3", CONFIG, images=1)


@pytest.fixture(scope="module")
def device():
    return RtlDevice(CONFIG, timeout_s=300)


def patched(program, index, offset, value, size=1):
    """The Program with ``size`` bytes of a descriptor replaced."""
    memory = bytearray(program.memory)
    start = index * DESCRIPTOR_BYTES + offset
    memory[start : start + size] = value.to_bytes(size, "little")
    return replace(program, memory=bytes(memory))


def with_field(program, opcode, name, value):
    """(Program, index): a field of the first descriptor of that operation replaced."""
    index = next(i for i, descriptor in enumerate(program.descriptors()) if descriptor.opcode == opcode)
    offset = 0
    for known, size, _ in DESCRIPTOR_FIELDS[opcode]:
        if known == name:
            return patched(program, index, offset, value, size), index
        offset += size
    raise KeyError(name)


def bad_programs(program):
    """Name -> (job changes, error, descriptor index or None)."""
    last = program.descriptor_count - 1
    fields = {
        "weights outside": (Opcode.GEMM, "weights", len(program.memory), Error.ADDRESS),
        "parameters outside": (Opcode.GEMM, "parameters", 0xFFFFFFF0, Error.ADDRESS),
        "load outside": (Opcode.LOAD, "address", len(program.memory) - 1, Error.ADDRESS),
        "no words": (Opcode.GEMM, "k_words", 0, Error.FIELD),
        "too many row tiles": (Opcode.GEMM, "row_tiles", CONFIG.row_tiles + 1, Error.FIELD),
        "bank too small": (Opcode.GEMM, "source_base", CONFIG.activation_words - 1, Error.BUFFER),
        "norm beyond the bank": (Opcode.NORM, "base", CONFIG.activation_words, Error.BUFFER),
        "too many classes": (Opcode.END, "classes", CONFIG.classes + 1, Error.FIELD),
    }
    cases = {}
    for name, (opcode, field, value, error) in fields.items():
        changed, index = with_field(program, opcode, field, value)
        cases[name] = ({"program": changed}, error, index)
    cases["bad opcode"] = ({"program": patched(program, 3, 0, 0x77)}, Error.OPCODE, 3)
    cases["reserved byte"] = ({"program": patched(program, 0, DESCRIPTOR_BYTES - 1, 1)}, Error.FIELD, 0)
    cases["missing end"] = ({"program": replace(program, descriptor_count=last)}, Error.MISSING_END, None)
    cases["no images"] = ({"registers": (("image_count", 0),)}, Error.START, None)
    cases["no program"] = ({"registers": (("program_bytes", 0),)}, Error.START, None)
    cases["image outside the memory"] = ({"registers": (("image_base", 1 << 30),)}, Error.AXI, None)
    cases["program outside the memory"] = ({"registers": (("program_base", 1 << 30),)}, Error.AXI, None)
    cases["record outside the memory"] = ({"registers": (("result_base", 1 << 30),)}, Error.AXI, None)
    cases["record longer than its stride"] = ({"registers": (("result_stride", CONFIG.axi_bytes),)}, Error.ADDRESS, last)
    cases["deadline"] = ({"deadline": 300}, Error.DEADLINE, None)
    return cases


def test_every_error_is_reported_and_recovered_from(device, workload):
    """All in one simulation: bad, good, bad, good, and so on."""
    good = Job(program=workload.program, images=workload.images)
    cases = bad_programs(workload.program)
    jobs = [job for changes, _, _ in cases.values() for job in (replace(good, **changes), good)]
    results = device.run_jobs(jobs, max_cycles=MAX_CYCLES)
    expected = GoldenDevice().run(workload.program, workload.images)
    wrong = []
    for (name, (_, error, index)), bad, after in zip(cases.items(), results[::2], results[1::2], strict=True):
        if bad.error != error or (index is not None and bad.error_descriptor != index):
            wrong.append(f"{name}: {bad.error.name} at {bad.error_descriptor}, not {error.name} at {index}")
        if bad.counters["cycles"] > REPORT_CYCLES:
            wrong.append(f"{name}: reported after {bad.counters['cycles']} cycles")
        if after.error or mismatches(expected, after):
            wrong.append(f"{name}: the image after it is wrong ({after.error.name})")
    assert not wrong, "\n".join(wrong)

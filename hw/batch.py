"""A batch of images and what a host does with it: places in memory, registers, the run, status, records.

The host's side of the machine is here once. What carries it to a machine, a simulated bus or a serial line, reads and writes
registers and moves memory.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from hw.device import RunResult, check_images
from hw.isa import COUNTERS, RECORD_FIELDS, RECORD_HEAD_BYTES, REGISTER_BITS, Error
from hw.program import Program

START, SOFT_RESET, CLEAR_INTERRUPT = (1 << low for _, low, _, _ in REGISTER_BITS["control"])
"""Values of the control register."""

ADDRESSES = ("program_base", "image_base", "result_base")
"""Settings of 64 bits, each written to a pair of registers."""


@dataclass(frozen=True)
class Status:
    """What the status register says.

    Attributes:
        busy: The batch runs, or what was asked of the memory has not come yet.
        done: It has ended, with or without an error.
        error: Why the machine stopped.
        descriptor: Index of the descriptor that the error belongs to.
    """

    busy: bool
    done: bool
    error: Error
    descriptor: int

    @staticmethod
    def decode(word: int) -> "Status":
        """Status of the register's value.

        Raises:
            ValueError: For an unknown error code.
        """
        fields = {name: word >> low & (1 << width) - 1 for name, low, width, _ in REGISTER_BITS["status"]}
        return Status(bool(fields["busy"]), bool(fields["done"]), Error(fields["error_code"]), fields["descriptor_index"])


class MemoryImage:
    """Content of a device's memory, region after region.

    Args:
        base: Address of the first region.
        alignment: Regions start at multiples of this many bytes.

    Attributes:
        data: The content from address 0 on.
    """

    def __init__(self, base: int, alignment: int) -> None:
        self.data = bytearray(base)
        self.alignment = alignment
        self._known: dict[bytes, int] = {}

    def align(self) -> int:
        """Fill up with zeros; the address of the next region."""
        self.data += bytes(-len(self.data) % self.alignment)
        return len(self.data)

    def add(self, content: bytes) -> int:
        """Address of ``content``, once for equal contents."""
        if content not in self._known:
            self._known[content] = self.align()
            self.data += content
        return self._known[content]

    def reserve(self, size: int) -> int:
        """Address of ``size`` bytes of ones, so that a record that was not written is no zero record."""
        address = self.align()
        self.data += b"\xff" * size
        return address


@dataclass(frozen=True)
class Report:
    """What a machine's registers say of a batch that has ended.

    Attributes:
        status: Value of the status register.
        images_done: Images that have a record.
        counters: The machine's counters by name.
        wall_s: Seconds from the start to the end.
    """

    status: int
    images_done: int
    counters: dict[str, int]
    wall_s: float


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images for a Program to run on: the arguments of `hw.device.Device.run`."""

    program: Program
    images: np.ndarray
    path_masks: tuple[int, int] | None = None
    threshold: int | None = None
    deadline: int | None = None

    def program_bytes(self) -> bytes:
        """The Program as the memory holds it."""
        return self.program.memory

    def place(self, memory: MemoryImage) -> dict[str, int]:
        """Put Program and images into a memory and reserve the records.

        Returns:
            The machine's settings by the names of their registers, addresses as one value of 64 bits (`ADDRESSES`).

        Raises:
            InputError: When the images do not fit the Program.
        """
        program, flat, content = self.program, check_images(self.program, self.images), self.program_bytes()
        rows = np.zeros((len(flat), program.image_stride), np.int8)
        rows[:, : program.image_bytes] = flat
        low, high = program.path_masks if self.path_masks is None else self.path_masks
        return {
            "program_base": memory.add(content),
            "program_bytes": len(content),
            "descriptor_count": program.descriptor_count,
            "image_base": memory.add(rows.tobytes()),
            "image_stride": program.image_stride,
            "image_count": len(flat),
            "result_base": memory.reserve(len(flat) * program.record_stride),
            "result_stride": program.record_stride,
            "path_mask_low": low,
            "path_mask_high": high,
            "threshold": program.threshold if self.threshold is None else self.threshold,
            "deadline": self.deadline or 0,
        }

    def result(self, report: Report, records: bytes, build_wall_s: float = 0.0) -> RunResult:
        """What a run gave.

        Args:
            report: Of the machine's registers.
            records: Memory from `place`'s ``result_base`` on.
            build_wall_s: As of `RunResult`.
        """
        status = Status.decode(report.status)
        return replace(
            decode_records(self.program, records, min(report.images_done, len(self.images))),
            error=status.error, error_descriptor=status.descriptor, counters=report.counters,
            wall_s=report.wall_s, build_wall_s=build_wall_s,
        )  # fmt: skip


def decode_records(program: Program, memory: bytes, count: int) -> RunResult:
    """What the records of a Program's first ``count`` images say.

    Args:
        program: The Program that wrote them.
        memory: At least ``count`` records of `Program.record_stride` bytes.
        count: Images that have a record.
    """
    words = np.frombuffer(memory, "<u4", count * program.record_stride // 4).reshape(count, program.record_stride // 4)
    head = {name: words[:, index].astype(np.int64) for index, (name, _) in enumerate(RECORD_FIELDS)}
    first = RECORD_HEAD_BYTES // 4
    logits = words[:, first : first + program.classes].astype(np.int32).astype(np.int64)
    return RunResult(logits, head["exit"], head["entropy"], head["gate_entropy"], head["cycles"])


class Registers(Protocol):
    """A way to a machine's registers, by their names in `hw.isa`."""

    async def write(self, name: str, value: int) -> None:
        """Write a 32-bit register."""

    async def read(self, name: str) -> int:
        """Value of a 32-bit register or counter."""
        ...


async def write_settings(registers: Registers, settings: Mapping[str, int]) -> None:
    """Write `Batch.place`'s settings, in order; an address goes to two registers."""
    for name, value in settings.items():
        if name in ADDRESSES:
            await registers.write(f"{name}_low", value & 0xFFFFFFFF)
            await registers.write(f"{name}_high", value >> 32)
        else:
            await registers.write(name, value)


async def read_counters(registers: Registers) -> dict[str, int]:
    """All counters by name."""
    return {name: await registers.read(name) for name, _ in COUNTERS}


async def run_batch(
    registers: Registers, settings: Mapping[str, int], interrupt: Callable[[], Awaitable[None]] | None = None
) -> Report:
    """Run a batch as a host does, from settings to a machine at rest.

    Args:
        registers: Of the machine.
        settings: Of `Batch.place`.
        interrupt: Waits for it; None where there is none, for status is polled next.
    """
    await write_settings(registers, settings)
    await registers.write("interrupt_enable", 1)
    await registers.write("control", START)
    started = time.perf_counter()
    if interrupt is not None:
        await interrupt()
    while Status.decode(status := await registers.read("status")).busy:  # after an error, until all that was asked for has come
        pass
    wall_s = time.perf_counter() - started
    images_done = await registers.read("images_done")
    counters = await read_counters(registers)
    if Status.decode(status).error:
        await registers.write("control", SOFT_RESET)
    await registers.write("control", CLEAR_INTERRUPT)
    return Report(status, images_done, counters, wall_s)

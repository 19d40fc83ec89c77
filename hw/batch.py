"""A batch of images: its places in a device's memory, and what its records say. `hw.host` runs it."""

from dataclasses import dataclass, replace

import numpy as np

from hw.device import RunResult, check_images
from hw.host import Report, Status
from hw.isa import RECORD_FIELDS, RECORD_HEAD_BYTES
from hw.program import Program


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
            The machine's settings by the names of their registers, addresses as one value of 64 bits (`hw.host.ADDRESSES`).

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

"""The host's side of a `HostBridge`: frames, and a whole batch as a conversation of bytes.

A conversation is a generator that yields (request, bytes of the answer) and is sent the answer, so the same code talks through a
serial port, a simulation or a test.
"""

import struct
import time
from collections.abc import Callable, Generator
from typing import TypeVar

import numpy as np

from hw.boards.shell.host_bridge import MOST_WORDS, WORD_BYTES, Command
from hw.config import AcceleratorConfig
from hw.device import RunResult, check_images, decode_records
from hw.errors import InputError
from hw.isa import COUNTERS, Error, register_offset
from hw.program import Program

Answer = TypeVar("Answer")
Conversation = Generator[tuple[bytes, int], bytes, Answer]
"""Yields requests with the sizes of their answers, is sent the answers, returns what it learned."""

CONTROL_START, CONTROL_RESET, CONTROL_CLEAR = 1, 2, 4
STATUS_BUSY, STATUS_ERROR = 1, 4


def _exchange(command: Command, address: int, words: int, data: bytes, answer_words: int) -> Conversation[bytes]:
    size = WORD_BYTES * answer_words + 1
    answer = yield struct.pack("<BIH", command, address, words - 1) + data, size
    if len(answer) != size:
        raise RuntimeError(f"{command.name} at {address:#x} must be answered with {size} bytes, not {len(answer)}")
    if answer[-1]:
        raise RuntimeError(f"{command.name} at {address:#x} must be answered OKAY, not with response {answer[-1]}")
    return answer[:-1]


def write_words(command: Command, address: int, data: bytes) -> Conversation[None]:
    """Write bytes, padded with zeros to a word, to registers or memory.

    Raises:
        RuntimeError: when an AXI response is an error, or the answer has another size.
    """
    data += bytes(-len(data) % WORD_BYTES)
    step = MOST_WORDS * WORD_BYTES
    for start in range(0, len(data), step):
        part = data[start : start + step]
        yield from _exchange(command, address + start, len(part) // WORD_BYTES, part, 0)


def read_words(command: Command, address: int, words: int) -> Conversation[bytes]:
    """Read words from registers or memory.

    Raises:
        RuntimeError: when an AXI response is an error, or the answer has another size.
    """
    result = b""
    for start in range(0, words, MOST_WORDS):
        count = min(MOST_WORDS, words - start)
        result += yield from _exchange(command, address + start * WORD_BYTES, count, b"", count)
    return result


def write_register(name: str, value: int) -> Conversation[None]:
    """Write a 32-bit register by its name in `hw.isa`."""
    yield from write_words(Command.WRITE_REGISTERS, register_offset(name), struct.pack("<I", value))


def read_register(name: str) -> Conversation[int]:
    """Read a 32-bit register or counter by its name in `hw.isa`."""
    answer = yield from read_words(Command.READ_REGISTERS, register_offset(name), 1)
    return struct.unpack("<I", answer)[0]


def memory_needed(program: Program, images: int) -> int:
    """Bytes of memory that a batch takes: the Program, the images and their records."""
    return _places(program, images)[2]


def _places(program: Program, images: int) -> tuple[int, int, int]:
    """Addresses of the images and of the records, and the end."""
    align = program.config.axi_bytes
    image_base = -(-len(program.memory) // align) * align
    result_base = image_base + images * program.image_stride
    return image_base, result_base, result_base + images * program.record_stride


def run_batch(
    program: Program,
    images: np.ndarray,
    memory_bytes: int,
    *,
    path_masks: tuple[int, int] | None = None,
    threshold: int | None = None,
    deadline: int | None = None,
) -> Conversation[RunResult]:
    """Upload a Program and images, start, poll until the machine is idle, read counters and records.

    The Program lies at address 0, images and records behind it.

    Arguments:
        program: what to run.
        images: int8 [n, height, width, channels], pixel - 128.
        memory_bytes: of the board.
        path_masks: as `hw.device.Device.run`.
        threshold: as `hw.device.Device.run`.
        deadline: as `hw.device.Device.run`.

    Raises:
        InputError: when images and Program do not fit each other or the memory.
        RuntimeError: when an AXI response is an error, or the answer has another size.
    """
    flat = check_images(program, images)
    image_base, result_base, end = _places(program, len(flat))
    if end > memory_bytes:
        raise InputError(f"Program, images and records must fit {memory_bytes} bytes of memory, not take {end}")
    rows = np.zeros((len(flat), program.image_stride), np.int8)
    rows[:, : program.image_bytes] = flat
    low, high = program.path_masks if path_masks is None else path_masks
    registers = {
        "control": CONTROL_CLEAR,
        "program_base_low": 0,
        "program_base_high": 0,
        "program_bytes": len(program.memory),
        "descriptor_count": program.descriptor_count,
        "image_base_low": image_base,
        "image_base_high": 0,
        "image_stride": program.image_stride,
        "image_count": len(flat),
        "result_base_low": result_base,
        "result_base_high": 0,
        "result_stride": program.record_stride,
        "path_mask_low": low,
        "path_mask_high": high,
        "threshold": program.threshold if threshold is None else threshold,
        "deadline": deadline or 0,
        "interrupt_enable": 1,
    }
    yield from write_words(Command.WRITE_MEMORY, 0, program.memory)
    yield from write_words(Command.WRITE_MEMORY, image_base, rows.tobytes())
    for name, value in registers.items():
        yield from write_register(name, value)
    started = time.perf_counter()
    yield from write_register("control", CONTROL_START)
    while (status := (yield from read_register("status"))) & STATUS_BUSY:
        pass
    wall_s = time.perf_counter() - started
    images_done = yield from read_register("images_done")
    first = register_offset(COUNTERS[0][0])
    counters = np.frombuffer((yield from read_words(Command.READ_REGISTERS, first, len(COUNTERS))), "<u4")
    records = yield from read_words(Command.READ_MEMORY, result_base, len(flat) * program.record_stride // WORD_BYTES)
    if status & STATUS_ERROR:
        yield from write_register("control", CONTROL_RESET)
    fields = decode_records(program, records, min(images_done, len(flat)))
    del fields["top1"], fields["classes"]
    return RunResult(
        **fields,
        error=Error(status >> 8 & 0xFF),
        error_descriptor=status >> 16,
        counters={name: int(value) for (name, _), value in zip(COUNTERS, counters, strict=True)},
        wall_s=wall_s,
        build_wall_s=0.0,
    )


class BoardDevice:
    """`hw.device.Device` of a board with a `UartShell`.

    Arguments:
        config: the machine on the board.
        memory_bytes: of the board.
        exchange: sends a request and returns that many bytes of answer, such as a write to a serial port and a read from it.
    """

    def __init__(self, config: AcceleratorConfig, memory_bytes: int, exchange: Callable[[bytes, int], bytes]):
        self.config = config
        self._memory_bytes, self._exchange = memory_bytes, exchange

    def run(self, program: Program, images: np.ndarray, **settings) -> RunResult:
        """Run a batch; see `run_batch`.

        Raises:
            InputError: when the Program is for another machine, and as `run_batch`.
            RuntimeError: as `run_batch`.
        """
        if program.config != self.config:
            raise InputError(f"Program must be compiled for {self.config}, not {program.config}")
        conversation = run_batch(program, images, self._memory_bytes, **settings)
        request, size = next(conversation)
        while True:
            try:
                request, size = conversation.send(self._exchange(request, size))
            except StopIteration as end:
                return end.value

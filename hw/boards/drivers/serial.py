"""The host of a `HostBridge`: frames, and a whole batch as a conversation of bytes.

A conversation is a generator that yields (request, bytes of the answer) and is sent the answer, so the same code talks through a
serial port, a simulation or a test.
"""

import struct
from collections.abc import Callable, Generator
from typing import TypeVar

import numpy as np

from hw.batch import CLEAR_INTERRUPT, Batch, MemoryImage, Read, Step, Write, run_steps
from hw.boards.shell.host_bridge import MOST_WORDS, WORD_BYTES, Command
from hw.config import AcceleratorConfig
from hw.device import RunResult
from hw.errors import InputError
from hw.isa import register_offset
from hw.program import Program

Answer = TypeVar("Answer")
Conversation = Generator[tuple[bytes, int], bytes, Answer]
"""Yields requests with the sizes of their answers, is sent the answers, returns what it learned."""


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
    align = program.config.axi_bytes
    return -(-len(program.memory) // align) * align + images * (program.image_stride + program.record_stride)


def _perform(steps: Generator[Step, int | None, Answer]) -> Conversation[Answer]:
    """A host's steps as frames."""
    answer: int | None = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value
        answer = None
        match step:
            case Write(name, value):
                yield from write_register(name, value)
            case Read(name):
                answer = yield from read_register(name)


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

    Args:
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
    batch = Batch(program=program, images=images, path_masks=path_masks, threshold=threshold, deadline=deadline)
    memory = MemoryImage(0, program.config.axi_bytes)
    settings = batch.place(memory)
    if len(memory.data) > memory_bytes:
        raise InputError(f"Program, images and records must fit {memory_bytes} bytes of memory, not take {len(memory.data)}")
    first, last = settings["result_base"], len(memory.data)
    yield from write_words(Command.WRITE_MEMORY, 0, bytes(memory.data[:first]))
    yield from write_register("control", CLEAR_INTERRUPT)  # of a host that went away
    report = yield from _perform(run_steps(settings))
    records = yield from read_words(Command.READ_MEMORY, first, (last - first) // WORD_BYTES)
    return batch.result(report, records)


class BoardDevice:
    """`hw.device.Device` of a board with a `UartShell`.

    Args:
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

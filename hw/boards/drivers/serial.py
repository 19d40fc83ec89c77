"""The host of a `HostBridge`: frames of bytes, and a whole batch by them.

Frames are exchanged by a coroutine, so the same code talks through a serial port, a simulation or a test.
"""

import struct
from collections.abc import Awaitable, Callable

import numpy as np

from hw.batch import Batch, MemoryImage
from hw.boards.shell.host_bridge import MOST_WORDS, WORD_BYTES, Command
from hw.config import AcceleratorConfig
from hw.device import RunResult, check_program
from hw.errors import InputError
from hw.host import CLEAR_INTERRUPT, run_batch
from hw.isa import register_offset
from hw.program import Program


class BridgeHost:
    """Reads and writes registers (`hw.host.Registers`) and memory through a bridge.

    Every method raises RuntimeError when an AXI response is an error, or the answer has another size.

    Args:
        exchange: sends a request and returns that many bytes of answer.
    """

    def __init__(self, exchange: Callable[[bytes, int], Awaitable[bytes]]):
        self._exchange = exchange

    async def _frame(self, command: Command, address: int, words: int, data: bytes = b"") -> bytes:
        """One frame's answer without its status."""
        size = (0 if data else WORD_BYTES * words) + 1
        answer = await self._exchange(struct.pack("<BIH", command, address, words - 1) + data, size)
        if len(answer) != size:
            raise RuntimeError(f"{command.name} at {address:#x} must be answered with {size} bytes, not {len(answer)}")
        if answer[-1]:
            raise RuntimeError(f"{command.name} at {address:#x} must be answered OKAY, not with response {answer[-1]}")
        return answer[:-1]

    async def write_memory(self, address: int, data: bytes) -> None:
        """Write bytes, padded with zeros to a word."""
        data += bytes(-len(data) % WORD_BYTES)
        step = MOST_WORDS * WORD_BYTES
        for start in range(0, len(data), step):
            part = data[start : start + step]
            await self._frame(Command.WRITE_MEMORY, address + start, len(part) // WORD_BYTES, part)

    async def read_memory(self, address: int, words: int) -> bytes:
        """Read words."""
        result = b""
        for start in range(0, words, MOST_WORDS):
            result += await self._frame(Command.READ_MEMORY, address + start * WORD_BYTES, min(MOST_WORDS, words - start))
        return result

    async def write(self, name: str, value: int) -> None:
        """Write a 32-bit register by its name in `hw.isa`."""
        await self._frame(Command.WRITE_REGISTERS, register_offset(name), 1, struct.pack("<I", value))

    async def read(self, name: str) -> int:
        """Value of a 32-bit register or counter by its name in `hw.isa`."""
        return struct.unpack("<I", await self._frame(Command.READ_REGISTERS, register_offset(name), 1))[0]

    async def run(self, batch: Batch, memory_bytes: int) -> RunResult:
        """Upload a Program and images, start, poll until the machine is idle, read counters and records.

        The Program lies at address 0, images and records behind it.

        Args:
            batch: what to run.
            memory_bytes: of the board.

        Raises:
            InputError: when images and Program do not fit each other or the memory.
        """
        memory = MemoryImage(0, batch.program.config.axi_bytes)
        settings = batch.place(memory)
        if len(memory.data) > memory_bytes:
            raise InputError(f"Program, images and records must fit {memory_bytes} bytes of memory, not take {len(memory.data)}")
        first, last = settings["result_base"], len(memory.data)
        await self.write_memory(0, bytes(memory.data[:first]))
        await self.write("control", CLEAR_INTERRUPT)  # of a host that went away
        report = await run_batch(self, settings)
        return batch.result(report, await self.read_memory(first, (last - first) // WORD_BYTES))


def memory_needed(program: Program, images: int) -> int:
    """Bytes of memory that a batch takes: the Program, the images and their records."""
    align = program.config.axi_bytes
    return -(-len(program.memory) // align) * align + images * (program.image_stride + program.record_stride)


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

    async def _exchanged(self, request: bytes, size: int) -> bytes:
        return self._exchange(request, size)

    def run(self, program: Program, images: np.ndarray, **settings) -> RunResult:
        """Run a batch; see `hw.device.Device`.

        Raises:
            InputError: when the Program is for another machine, and as `BridgeHost.run`.
            RuntimeError: as `BridgeHost`.
        """
        check_program(program, self.config)
        batch = Batch(program=program, images=images, **settings)
        running = BridgeHost(self._exchanged).run(batch, self._memory_bytes)
        try:
            running.send(None)
        except StopIteration as end:  # it waits for nothing, so the first step is the whole
            return end.value
        raise AssertionError("An exchange over a port never waits")

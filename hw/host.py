"""The host's side of a machine: registers, status, and a batch from its settings to a machine at rest.

It is here once. What carries it to a machine, a simulated bus or a serial line, reads and writes registers. Every simulation
loads this module, so it does without numpy.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from hw.isa import COUNTERS, REGISTER_BITS, Error

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


class Registers(Protocol):
    """A way to a machine's registers, by their names in `hw.isa`."""

    async def write(self, name: str, value: int) -> None:
        """Write a 32-bit register."""

    async def read(self, name: str) -> int:
        """Value of a 32-bit register or counter."""
        ...


async def write_settings(registers: Registers, settings: Mapping[str, int]) -> None:
    """Write the settings of `hw.batch.Batch.place`, in order; an address goes to two registers."""
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
        settings: Of `hw.batch.Batch.place`.
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

"""Radiona ULX3S-85F: Lattice ECP5 LFE5U-85F, the machine with its memory on the chip, a UART over the board's USB port."""

from typing import Any

from hw.boards.board import Board
from hw.boards.ecp5 import CAPACITY, CELLS, build_design
from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.toolchain import require_ecp5_tools

CLOCK_MHZ = 25
"""Of the board's oscillator, which clocks the machine."""
BAUD_RATE = 1_000_000
"""Of the UART; 25 cycles of a bit."""
MEMORY_BYTES = 1 << 17
"""Memory on the chip, for the Program, images and records; 64 of the 208 block RAMs."""


def _check(config: AcceleratorConfig) -> None:
    from hw.boards.shell.shared_memory import check_size

    if config.clock_mhz != CLOCK_MHZ:
        raise InputError(f"clock_mhz must be {CLOCK_MHZ} on ulx3s, the board's oscillator, not {config.clock_mhz}")
    check_size(config, MEMORY_BYTES)


def _top(config: AcceleratorConfig) -> Any:
    """The design between the board's pins."""
    from amaranth.hdl import ClockDomain, Elaboratable, Module
    from amaranth.lib import io
    from amaranth.lib.cdc import FFSynchronizer, ResetSynchronizer

    from hw.boards.shell.uart_shell import UartShell

    class Top(Elaboratable):
        """UART; button "fire 1" resets; lights: 0 the interrupt, 1 and 2 activity of the two lines."""

        def elaborate(self, platform) -> Module:
            m = Module()
            # The platform's own domain has the global reset alone, and the shared modules need a signal.
            m.domains.sync = domain = ClockDomain()
            m.submodules.clock = clock = io.Buffer("i", platform.request("clk25", 0, dir="-"))
            m.d.comb += domain.clk.eq(clock.i)
            m.submodules.button = button = io.Buffer("i", platform.request("button_fire", 0, dir="-"))
            m.submodules.reset = ResetSynchronizer(button.i)
            m.submodules.shell = shell = UartShell(config, MEMORY_BYTES, CLOCK_MHZ * 1_000_000 // BAUD_RATE, shared=True)
            uart = platform.request("uart", 0, dir=dict.fromkeys(("rx", "tx", "rts", "dtr"), "-"))
            m.submodules.rx = rx = io.Buffer("i", uart.rx)
            m.submodules.tx = tx = io.Buffer("o", uart.tx)
            m.submodules.synchronizer = FFSynchronizer(rx.i, shell.rx, init=1)
            m.d.comb += tx.o.eq(shell.tx)
            for number, value in enumerate((shell.interrupt, ~shell.rx, ~shell.tx)):
                m.submodules[f"led_{number}"] = led = io.Buffer("o", platform.request("led", number, dir="-"))
                m.d.comb += led.o.eq(value)
            return m

    return Top()


def _build(config: AcceleratorConfig, bitstream: bool) -> tuple[dict[str, Any], dict[str, bytes]]:
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    from hw.row.row_stack import shared_modules

    tools = require_ecp5_tools() if bitstream else None
    platform = ULX3S_85F_Platform()
    for number, text in enumerate(shared_modules(config)):
        platform.add_file(f"shared_{number}.il", text)
    fields, files = build_design(platform, _top(config), CLOCK_MHZ, tools)
    return {"memory_bytes": MEMORY_BYTES, "baud_rate": BAUD_RATE} | fields, files


ULX3S = Board(
    name="ulx3s",
    device="LFE5U-85F",
    preset="edge",
    capacity=CAPACITY,
    cells=CELLS | {"lut": "LUT4", "ff": "FF"},
    multiplier_dsps=2,
    check=_check,
    build=_build,
)
"""The board."""

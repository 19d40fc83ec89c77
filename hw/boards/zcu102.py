"""AMD ZCU102: Zynq UltraScale+ XCZU9EG, whose processing system clocks, controls and feeds the machine."""

from pathlib import Path

from hw.boards.board import Board
from hw.config import AcceleratorConfig
from hw.errors import InputError

PART = "xczu9eg-ffvb1156-2-e"
"""Device, package, speed grade and temperature range on the board."""
BOARD_PART = "xilinx.com:zcu102"
"""Vendor and name of Vivado's board files; any version of them."""
CONTROL_ADDRESS = 0xA000_0000
"""Where the processors see the registers: the start of M_AXI_HPM0_FPD's lower range (UG1085, system addresses)."""
PORTS = 4
"""Slave ports S_AXI_HP0_FPD to S_AXI_HP3_FPD to the memory controller."""
PORT_BITS = 128
"""Data width of each."""
PORT_ADDRESS_BITS = 49
"""Address width of each."""


def _check(config: AcceleratorConfig) -> None:
    if config.weight_ports > PORTS - 1:
        raise InputError(f"weight_ports must be at most {PORTS - 1} on zcu102, not {config.weight_ports}")
    if config.address_width > PORT_ADDRESS_BITS:
        raise InputError(f"address_width must be at most {PORT_ADDRESS_BITS} on zcu102, not {config.address_width}")
    if config.address_width < 32:
        raise InputError(f"address_width must be at least 32 on zcu102, whose DDR has 2 GiB below, not {config.address_width}")


def _project(config: AcceleratorConfig) -> dict[str, str]:
    from hw.boards.vivado import wrapper

    folder = Path(__file__).parent
    settings = {
        "part": PART,
        "board": BOARD_PART,
        "clock_mhz": config.clock_mhz,
        "masters": config.weight_ports + 1,
        "port_bits": PORT_BITS,
        "address_width": config.address_width,
        "control_address": f"0x{CONTROL_ADDRESS:08X}",
    }
    lines = [
        "# Vivado project of the PIVOT accelerator on the ZCU102. Run: vivado -mode batch -source build.tcl",
        "# Leaves pivot.bit, pivot.xsa and reports beside this file.",
        *(f"set {name} {value}" for name, value in settings.items()),
    ]
    return {
        "vivado/build.tcl": "\n".join(lines) + "\n" + (folder / "zcu102.tcl").read_text(encoding="utf-8"),
        "constraints.xdc": (folder / "zcu102.xdc").read_text(encoding="utf-8"),
        "accelerator_board.v": wrapper(config),
    }


ZCU102 = Board(
    name="zcu102",
    device="XCZU9EG",
    preset="zcu102",
    capacity={"lut": 274_080, "ff": 548_160, "dsp": 2_520, "bram36": 912},
    cells={"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram36": "BRAM36"},
    multiplier_dsps=1,
    check=_check,
    project=_project,
)
"""The board; capacities from AMD's Zynq UltraScale+ product table (DS891)."""

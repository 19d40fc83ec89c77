"""Logic levels of a mapped netlist: the longest path between registers, in look-up tables.

A path starts at the output of a register, a memory, a DSP block, a black box or at an input port, and ends at the input of
one or at an output port. It counts 1 for every LUT, inverter and asynchronous read of distributed RAM on it, and 1 for every
stretch of carry cells, however long; MUXF cells (PFUMX and L6MUX21 of an ECP5) count nothing, as they join LUTs of one site.
DSP blocks and block RAM are ends of a path even where none of their registers are used.
"""

import re
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

_CARRY = ("CARRY4", "CARRY8", "CCU2C")
_MULTIPLEXERS = ("MUXF7", "MUXF8", "MUXF9", "PFUMX", "L6MUX21")
_DISTRIBUTED_RAM = re.compile(r"RAM(?!B)|TRELLIS_DPR")


def _kind(cell_type: str) -> str | None:
    """``lut``, ``carry`` or ``multiplexer`` for what a path goes through; None for its ends."""
    if cell_type.startswith("LUT") or cell_type == "INV":
        return "lut"
    if cell_type in _CARRY:
        return "carry"
    if cell_type in _MULTIPLEXERS:
        return "multiplexer"
    if _DISTRIBUTED_RAM.match(cell_type):
        return "lut"
    return None


def _sources(cell: Mapping[str, Any]) -> list[int]:
    """Nets that a cell's outputs depend on in the same cycle; of distributed RAM the addresses."""
    ram = _DISTRIBUTED_RAM.match(cell["type"])
    return [
        bit
        for port, bits in cell["connections"].items()
        if cell["port_directions"][port] == "input" and not (ram and not port.startswith(("A", "DPRA", "RAD")))
        for bit in bits
        if isinstance(bit, int)
    ]


def longest_path(module: Mapping[str, Any]) -> int:
    """Logic levels of one flat module.

    Args:
        module: a module of Yosys's ``write_json``, with ``cells``, mapped to UltraScale+ or ECP5 primitives.

    Raises:
        RuntimeError: for a combinational loop.
    """
    cells = {name: cell for name, cell in module["cells"].items() if _kind(cell["type"])}
    driver: dict[int, str] = {}
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                driver |= {bit: name for bit in bits if isinstance(bit, int)}
    inputs = {name: {driver[bit] for bit in _sources(cell) if bit in driver} - {name} for name, cell in cells.items()}
    readers: dict[str, list[str]] = defaultdict(list)
    for name, drivers in inputs.items():
        for other in drivers:
            readers[other].append(name)
    waiting = {name: len(drivers) for name, drivers in inputs.items()}
    ready = deque(name for name, count in waiting.items() if not count)
    levels: dict[str, int] = {}
    while ready:
        name = ready.popleft()
        kind = _kind(cells[name]["type"])
        levels[name] = 0
        for other in inputs[name]:
            same_stretch = kind == "carry" and _kind(cells[other]["type"]) == "carry"
            free = kind == "multiplexer" or same_stretch
            levels[name] = max(levels[name], levels[other] + (not free))
        if not inputs[name] and kind != "multiplexer":
            levels[name] = 1
        for reader in readers[name]:
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if len(levels) != len(cells):
        raise RuntimeError(f"The netlist has a combinational loop through {len(cells) - len(levels)} cells")
    return max(levels.values(), default=0)

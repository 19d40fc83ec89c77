"""How the rows of the machine hang together."""

from dataclasses import dataclass, field
from typing import Any

from sim.rtl.row_lanes.netlist import Bit, UnsuitedRows


@dataclass
class Stack:
    """A chain of equal rows.

    Attributes:
        rows: their number.
        ports: of the stack: direction and bits by name.
        above: (port, bit) of a row's input to (output port, bit) of the row above, and the bit of the stack at row 0.
        uniform: (port, bit) of a row's input to the bit of the stack that drives it in every row.
        outputs: bit of the stack to (row, port, bit).
    """

    rows: int
    ports: dict[str, dict[str, Any]]
    outputs: dict[Bit, tuple[int, str, int]]
    above: dict[tuple[str, int], tuple[str, int, Bit]] = field(default_factory=dict)
    uniform: dict[tuple[str, int], Bit] = field(default_factory=dict)


def read_stack(module: dict[str, Any], row_ports: dict[str, dict[str, Any]], row: str) -> Stack:
    """The stack of a netlist that instantiates rows and holds nothing else.

    Args:
        module: `netlist.read_netlist` of the stack.
        row_ports: direction and bits by name.
        row: name of the row's module.

    Raises:
        UnsuitedRows: When an input comes from elsewhere than from the row above, or in all rows from the same bit.
    """
    instances = {name: cell["connections"] for name, cell in module["cells"].items() if cell["type"] == row}
    if {cell["type"] for cell in module["cells"].values()} - {row, "$scopeinfo"}:
        raise UnsuitedRows(f"The module with the rows must hold instances of {row} alone")
    inputs = [name for name, port in row_ports.items() if port["direction"] == "input"]
    drives = {
        bit: (name, port, index)
        for name, pins in instances.items()
        for port in row_ports
        if port not in inputs
        for index, bit in enumerate(pins.get(port, []))
    }
    order = _chain(
        {name: {drives[bit][0] for port in inputs for bit in pins[port] if bit in drives} for name, pins in instances.items()}
    )
    place = {name: position for position, name in enumerate(order)}
    outputs = {bit: (place[name], port, index) for bit, (name, port, index) in drives.items()}
    stack = Stack(len(order), module["ports"], outputs)
    for port in inputs:
        for index in range(len(row_ports[port]["bits"])):
            sources = [instances[name][port][index] for name in order]
            if all(source == sources[0] for source in sources):
                stack.uniform[port, index] = sources[0]
                continue
            found = [outputs.get(source) for source in sources[1:]]
            if sources[0] in drives or found[0] is None or found != [(above, *found[0][1:]) for above in range(len(found))]:
                raise UnsuitedRows(f"Bit {index} of the rows' {port} must come from the row above")
            stack.above[port, index] = (*found[0][1:], sources[0])
    return stack


def _chain(above: dict[str, set[str]]) -> list[str]:
    """Rows from the top, given the rows that drive each."""
    order = [name for name, drivers in above.items() if not drivers]
    below = {next(iter(drivers)): name for name, drivers in above.items() if len(drivers) == 1}
    if len(order) != 1 or len(below) != len(above) - 1:
        raise UnsuitedRows("Rows must form one chain")
    while order[-1] in below:
        order.append(below[order[-1]])
    return order

"""The row stack as one module whose registers are arrays over rows: the form in which Verilator runs a tall machine fast.

Verilator emits the code of every instance again, which for tens of rows overflows the instruction cache and takes minutes
to compile. All wires between rows are registers, so rows are independent within a cycle: here every net of the row becomes
an array over rows, and every operation a loop over it that the C++ compiler turns into vector instructions. The netlist is
that of the generated Verilog, elaborated by Yosys; nothing is known of what the rows do.
"""

import re

from sim.rtl.row_lanes.emission import StackEmitter
from sim.rtl.row_lanes.netlist import ROW_PASSES, Row, UnsuitedRows, modules_below, read_netlist, split_modules
from sim.rtl.row_lanes.stack import read_stack

__all__ = ["UnsuitedRows", "with_row_lanes"]


def with_row_lanes(verilog: str, row: str = "row_slice") -> str:
    """The machine's Verilog with its rows as loops; Verilator needs ``--unroll-count 1`` to keep them.

    Args:
        verilog: Of the whole machine, as `hw.accelerator.generate_verilog` returns it.
        row: Name of the rows' module.

    Returns:
        SystemVerilog in which the module that instantiates the rows has no instances.

    Raises:
        UnsuitedRows: When the rows do not fit this form.
    """
    modules = split_modules(verilog)
    stacks = [name for name, text in modules.items() if re.search(rf"^  {re.escape(row)} ", text, re.M)]
    if len(stacks) != 1:
        raise UnsuitedRows(f"Instances of {row} must be in one module, not in {len(stacks)}")
    below = modules_below(modules, row)
    netlist = read_netlist([modules[name] for name in below], row, (f"hierarchy -top {row}", *ROW_PASSES))
    outer = read_netlist([modules[stacks[0]]], stacks[0], ("proc", "opt_clean"))
    emitter = StackEmitter(Row(netlist), read_stack(outer, netlist["ports"], row))
    kept = [text for name, text in modules.items() if name not in below and name != stacks[0]]
    return "".join(kept) + emitter.emit(f"\\{stacks[0]} ")

"""The netlist of a module as Yosys elaborates it from the generated Verilog."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hw.toolchain import require_pyosys
from hw.verilog import run_pass, yosys_directory
from sim.cpp_build import BuildError

CHUNK = 64
"""Most bits of an array's element: what a machine word holds."""

Bit = int | str
"""A bit of Yosys' JSON netlist: a number, or one of the constants 0, 1, x and z."""

ROW_PASSES = (
    "proc", "flatten", "opt_expr", "opt_clean", "opt_merge", "opt_clean",
    "opt_expr -mux_undef",  # addresses and data of writes without the enable
    "memory_collect", "pmuxtree",
    "wreduce", "opt_clean",  # else sign extensions would cut sign bits off in the next pass
    "splitcells t:$dff t:$mux %u r:WIDTH>=40 %i", "opt_merge", "opt_clean",  # tokens into fields
)  # fmt: skip


class UnsuitedRows(BuildError):
    """The design has no stack of equal rows whose wires between rows are registers, or a cell without a loop form."""


@dataclass
class Memory:
    """A part of at most `CHUNK` bits of a memory's words.

    Attributes:
        name: of its array.
        width: bits of an element.
        size: words that exist.
        address_width: bits of an address.
        writes: (address, data, enable bits) of each write port; later ones win.
    """

    name: str
    width: int
    size: int
    address_width: int
    writes: list[tuple[list[Bit], list[Bit], list[Bit]]] = field(default_factory=list)

    def add_write(self, address: list[Bit], data: list[Bit], enable: list[Bit]) -> None:
        """Add a port; to the one before, where both write other bits at the same address."""
        if all(bit == "0" for bit in enable):
            return
        if self.writes:
            before, old_data, old_enable = self.writes[-1]
            if before == address and all("0" in bits for bits in zip(old_enable, enable, strict=True)):
                chosen = [(old_data, old_enable) if bit == "0" else (data, enable) for bit in enable]
                data, enable = ([source[part][index] for index, source in enumerate(chosen)] for part in (0, 1))
                self.writes.pop()
        self.writes.append((address, data, enable))


@dataclass
class Net:
    """A value of the row: what a cell, or at most `CHUNK` bits of one, drives.

    Attributes:
        name: of its array.
        width: bits.
        kind: ``register``, ``operation``, ``read`` (of a memory), ``above`` (a register of the row above) or ``uniform``
            (the same in all rows).
        cell: type and parameters of what drives it.
        inputs: bit vectors that it is computed from, by pin.
        initial: value before the first edge.
        memory: that is read.
    """

    name: str
    width: int
    kind: str
    cell: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, list[Bit]] = field(default_factory=dict)
    initial: int = 0
    memory: Memory | None = None

    @property
    def is_combinational(self) -> bool:
        """Whether it is computed anew in every cycle."""
        return self.kind in ("operation", "read")


def split_modules(verilog: str) -> dict[str, str]:
    """Text of every module of Yosys' Verilog, by name."""
    found = re.finditer(r"^module\s+(\\\S+ |[\w$]+)\s*\(.*?^endmodule\n", verilog, re.M | re.S)
    return {match[1].strip().lstrip("\\"): match[0] for match in found}


def modules_below(modules: dict[str, str], top: str) -> list[str]:
    """Names of ``top`` and of the modules that it instantiates, and those theirs."""
    found: list[str] = []
    waiting = [top]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.append(name)
            instances = re.findall(r"^  (\\\S+ |[\w$]+)\s+(?:\\\S+ |[\w$]+)\s*\(\n", modules[name], re.M)
            waiting += [child for child in (instance.strip().lstrip("\\") for instance in instances) if child in modules]
    return found


def read_netlist(texts: Sequence[str], top: str, passes: Sequence[str]) -> dict[str, Any]:
    """Yosys' JSON netlist of module ``top`` of Verilog texts, after ``passes``."""
    design = require_pyosys().Design()
    with yosys_directory() as directory:
        source, result = directory / "source.v", directory / "netlist.json"
        source.write_text("\n".join(texts), encoding="utf-8")
        for command in (f"read_verilog {source}", *passes, f"write_json {result}"):
            run_pass(design, command)
        return dict(json.loads(result.read_text(encoding="utf-8"))["modules"][top])


def number(parameter: str) -> int:
    """Value of a cell's parameter, undefined bits as 0."""
    return int(parameter.replace("x", "0") or "0", 2)


def parts(width: int) -> Iterator[slice]:
    """``width`` bits in pieces of at most `CHUNK`."""
    return (slice(start, min(start + CHUNK, width)) for start in range(0, width, CHUNK))


class Row:
    """The row's netlist as nets.

    Args:
        module: `read_netlist` after `ROW_PASSES`.

    Attributes:
        ports: direction and bits by name.
        driver: net and position of every bit that is no constant.
        nets: all of them.
        memories: all of them.
    """

    def __init__(self, module: dict[str, Any]):
        self.driver: dict[Bit, tuple[Net, int]] = {}
        self.nets: list[Net] = []
        self.memories: list[Memory] = []
        self._initial: dict[Bit, str] = {}
        for wire in module["netnames"].values():
            value = wire.get("attributes", {}).get("init")
            if value:
                self._initial.update(zip(wire["bits"], reversed(value), strict=False))
        self._same: dict[Bit, Bit] = {}
        self._clock = module["ports"]["clk"]["bits"]
        cells = [cell for cell in module["cells"].values() if cell["type"] != "$scopeinfo"]
        for cell in cells:
            if cell["type"] == "$mux":
                self._alias(cell["connections"])
        for cell in cells:
            pins = {pin: bits if pin in "QY" else self._sources(bits) for pin, bits in cell["connections"].items()}
            self._add(cell["type"], cell, pins)
        self.ports = {
            name: port | {"bits": port["bits"] if port["direction"] == "input" else self._sources(port["bits"])}
            for name, port in module["ports"].items()
        }

    def _alias(self, pins: dict[str, list[Bit]]) -> None:
        """Bits of a multiplexer that need none, as those of write enables."""
        for low, high, bit in zip(pins["A"], pins["B"], pins["Y"], strict=True):
            if low == high or high == "x":
                self._same[bit] = low
            elif low == "x":
                self._same[bit] = high
            elif low == "0" and high == "1":
                self._same[bit] = pins["S"][0]

    def _sources(self, bits: Sequence[Bit]) -> list[Bit]:
        found = []
        for bit in bits:
            while bit in self._same:
                bit = self._same[bit]
            found.append(bit)
        return found

    def add_net(self, bits: Sequence[Bit], kind: str, **fields: Any) -> Net:
        """A new net that drives ``bits``; ``fields`` are of `Net`."""
        net = Net(f"n{len(self.nets)}", len(bits), kind, **fields)
        if kind == "register":
            net.initial = sum(1 << index for index, bit in enumerate(bits) if self._initial.get(bit) == "1")
        self.nets.append(net)
        self.driver.update((bit, (net, index)) for index, bit in enumerate(bits))
        return net

    def _add(self, kind: str, cell: dict[str, Any], pins: dict[str, list[Bit]]) -> None:
        if kind == "$mem_v2":
            self._add_memory(pins, {name: number(value) for name, value in cell["parameters"].items() if name != "MEMID"})
        elif kind == "$dff":
            if not number(cell["parameters"]["CLK_POLARITY"]) or pins["CLK"] != self._clock:
                raise UnsuitedRows("Registers of rows must follow the rising edge of clk")
            for part in parts(len(pins["Q"])):
                self.add_net(pins["Q"][part], "register", inputs={"D": pins["D"][part]})
        elif kind == "$mux":
            for part in parts(len(pins["Y"])):
                inputs = {"A": pins["A"][part], "B": pins["B"][part], "S": pins["S"]}
                self.add_net(pins["Y"][part], "operation", cell=cell, inputs=inputs)
        elif "Y" in pins:
            self.add_net(pins["Y"], "operation", cell=cell, inputs={pin: bits for pin, bits in pins.items() if pin != "Y"})
        else:
            raise UnsuitedRows(f"Cells of rows must have a loop form, which {kind} has not")

    def _add_memory(self, pins: dict[str, list[Bit]], parameters: dict[str, int]) -> None:
        """A memory's ports, split into parts of `CHUNK` bits."""
        width, address_width = parameters["WIDTH"], parameters["ABITS"]
        if parameters["RD_CLK_ENABLE"] or parameters["INIT"] or parameters["OFFSET"]:
            raise UnsuitedRows("Memories of rows must read in the same cycle and begin as zeros")
        for part in parts(width):
            memory = Memory(f"m{len(self.memories)}", part.stop - part.start, parameters["SIZE"], address_width)
            self.memories.append(memory)

            def port(name: str, index: int, part: slice = part) -> list[Bit]:
                size, inner = (address_width, slice(None)) if name.endswith("ADDR") else (width, part)
                return pins[name][index * size : (index + 1) * size][inner]

            for index in range(parameters["WR_PORTS"]):
                memory.add_write(port("WR_ADDR", index), port("WR_DATA", index), port("WR_EN", index))
            for index in range(parameters["RD_PORTS"]):
                self.add_net(port("RD_DATA", index), "read", inputs={"ADDRESS": port("RD_ADDR", index)}, memory=memory)

"""Whether two Verilog texts describe the same circuit, whatever it is called inside."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

from hw.toolchain import require_pyosys
from hw.verilog import yosys_directory

BLACK_BOX_OUTPUTS = {"DSP48E2": ("P", "PCOUT")}
"""Output ports of cells without a module in the text."""
_NAMES = ("MEMID",)
"""Parameters that are only names."""


def netlist_digest(verilog: str, top: str) -> str:
    """Digest of a circuit. Two texts with the same digest do the same in every cycle, with as many cells of each kind; the names of
    signals and instances, the boundaries of modules that are instantiated once, and the order of the text do not count. Names of
    the top's ports do, and those of the ports of modules that are instantiated several times, which are compared by themselves.

    Cells fall into classes by type, parameters, initial value and the classes of all that drive their inputs, refined until none
    splits any more. Cells of a class then have the same outputs in every cycle, in both circuits: they begin alike and go
    on alike.

    Args:
        verilog: Text of the module ``top`` and all modules below it; cells without a module must be in `BLACK_BOX_OUTPUTS`.
        top: Name of the top module.

    Returns:
        32 hexadecimal digits.

    Raises:
        ValueError: When a cell is of an unknown kind, or a bit has several drivers.
        SystemExit: When Yosys rejects the text: it ends the process.
    """
    modules = _netlists(verilog, top)

    @cache
    def digest(name: str) -> bytes:
        return _Netlist(modules[name], kind_of).digest()

    def kind_of(cell: str) -> bytes:
        return digest(cell) if cell in modules else cell.encode()

    return digest(top).hex()


def _netlists(verilog: str, top: str) -> dict[str, dict]:
    """Modules as Yosys' JSON has them, one for the top and one for each that is instantiated several times; a bit has one number,
    however many names."""
    yosys = require_pyosys()
    design = yosys.Design()
    with yosys_directory() as directory:
        source, netlist = directory / "design.v", directory / "design.json"
        source.write_text(verilog, encoding="utf-8")

        def call(command: str) -> None:
            yosys.Pass.call(design, f"tee -q {command}")

        def written() -> dict[str, dict]:
            call(f"write_json {netlist}")
            return json.loads(netlist.read_text(encoding="utf-8"))["modules"]

        call(f"read_verilog {source}")
        call(f"hierarchy -top {top}")
        call("proc -noopt")
        call("opt_clean")
        call("memory_collect")
        instances = Counter(cell["type"] for module in written().values() for cell in module["cells"].values())
        for kind, count in instances.items():
            if count > 1 and not kind.startswith("$"):
                call(f"setattr -mod -set keep_hierarchy 1 {kind}")
        call("flatten")
        call("opt_clean -purge")
        return written()


@dataclass
class _Cell:
    """A cell or, without inputs, a port of the module."""

    label: bytes
    inputs: list[tuple[str, list]]
    outputs: list[tuple[str, list]]


class _Netlist:
    """Cells of one module and what drives their inputs."""

    def __init__(self, module: Mapping, kind_of: Callable[[str], bytes]):
        self._initial = {}
        for net in module["netnames"].values():
            for bit, value in zip(net["bits"], reversed(net["attributes"].get("init", "")), strict=False):
                if value in "01":
                    self._initial[bit] = value
        self._cells, self._ends = [], []
        for name, port in module["ports"].items():
            if port["direction"] == "input":
                self._cells.append(_Cell(b"port " + name.encode(), [], [("", port["bits"])]))
            else:
                self._ends.append((name, port["bits"]))
        for cell in module["cells"].values():
            self._cells.append(self._cell(cell, kind_of))
        self._drivers: dict[int, tuple[int, str, int]] = {}
        for number, cell in enumerate(self._cells):
            for name, bits in cell.outputs:
                for offset, bit in enumerate(bits):
                    if isinstance(bit, int) and self._drivers.setdefault(bit, (number, name, offset)) != (number, name, offset):
                        raise ValueError(f"every bit must have one driver, but {name} of a cell drives one that has another")

    def _cell(self, cell: Mapping, kind_of) -> _Cell:
        kind = cell["type"]
        directions = cell.get("port_directions") or {}
        if not directions:
            if kind not in BLACK_BOX_OUTPUTS:
                raise ValueError(f"a cell without a module must be one of {', '.join(BLACK_BOX_OUTPUTS)}, not {kind}")
            directions = {name: "output" if name in BLACK_BOX_OUTPUTS[kind] else "input" for name in cell["connections"]}
        inputs, outputs = (
            sorted(item for item in cell["connections"].items() if directions[item[0]] == way) for way in ("input", "output")
        )
        parameters = sorted((name, str(value)) for name, value in cell["parameters"].items() if name not in _NAMES)
        initial = "".join(self._initial.get(bit, "x") for _, bits in outputs for bit in bits)
        label = kind_of(kind) + repr((parameters, initial)).encode()
        return _Cell(label, inputs, outputs)

    def _sources(self, bits: list) -> list[tuple[bytes, int]]:
        """What drives the bits: runs of consecutive bits of an output, or constants (number of the cell -1)."""
        runs: list[tuple[int, str, int, int]] = []  # cell, port, first bit, bits
        for bit in bits:
            number, name, offset = self._drivers.get(bit, (-1, "undriven", 0)) if isinstance(bit, int) else (-1, str(bit), 0)
            before = runs[-1] if runs else (-1, "", 0, 0)
            if number >= 0 and before[:2] == (number, name) and before[2] + before[3] == offset:
                runs[-1] = (*before[:3], before[3] + 1)
            else:
                runs.append((number, name, offset, 1))
        return [(f"{name} {first} {count};".encode(), number) for number, name, first, count in runs]

    def digest(self) -> bytes:
        """Of the classes of cells, how many each has, and which drive the outputs."""
        inputs = [[(name.encode(), self._sources(bits)) for name, bits in cell.inputs] for cell in self._cells]
        constant = _hash([b"constant"])
        classes = [_hash([cell.label]) for cell in self._cells]

        def driven(ports) -> Iterable[bytes]:
            for name, runs in ports:
                yield name
                for text, number in runs:
                    yield text
                    yield classes[number] if number >= 0 else constant

        count = 0
        while len(set(classes)) != count:
            count = len(set(classes))
            classes = [_hash([cell.label, *driven(ports)]) for cell, ports in zip(self._cells, inputs, strict=True)]
        ends = driven((name.encode(), self._sources(bits)) for name, bits in sorted(self._ends))
        return _hash([*sorted(classes), *ends])


def _hash(parts: Iterable[bytes]) -> bytes:
    result = blake2b(digest_size=16)
    for part in parts:
        result.update(len(part).to_bytes(4, "little") + part)
    return result.digest()

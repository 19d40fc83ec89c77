"""Nets as SystemVerilog expressions of one row, every one of them unsigned and self-determined."""

from collections.abc import Iterator, Sequence

from sim.rtl.row_lanes.netlist import Bit, Memory, Net, Row, UnsuitedRows, number

_INFIX = {"$and": "&", "$or": "|", "$xor": "^", "$xnor": "~^", "$add": "+", "$sub": "-", "$mul": "*"}
_PREFIX = {"$not": "~", "$neg": "-", "$pos": ""}
_COMPARISON = {"$eq": "==", "$ne": "!=", "$lt": "<", "$le": "<=", "$gt": ">", "$ge": ">="}
_SHIFT = {"$shl": "<<", "$sshl": "<<", "$shr": ">>", "$sshr": ">>", "$shift": ">>", "$shiftx": ">>"}
_LOGIC = {"$logic_and": "&&", "$logic_or": "||"}
_REDUCTION = {
    "$reduce_and": "&", "$reduce_or": "|", "$reduce_bool": "|", "$reduce_xor": "^", "$reduce_xnor": "~^", "$logic_not": "~|",
}  # fmt: skip


class Expressions:
    """Writes values of row ``r``.

    Args:
        row: the netlist; nets of kind ``uniform`` are called what they are called in the stack.

    Attributes:
        inlined: expressions of nets that have no array.
    """

    def __init__(self, row: Row):
        self.row = row
        self.inlined: dict[str, str] = {}

    def runs(self, bits: Sequence[Bit]) -> Iterator[tuple[Net | None, int, list[Bit]]]:
        """Maximal pieces, lowest first: bits that follow each other in a net, with net and first position, or constants."""
        position = 0
        while position < len(bits):
            start = position
            net, offset = self.row.driver.get(bits[start], (None, 0))
            while position < len(bits):
                found = self.row.driver.get(bits[position])
                if found != (None if net is None else (net, offset + position - start)):
                    break
                position += 1
            if position == start or (net is None and any(not isinstance(bit, str) for bit in bits[start:position])):
                raise UnsuitedRows("A bit of the row has no driver")
            yield net, offset, list(bits[start:position])

    def value(self, bits: Sequence[Bit], element: str = "r") -> str:
        """The bits of row ``element``."""
        width = len(bits)
        repeated = 1
        while repeated < width and bits[-repeated - 1] == bits[-1]:
            repeated += 1
        if 1 < repeated < width and bits[-1] == "0":
            return f"{width}'({self.value(bits[: width - repeated], element)})"
        if 1 < repeated < width and not isinstance(bits[-1], str):
            return f"$unsigned({width}'($signed({self.value(bits[: width - repeated + 1], element)})))"
        pieces = [self._piece(net, offset, piece, element) for net, offset, piece in self.runs(bits)]
        return pieces[0] if len(pieces) == 1 else f"{{{', '.join(reversed(pieces))}}}"

    def _piece(self, net: Net | None, offset: int, bits: list[Bit], element: str) -> str:
        width = len(bits)
        if net is None:
            return f"{width}'d{sum(1 << index for index, bit in enumerate(bits) if bit == '1')}"
        if net.kind == "uniform":
            return net.name
        if net.name in self.inlined:
            return f"({self.inlined[net.name]})"
        array = f"{net.name}[{element}]"
        if width == net.width:
            return array
        return f"{array}[{offset}]" if width == 1 else f"{array}[{offset + width - 1}:{offset}]"

    def place(self, memory: Memory, address: Sequence[Bit]) -> str:
        """A word of row ``r``."""
        return f"{memory.name}[{{r, {self.value(address)}}}]"

    def _extended(self, bits: Sequence[Bit], signed: bool, width: int) -> str:
        value = self.value(bits)
        if width <= len(bits):
            return value
        return f"$unsigned({width}'($signed({value})))" if signed else f"{width}'({value})"

    def of(self, net: Net) -> str:
        """What computes a net.

        Raises:
            UnsuitedRows: For a cell that is not known here.
        """
        if net.kind == "register":
            return self.value(net.inputs["D"])
        if net.memory is not None:
            return self.place(net.memory, net.inputs["ADDRESS"])
        kind, width, pins = net.cell["type"], net.width, net.inputs
        if kind == "$mux":
            return f"{self.value(pins['S'])} ? {self.value(pins['B'])} : {self.value(pins['A'])}"
        signs = [bool(number(net.cell["parameters"].get(f"{pin}_SIGNED", "0"))) for pin in "AB"]
        if kind in _PREFIX:
            return f"{_PREFIX[kind]}{self._extended(pins['A'][:width], signs[0], width)}"
        if kind in _INFIX:
            left, right = (self._extended(pins[pin][:width], all(signs), width) for pin in "AB")
            return f"{left} {_INFIX[kind]} {right}"
        if kind in _SHIFT and (kind not in ("$shift", "$shiftx") or not signs[1] or pins["B"][-1] == "0"):
            return self._shifted(kind, width, pins["A"], signs[0], self.value(pins["B"]))
        bit = self._one_bit(kind, pins, all(signs))
        return bit if width == 1 else f"{width}'({bit})"

    def _shifted(self, kind: str, width: int, bits: list[Bit], signed: bool, amount: str) -> str:
        inner = max(len(bits), width)
        value = self._extended(bits, signed, inner)
        arithmetic = kind == "$sshr" and signed
        shifted = f"$unsigned($signed({value}) >>> {amount})" if arithmetic else f"{value} {_SHIFT[kind]} {amount}"
        return shifted if inner == width else f"{width}'({shifted})"

    def _one_bit(self, kind: str, pins: dict[str, list[Bit]], signed: bool) -> str:
        if kind in _REDUCTION:
            return f"{_REDUCTION[kind]}{self.value(pins['A'])}"
        if kind in _LOGIC:
            return f"(|{self.value(pins['A'])}) {_LOGIC[kind]} (|{self.value(pins['B'])})"
        if kind not in _COMPARISON:
            raise UnsuitedRows(f"Cells of rows must have a loop form, which {kind} has not")
        longest = max(len(pins["A"]), len(pins["B"]))
        left, right = (self._extended(pins[pin], signed, longest) for pin in "AB")
        if signed:
            left, right = f"$signed({left})", f"$signed({right})"
        return f"{left} {_COMPARISON[kind]} {right}"

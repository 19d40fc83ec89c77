"""FPGA resources: cells counted, parts added up, and held against a device's capacity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hw.build.synthesis import Part, Synthesis
from hw.errors import InputError

LUT_CELLS = {
    **{f"LUT{inputs}": 1 for inputs in range(1, 7)},
    "INV": 1,
    **{"SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1},
    **{"RAM32X1S": 1, "RAM32X1D": 2, "RAM32M": 4, "RAM32M16": 8},
    **{"RAM64X1S": 1, "RAM64X1D": 2, "RAM64M": 4, "RAM64M8": 8},
    **{"RAM128X1S": 2, "RAM128X1D": 4, "RAM256X1S": 4, "RAM256X1D": 8, "RAM512X1S": 8},
}
"""LUT sites that a cell takes: look-up tables, inverters, shift registers and distributed RAM (UG574, table 2-3).

Every table counts as one site, though two small ones fit the two outputs of one LUT6: an upper bound."""
FF_CELLS = ("FDRE", "FDSE", "FDCE", "FDPE", "LDCE", "LDPE")
"""Flip-flops and latches."""
FREE_CELLS = ("CARRY4", "CARRY8", "MUXF7", "MUXF8", "MUXF9", "BUFG", "BUFGCE", "GND", "VCC")
"""Cells of a slice, or of the clock tree, that no limit counts."""


@dataclass(frozen=True)
class Resources:
    """What a part takes of an FPGA; ``bram36`` counts half blocks as 0.5."""

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram36: float = 0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(self.lut + other.lut, self.ff + other.ff, self.dsp + other.dsp, self.bram36 + other.bram36)

    def __mul__(self, count: int) -> "Resources":
        return Resources(self.lut * count, self.ff * count, self.dsp * count, self.bram36 * count)

    @staticmethod
    def of_cells(cells: Mapping[str, int]) -> "Resources":
        """Resources of a netlist.

        Args:
            cells: instances by cell type, of UltraScale+ primitives.

        Raises:
            RuntimeError: for a cell type that the count does not know.
        """
        total = Resources()
        for kind, count in cells.items():
            if kind in LUT_CELLS:
                total += Resources(lut=LUT_CELLS[kind] * count)
            elif kind in FF_CELLS:
                total += Resources(ff=count)
            elif kind == "DSP48E2":
                total += Resources(dsp=count)
            elif kind.startswith(("RAMB36", "RAMB18")):
                total += Resources(bram36=count if kind.startswith("RAMB36") else count / 2)
            elif kind not in FREE_CELLS:
                raise RuntimeError(f"Synthesis left the cell {kind!r}, which is none of UltraScale+'s")
        return total


def composed(parts: Sequence[Part], results: Mapping[str, Synthesis]) -> Resources:
    """Resources of the whole machine: every part's, times its instances."""
    result = Resources()
    for part in parts:
        result += Resources.of_cells(results[part.name].cells) * part.instances
    return result


def check_capacity(needed: Mapping[str, float], capacity: Mapping[str, int], device: str) -> None:
    """Check that a machine fits.

    Args:
        needed: by the machine, by name of the resource; what is not named is not checked.
        capacity: of the device, by the same names.
        device: its name, for the message.

    Raises:
        InputError: naming every resource that does not fit, with need and capacity.
    """
    over = [f"{needed[name]:,} {name} of {limit:,}" for name, limit in capacity.items() if needed.get(name, 0) > limit]
    if over:
        raise InputError(f"The machine must fit {device}, but needs " + " and ".join(over))

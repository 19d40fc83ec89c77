"""All rows of the machine."""

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import signatures
from hw.config import AcceleratorConfig
from hw.row.lane import logit
from hw.row.processing_pair import ProcessingPair
from hw.row.row_slice import RowSlice, pair_module_name, passed_down, row_signature
from hw.verilog import SharedModule, to_rtlil

ROW_MODULE = "row_slice"
"""Name of the shared module of a row."""


def shared_modules(config: AcceleratorConfig, *, dsp48: bool = False) -> list[str]:
    """RTLIL of the modules that a `RowStack` with ``shared`` instantiates, for `hw.verilog.to_verilog`: the row, and its pairs."""
    columns = {min(2, config.cols - first) for first in range(0, config.cols, 2)}
    modules = [to_rtlil(RowSlice(config, shared=True, dsp48=dsp48), ROW_MODULE)]
    return modules + [to_rtlil(ProcessingPair(config, count, dsp48), pair_module_name(count)) for count in sorted(columns)]


class RowStack(wiring.Component):
    """``rows`` row slices, each driven by the one above.

    Args:
        config: the machine.
        shared: rows are instances of one Verilog module, whose text and those below it `shared_modules` emits; else they are
            submodules, as Amaranth's simulator needs them.

    Members:
        commands: `signatures.row_commands`, to row 0.
        writes: `signatures.row_writes`, to row 0.
        columns: `signatures.columns`: weights of row 0, and the words of K and V that leave the bottom row.
        logits: of row 0.
    """

    def __init__(self, config: AcceleratorConfig, *, shared: bool):
        self.config = config
        self.shared = shared
        super().__init__(
            {
                "commands": In(signatures.row_commands(config)),
                "writes": In(signatures.row_writes(config)),
                "columns": In(signatures.columns(config)),
                "logits": Out(logit(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        words = (self.commands, self.writes)
        # what drives the next row, by its port
        above: dict[str, Any] = {name: getattr(part, name) for part in words for name in part.signature.members}
        above["weights"] = self.columns.weights
        names = passed_down(self.config)
        for number in range(self.config.rows):
            row: Any = SharedModule(row_signature(self.config), ROW_MODULE) if self.shared else RowSlice(self.config)
            m.submodules[f"row_{number}"] = row
            m.d.comb += [getattr(row, name).eq(above[name]) for name in names if name in above]
            m.d.comb += [port.eq(word) for port, word in zip(row.weights, above["weights"], strict=True)]
            if number == 0:
                m.d.comb += self.logits.eq(row.logits)
            above = {name: getattr(row, f"{name}_below") for name in (*names, "weights")}
        m.d.comb += self.columns.collected.eq(above["collector"])
        return m

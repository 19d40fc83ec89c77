"""All rows of the machine."""

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import commands
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

    Arguments:
        config: the machine.
        shared: rows are instances of one Verilog module, whose text and those below it `shared_modules` emits; else they are
            submodules, as Amaranth's simulator needs them.

    Members:
        feed, weights, lane, norm, load, table_write, softmax (with ``softmax_pass``): of row 0, as in `RowSlice`.
        collector: words of K and V that leave the bottom row.
        logits: of row 0.
    """

    def __init__(self, config: AcceleratorConfig, *, shared: bool):
        self.config = config
        self.shared = shared
        super().__init__(
            {
                "feed": In(commands.feed_command(config)),
                "weights": In(commands.weight_word(config)).array(config.cols),
                "lane": In(commands.lane_command(config)),
                "norm": In(commands.norm_command(config)),
                "load": In(commands.load_word(config)),
                "table_write": In(commands.table_write(config)),
                **({"softmax": In(commands.softmax_command(config))} if config.softmax_pass else {}),
                "collector": Out(commands.collector_word(config)),
                "logits": Out(logit(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        above: Any = None
        for number in range(self.config.rows):
            row: Any = SharedModule(row_signature(self.config), ROW_MODULE) if self.shared else RowSlice(self.config)
            m.submodules[f"row_{number}"] = row
            source = self if above is None else above
            suffix = "" if above is None else "_below"
            for name in passed_down(self.config):
                if name != "collector" or above is not None:
                    m.d.comb += getattr(row, name).eq(getattr(source, name + suffix))
            for column in range(self.config.cols):
                m.d.comb += row.weights[column].eq(getattr(source, f"weights{suffix}")[column])
            if above is None:
                m.d.comb += self.logits.eq(row.logits)
            above = row
        m.d.comb += self.collector.eq(above.collector_below)
        return m

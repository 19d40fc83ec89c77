"""The wiring of the probe: which signals of the generated Verilog tell what the units do."""

from pathlib import Path

from amaranth.lib import data

from hw import commands
from hw.config import AcceleratorConfig

PROBE = Path(__file__).with_name("probe.sv")
"""The module that watches the RTL."""


def timeline_probe(config: AcceleratorConfig) -> str:
    """SystemVerilog for the inside of ``fast_top``: `PROBE` on the units' signals by their names in the generated Verilog."""

    def bit(name: str, layout: data.StructLayout, field: str) -> str:
        return f"machine.sequencer.row_commands__{name}[{layout[field].offset}]"

    lane, norm = commands.lane_command(config), commands.norm_command(config)
    issue, system = "machine.sequencer.issue", "machine.system"
    signals = {
        "clk": "clk",
        "clear": "machine.image_loop.events__clear",
        "busy": "machine.image_loop.batch__busy",
        "executed": "machine.sequencer.fetch_events__descriptors",
        "skipped": "machine.sequencer.fetch_events__descriptors_skipped",
        "fetch_index": "machine.sequencer.fetch.index",
        "stall": f"{issue}.events__stall",
        "array": f"{issue}.events__array",
        "tile_begins": f"{issue}.events__tiles",
        "index": f"{issue}.index",
        "lane": bit("lane", lane, "valid"),
        "lane_first": bit("lane", lane, "first"),
        "norm": bit("norm", norm, "valid"),
        "norm_first": bit("norm", norm, "capture"),
        "softmax": bit("softmax", commands.softmax_command(config), "valid") if config.softmax_pass else "1'b0",
        "parameters": f"{system}.parameter_credits__loaded",
        "table_done": f"|{system}.table_credits__loaded",
        "gate": f"{issue}.events__gate",
        "record_start": f"{system}.record__start",
        "record_done": f"{system}.record__done",
    } | {name: name for name in ("arvalid", "arready", "arlen", "rvalid", "rready", "rlast")}
    connections = ",\n".join(f"        .{name}({signal})" for name, signal in signals.items())
    return f"\n    timeline_probe #(.PORTS({1 + config.weight_ports})) timeline (\n{connections}\n    );"

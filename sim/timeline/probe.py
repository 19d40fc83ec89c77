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
        return f"machine.sequencer.{name}[{layout[field].offset}]"

    lane, norm = commands.lane_command(config), commands.norm_command(config)
    issue, system = "machine.sequencer.issue", "machine.system"
    signals = {
        "clk": "clk",
        "clear": "machine.clear_counters",
        "busy": "machine.image_loop.busy",
        "executed": "machine.sequencer.executed",
        "skipped": "machine.sequencer.skipped",
        "fetch_index": "machine.sequencer.fetch.index",
        "stall": f"{issue}.stall",
        "array": f"{issue}.array",
        "tile_begins": f"{issue}.tiles",
        "index": f"{issue}.index",
        "lane": bit("lane", lane, "valid"),
        "lane_first": bit("lane", lane, "first"),
        "norm": bit("norm", norm, "valid"),
        "norm_first": bit("norm", norm, "capture"),
        "softmax": bit("softmax", commands.softmax_command(config), "valid") if config.softmax_pass else "1'b0",
        "parameters": f"{system}.parameter_tile_done",
        "table_done": f"|{system}.table_done",
        "gate": f"{issue}.gate_busy",
        "record_start": f"{system}.record_start",
        "record_done": f"{system}.record_done",
    } | {name: name for name in ("arvalid", "arready", "arlen", "rvalid", "rready", "rlast")}
    connections = ",\n".join(f"        .{name}({signal})" for name, signal in signals.items())
    return f"\n    timeline_probe #(.PORTS({1 + config.weight_ports})) timeline (\n{connections}\n    );"

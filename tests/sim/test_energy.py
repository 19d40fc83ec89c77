import pytest

from hw.presets import find_preset
from sim.energy import ENERGY_TABLE, energy_events, energy_mj

COUNTERS = {
    "array_cycles": 1000, "tiles": 100, "norm_cycles": 50, "weight_bytes": 640, "system_bytes_read": 128,
    "system_bytes_written": 64, "cycles": 2000,
}  # fmt: skip


def test_events_follow_from_the_counters():
    events = energy_events(COUNTERS, find_preset("nano"))
    assert events["mac"] == 1000 * 4 * 4 * 4
    assert events["lane"] == 100 * 4 * 4
    assert events["memory_byte"] == 640 + 128 + 64
    assert events["norm"] == 50 * 4
    assert events["on_chip_byte"] == 1000 * 4 * 8 + 832 + 1600 + 3 * 200


def test_classes_sum_to_the_total_within_its_errors():
    report = energy_mj(COUNTERS, find_preset("nano"), 2000)
    assert sum(report.classes_mj.values()) == pytest.approx(report.total_mj)
    assert set(report.classes_mj) == {line.name for line in ENERGY_TABLE}
    assert 0 < report.low_mj < report.total_mj < report.high_mj


def test_static_energy_is_power_times_time():
    static = next(line for line in ENERGY_TABLE if line.name == "static")
    report = energy_mj(COUNTERS, find_preset("nano"), 1_000_000, clock_mhz=100)
    assert report.classes_mj["static"] == pytest.approx(static.value * 10)  # 10 ms
    assert energy_mj(COUNTERS, find_preset("nano"), 1_000_000, clock_mhz=50).total_mj > report.total_mj


def test_macs_cost_what_the_table_says():
    more = COUNTERS | {"array_cycles": 2000}
    change = (
        energy_mj(more, find_preset("nano"), 0).classes_mj["mac"] - energy_mj(COUNTERS, find_preset("nano"), 0).classes_mj["mac"]
    )
    mac = next(line for line in ENERGY_TABLE if line.name == "mac")
    assert change == pytest.approx(1000 * 64 * mac.value / 1e9)


def test_every_line_states_source_and_error():
    for line in ENERGY_TABLE:
        assert line.factor > 1 and line.value > 0
        assert line.source and line.derivation and line.technology and line.unit


import pytest

import benchmarks.energy.activity
import benchmarks.energy.deit_s
from benchmarks.freshness import marked
from benchmarks.pages.energy import ACTIVITY, DEIT_S, PAGE, generate_energy_docs
from hw.errors import InputError
from hw.isa import COUNTERS
from hw.presets import find_preset
from sim.energy.activity import (
    EVENTS,
    MEMORY_BYTE_PJ,
    TOGGLE_PJ,
    activity_energy_mj,
    fit_scales,
    nonnegative_fit,
    parse_modules,
    scaled_units,
)
from sim.energy.estimate import energy_mj
from sim.energy.saif import parse_saif
from sim.energy.table import ENERGY_TABLE, STATIC, energy_line

VERILOG = r"""
module \row.bank (clk, read__addr, write__en);
  wire [7:0] read__data;
  reg [15:0] read_data = 16'h0000;
  reg [15:0] memory [63:0];
  always @(posedge clk) begin
    if (write__en[1])
      memory[write__addr][15:8] <= write__data[15:8];
  end
  reg [15:0] _3_;
  always @(posedge clk) begin
    if (enable) begin
      _3_ <= memory[read__addr];
    end
  end
  always @(posedge clk)
    read_data <= _0_;
endmodule

module accelerator(clk);
  reg signed [3:0] \count[0]  = 4'h0;
  reg busy = 1'h0;
  wire [3:0] alias;
  reg [6:0] table [255:0];
  assign value__0 = table[{ select[0] }];
  \row.bank  bank (
    .clk(clk)
  );
endmodule
"""

SAIF = r"""(SAIFILE (SAIFVERSION "2.0") (TIMESCALE 1ns) (DURATION 20)
 (INSTANCE fast_top (INSTANCE machine
  (NET
   (busy (T0 10) (T1 10) (TZ 0) (TX 0) (TB 0) (TC 3))
   (alias\[0\] (T0 10) (T1 10) (TZ 0) (TX 0) (TB 0) (TC 100))
  )
  (INSTANCE bank
   (NET
    (read_data\[0\] (T0 10) (T1 10) (TZ 0) (TX 0) (TB 0) (TC 5))
    (read_data\[1\] (T0 10) (T1 10) (TZ 0) (TX 0) (TB 0) (TC 2))
    (enable (T0 12) (T1 8) (TZ 0) (TX 0) (TB 0) (TC 2))
    (write__en\[0\] (T0 0) (T1 20) (TZ 0) (TX 0) (TB 0) (TC 0))
    (write__en\[1\] (T0 16) (T1 4) (TZ 0) (TX 0) (TB 0) (TC 2))
   )
  )
 ))
)
"""


def test_registers_and_ports_of_verilog():
    modules = parse_modules(VERILOG)
    bank, top = modules[r"\row.bank"], modules["accelerator"]
    assert bank.registers == {"read_data": 16}
    assert bank.reads == [(("enable", 0), 16)] and bank.writes == [(("write__en", 1), 8)]
    assert top.registers == {"count[0]": 4, "busy": 1}
    assert top.lookups == ["value__0"] and top.instances == {"bank": r"\row.bank"}


def test_energy_of_toggles_and_accesses(tmp_path):
    (tmp_path / "machine.v").write_text(VERILOG)
    energy = activity_energy_mj(parse_saif(SAIF), tmp_path / "machine.v")
    assert list(energy) == list(EVENTS)
    assert energy["control"] == pytest.approx(3 * TOGGLE_PJ["logic"] / 1e9)  # busy, not its alias
    assert energy["feed"] == pytest.approx(7 * TOGGLE_PJ["logic"] / 1e9)
    # 4 of 10 cycles read a word of 2 bytes, 2 write one byte
    assert energy["activations"] == pytest.approx((4 * 2 + 2 * 1) * MEMORY_BYTE_PJ / 1e9)
    assert energy["array"] == 0


def test_activity_of_something_else_is_refused(tmp_path):
    (tmp_path / "machine.v").write_text(VERILOG)
    with pytest.raises(InputError, match="must hold fast_top/machine"):
        activity_energy_mj(parse_saif(SAIF.replace("machine", "other")), tmp_path / "machine.v")
    with pytest.raises(InputError, match="time unit must be 1ps or 1ns, not '10us'"):
        activity_energy_mj(parse_saif(SAIF.replace("1ns", "10us")), tmp_path / "machine.v")


def test_fits_are_not_negative(rng):
    columns = rng.random((20, 2)) + 0.1
    assert nonnegative_fit(columns, columns @ [2.0, 3.0]) == pytest.approx([2, 3])
    fitted = nonnegative_fit(columns, columns @ [2.0, -1.0])
    assert fitted[1] == 0 and fitted[0] > 0
    assert nonnegative_fit(columns, -columns[:, 0]).tolist() == [0, 0]


def test_factors_bring_events_to_activity(rng):
    events = [
        {line.name: float(value) for line, value in zip(ENERGY_TABLE, rng.random(len(ENERGY_TABLE)), strict=True)} for _ in range(6)
    ]
    groups = [group for groups in EVENTS.values() for group in groups]
    true = {name: 1.0 + number for number, group in enumerate(groups) for name in group}
    scales = fit_scales(events, [scaled_units(run, true) for run in events])
    assert scales == pytest.approx(true)


def test_every_class_that_switches_in_the_machine_has_a_unit():
    known = [name for groups in EVENTS.values() for group in groups for name in group]
    assert sorted(known) == sorted({line.name for line in ENERGY_TABLE} - {"memory", *STATIC})


@pytest.fixture(scope="module")
def results():
    return ACTIVITY.load(), DEIT_S.load()


def test_the_page_is_current(results):
    assert marked(PAGE.read_text()) == generate_energy_docs(*results), "run python -m benchmarks.pages.energy"
    for line in ENERGY_TABLE:
        assert f"| {line.name} | {line.value:g} " in PAGE.read_text()


def test_recorded_events_are_of_this_table(results):
    """What the benchmarks recorded follows from their counters with the values that the table has now."""
    activity, deit_s = results
    fitted, validated = activity["fitted"], activity["validated"]
    recorded = [
        (find_preset(activity["base"]).with_fields(activity["machines"][run["machine"]]), run) for run in fitted + validated
    ]
    for config, run in [*recorded, (find_preset(deit_s["preset"]), deit_s)]:
        counters = dict.fromkeys((name for name, _ in COUNTERS), 0) | run["counters"]
        report = energy_mj(counters, config, counters["cycles"], dsp48="events_mj" not in run)  # the twin was simulated
        assert report.classes_mj == pytest.approx(run.get("events_mj") or run["energy_breakdown_mj"])
    assert all(run["mismatches"] == 0 for run in fitted + validated)
    assert fit_scales([run["events_mj"] for run in fitted], [run["activity_mj"] for run in fitted]) == pytest.approx(
        activity["scales"]
    )


def test_events_agree_with_activity_on_networks_that_no_fit_saw(results):
    activity, _ = results
    validated = activity["validated"]
    seen = {(run["machine"], run["network"]) for run in activity["fitted"]}
    assert len(seen) >= 6 and len(validated) >= 5
    assert not seen & {(run["machine"], run["network"]) for run in validated}
    for run in validated:
        both = [(sum(value for unit, value in run[key].items() if unit != "clock")) for key in ("scaled_mj", "activity_mj")]
        assert run["scaled_mj"] == pytest.approx(scaled_units(run["events_mj"], activity["scales"]))
        assert abs(both[0] / both[1] - 1) <= 0.15


def test_the_two_routes_agree_within_the_lines_errors(results):
    for name, scale in results[0]["scales"].items():
        factor = energy_line(name).factor
        assert 1 / factor <= scale <= factor, name


def test_the_benchmark_of_deit_s_prints_what_it_recorded(results, capsys):
    _, deit_s = results
    benchmarks.energy.deit_s.print_result(deit_s)
    out = capsys.readouterr().out
    power = deit_s["average_power_w"]
    assert f"average power {power['total']:.1f} W, {power['low']:.1f} to {power['high']:.1f}" in out
    assert "published: 10.7 W" in out and "softmax" in out
    assert 0 < power["low"] < power["total"] < power["high"]


def test_the_benchmark_of_activity_prints_what_it_recorded(results, capsys):
    activity, _ = results
    worst = benchmarks.energy.activity.print_result(activity)
    out = capsys.readouterr().out
    assert worst == activity["worst_error"] and f"{worst:.1%}, allowed 15%" in out
    assert all(run["machine"] in out for run in activity["validated"])

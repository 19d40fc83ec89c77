from dataclasses import replace

import numpy as np
import pytest

from hw.isa import COUNTERS
from hw.presets import find_preset
from hw.timing import Timing
from sim.cycle_model import predict
from sim.energy.activity import count_flip_flops, parse_modules
from sim.energy.estimate import ENERGY_TABLE, bounds_mj, energy_by_operation, energy_events, energy_line, energy_matrix, energy_mj
from sim.energy.table import STATIC, flip_flops
from sim.measurement import energy_fields
from sim.program_counts import count_operations, count_program
from sim.rtl.device import accelerator_verilog
from sim.stimulus.workload import prepare_shape

NETWORK = "vit:dim=24,depth=2,heads=3,tokens=11,classes=7"
NANO = find_preset("nano")
COUNTERS_OF_A_RUN = {
    "array_cycles": 1000, "tiles": 100, "norm_cycles": 50, "weight_bytes": 640, "system_bytes_read": 128,
    "system_bytes_written": 64, "cycles": 2000, "operation_context": 30,
}  # fmt: skip


@pytest.fixture(scope="module")
def program():
    return prepare_shape(NETWORK, NANO).program


@pytest.fixture(scope="module")
def counters(program):
    return predict(program).counters


def test_events_follow_from_the_counters():
    timing = Timing(NANO)
    assert timing.drain_latency > timing.chain_latency
    assert energy_events(COUNTERS_OF_A_RUN, NANO) == {
        "mac": 1000 * 64,
        "accumulate": 1000 * 16,
        "activation_read": 2000 * 2 * 4 * 4,
        "feed": 1000 * 4 * 4,
        # 8 words of which element k waits k cycles; accumulators of 27 bits that wait for a quotient
        "delay": 1000 * 8 * (0 + 1 + 2 + 3) + 100 * 16 * (timing.drain_latency - timing.chain_latency) * 27 / 8,
        "exp": 30 * 4 * 4,
        "weight_read": 1000 * 4 * 4,
        "residual": 50 * 4 * 8,
        "lane": 100 * 4 * 4,
        "norm": 50 * 4,
        "dma": 832,
        "control": 2000,
        "clock": 2000 * flip_flops(NANO),
        "memory": 832,
    }
    twin = energy_events(COUNTERS_OF_A_RUN, NANO, dsp48=False)
    assert twin["delay"] - energy_events(COUNTERS_OF_A_RUN, NANO)["delay"] == 1000 * 8 * (4 * 5 - 6)
    with pytest.raises(KeyError, match="tiles"):
        energy_events({name: value for name, value in COUNTERS_OF_A_RUN.items() if name != "tiles"}, NANO)


def test_counted_events_are_the_descriptors(program, counters):
    parts = count_operations(program)
    assert sum(part.array_cycles for part in parts.values()) == counters["array_cycles"]
    assert sum(part.tiles for part in parts.values()) == counters["tiles"]
    assert sum(part.norm_cycles for part in parts.values()) == counters["norm_cycles"]
    moved = counters["weight_bytes"] + counters["system_bytes_read"] + counters["system_bytes_written"]
    assert 0.9 * moved < sum(part.bytes for part in parts.values()) <= moved
    assert parts["context"].exps <= energy_events(counters, NANO)["exp"]
    # 2 encoders, 3 heads, 2 column tiles of 8 channels, 11 tokens in 3 row tiles of 4, 11 keys in 3 words of 4
    assert parts["context"].exps == 2 * 3 * 2 * 3 * 4 * 3 * 4


def test_macs_by_operation_are_the_matrices(program):
    parts = count_operations(program)
    # 2 encoders, 3 heads of 8 channels, 11 tokens of 24 channels, an MLP four times as wide
    assert parts["qkv"].macs == 2 * 11 * 24 * 3 * 24
    assert parts["scores"].macs == parts["context"].macs == 2 * 3 * 11 * 11 * 8
    assert parts["projection"].macs == 2 * 11 * 24 * 24 and parts["mlp"].macs == 2 * 2 * 11 * 24 * 96
    assert parts["norm"].macs == parts["softmax"].macs == 0
    for masks in (None, (1, 1), (0, 0)):
        assert sum(part.macs for part in count_operations(program, masks).values()) == count_program(program, masks).macs


def test_exps_of_a_pass_are_tokens_times_keys():
    config = replace(NANO, exp_units=1)
    program = prepare_shape(NETWORK, config).program
    parts = count_operations(program)
    assert parts["softmax"].exps == 2 * 3 * 11 * 11 and parts["context"].exps == 0
    counters = predict(program).counters
    # The cycles before and after a pass count, too: half as many again with 121 exps a pass.
    assert parts["softmax"].exps < energy_events(counters, config)["exp"] < 1.5 * parts["softmax"].exps


def test_skipped_attentions_count_nothing(program):
    parts = count_operations(program, (0, 0))
    assert parts["qkv"].array_cycles == parts["scores"].tiles == parts["context"].exps == 0
    assert sum(part.array_cycles for part in parts.values()) == count_program(program, (0, 0)).array_cycles


def test_classes_sum_to_the_total_within_its_errors():
    report = energy_mj(COUNTERS_OF_A_RUN, NANO, 2000)
    assert sum(report.classes_mj.values()) == pytest.approx(report.total_mj)
    assert list(report.classes_mj) == [line.name for line in ENERGY_TABLE]
    assert 0 < report.low_mj < report.total_mj < report.high_mj


def test_errors_of_lines_are_independent():
    classes = np.zeros((3, len(ENERGY_TABLE)))
    classes[0, 0], classes[1, 1], classes[2, :2] = 3.0, 4.0, (3.0, 4.0)
    low, high = bounds_mj(classes)
    first, second = ENERGY_TABLE[:2]
    assert low[:2] == pytest.approx([3 / first.factor, 4 / second.factor])
    assert high[:2] == pytest.approx([3 * first.factor, 4 * second.factor])
    assert high[2] == pytest.approx(7 + np.hypot(3 * (first.factor - 1), 4 * (second.factor - 1)))
    assert low[2] == pytest.approx(7 - np.hypot(3 * (1 - 1 / first.factor), 4 * (1 - 1 / second.factor)))


def test_the_matrix_is_the_same_energy_and_linear(counters):
    vector = np.array([counters[name] for name, _ in COUNTERS])
    matrix = energy_matrix(NANO)
    report = energy_mj(counters, NANO, counters["cycles"])
    assert vector @ matrix == pytest.approx(list(report.classes_mj.values()))
    many = np.arange(1 << 16)[:, None] * vector
    assert (many @ matrix).sum(axis=1)[-1] == pytest.approx(65535 * report.total_mj)
    assert bounds_mj(many @ matrix)[1][2] == pytest.approx(2 * report.high_mj)


def test_static_energy_is_power_times_time():
    report = energy_mj(COUNTERS_OF_A_RUN, replace(NANO, clock_mhz=100), 1_000_000)
    for name in STATIC:
        assert report.classes_mj[name] == pytest.approx(energy_line(name).value * 10)  # 10 ms
    assert energy_mj(COUNTERS_OF_A_RUN, replace(NANO, clock_mhz=50), 1_000_000).total_mj > report.total_mj


@pytest.mark.parametrize("masks", [None, (0b01, 0b01), (0, 0)])
def test_operations_sum_to_the_total(program, masks):
    counters = predict(program, path_masks=masks).counters
    report = energy_mj(counters, NANO, counters["cycles"])
    parts = energy_by_operation(report, counters, program, masks)
    assert sum(part.total_mj for part in parts.values()) == pytest.approx(report.total_mj, rel=1e-12)
    for line in ENERGY_TABLE:
        assert sum(part.classes_mj[line.name] for part in parts.values()) == pytest.approx(report.classes_mj[line.name])
    assert all(part.low_mj < part.total_mj < part.high_mj for part in parts.values())
    assert ("softmax" in parts) == (masks != (0, 0))
    if masks == (0, 0):  # descriptors are read before they are dropped
        assert {name for name, value in parts["scores"].classes_mj.items() if value} == {"dma", "memory"}
    if masks is None:
        assert parts["qkv"].classes_mj["mac"] / report.classes_mj["mac"] == pytest.approx(
            count_operations(program)["qkv"].array_cycles / counters["array_cycles"]
        )
        assert parts["softmax"].classes_mj["exp"] == report.classes_mj["exp"] and not parts["softmax"].classes_mj["mac"]


def test_fields_of_the_measurement(program, counters):
    fields = energy_fields(counters, program)
    assert sum(part["total"] for part in fields["energy_operations_mj"].values()) == pytest.approx(fields["energy_mj"])
    milliseconds = counters["cycles"] / 200e3
    assert fields["average_power_w"]["high"] * milliseconds == pytest.approx(fields["energy_high_mj"])


@pytest.mark.parametrize("line", ENERGY_TABLE, ids=lambda line: line.name)
def test_every_line_follows_from_its_arithmetic(line):
    assert line.factor > 1 and line.source and line.derivation and line.technology and line.unit
    assert set(line.arithmetic) <= set("0123456789.+-*/() ")
    assert float(f"{eval(line.arithmetic):.2g}") == line.value


def test_flip_flops_are_those_of_the_verilog():
    for config in (NANO, NANO.with_fields("rows=3,cols=6,pe_depth=8")):
        counted = count_flip_flops(parse_modules(accelerator_verilog(config).read_text()))
        assert flip_flops(config) == pytest.approx(counted, rel=0.05)

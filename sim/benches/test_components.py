"""Single components in Verilator under cocotb: a second opinion beside the Amaranth simulations in tests/hw."""

import json
from collections.abc import Callable

import pytest
from amaranth.lib import wiring

from hw.control.gate import Gate
from hw.memory.burst_reader import BurstReader
from hw.presets import find_preset
from hw.row.divider import NormalizedDivider
from hw.row.processing_pair import ProcessingPair
from hw.row.requantizer import Requantizer
from hw.verilog import to_rtlil, to_verilog
from sim.benches.bench_components import SEEDS
from sim.rtl.bench_runner import run_bench
from sim.rtl.verilate import verilate

CONFIG = find_preset("nano")
COMPONENTS: dict[str, Callable[[], wiring.Component]] = {
    "normalized_divider": NormalizedDivider,
    "requantizer": Requantizer,
    "gate": lambda: Gate(CONFIG),
    "processing_pair": lambda: ProcessingPair(CONFIG, 2),
    "burst_reader": lambda: BurstReader(CONFIG),
}


@pytest.mark.parametrize("name", list(COMPONENTS))
def test_component_equals_its_model(name, tmp_path):
    source = tmp_path / f"{name}.v"
    source.write_text(to_verilog([to_rtlil(COMPONENTS[name](), name)]), encoding="utf-8")
    executable = verilate([source], name, timing=False)
    environment = {"PIVOT_CONFIG": json.dumps(vars(CONFIG))}
    results = run_bench(executable, name, "sim.benches.bench_components", testcase=name, env=environment, cwd=tmp_path)
    assert [result.name for result in results] == [f"sim.benches.bench_components.{name}/seed={seed}" for seed in SEEDS]

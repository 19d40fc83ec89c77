"""The whole machine as the board gets it, with a model in place of every DSP48E2, against the machine that is simulated."""

import re

import pytest

from hw.accelerator import Accelerator
from hw.device import mismatches
from hw.presets import find_preset
from hw.row.dsp48e2 import Dsp48E2Model
from hw.row.processing_pair import ProcessingPair
from hw.row.row_slice import RowSlice, pair_module_name
from hw.row.row_stack import ROW_MODULE
from hw.verilog import to_rtlil, to_verilog
from sim.rtl.device import RtlDevice
from sim.stimulus.workload import prepare


@pytest.mark.slow
@pytest.mark.parametrize("fields", ["pe_depth=8", "cols=5,pe_depth=11", "rows=2,cols=1,pe_depth=20,row_tiles=8,exp_units=1"])
def test_cascades_are_the_twin_in_every_cycle(fields, tmp_path):
    """Answers and all counters, cycles among them, of a Program with every kind of GEMM."""
    config = find_preset("nano").with_fields(fields)

    def with_models(config):
        columns = sorted({min(2, config.cols - first) for first in range(0, config.cols, 2)})
        modules = [
            to_rtlil(Accelerator(config, shared=True, dsp48=True), "accelerator"),
            to_rtlil(RowSlice(config, shared=True, dsp48=True), ROW_MODULE),
            *(to_rtlil(ProcessingPair(config, count, True, link=Dsp48E2Model), pair_module_name(count)) for count in columns),
        ]
        path = tmp_path / "accelerator.v"
        path.write_text(re.sub(r"\b([sm]\d*_axi)__", r"\1_", to_verilog(modules)), encoding="utf-8")
        return path

    workload = prepare("vit:dim=24,depth=2,heads=3,tokens=11,classes=7", config, images=3)
    twin = RtlDevice(config, timeout_s=600).run(workload.program, workload.images)
    cascades = RtlDevice(config, timeout_s=600, machine=with_models).run(workload.program, workload.images)
    assert twin.error == cascades.error == 0
    assert mismatches(twin, cascades) == 0
    assert twin.counters == cascades.counters

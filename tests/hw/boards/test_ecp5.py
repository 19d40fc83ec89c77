"""The way to an ECP5 bitstream: tools, counts, and what becomes of failures; the machine's own is benchmarks/results/ulx3s.json."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from amaranth import Elaboratable, Module, Signal
from amaranth.lib import io
from amaranth.lib.memory import Memory
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from hw.boards import find_board
from hw.boards.drivers.serial import memory_needed
from hw.boards.ecp5 import build_design, netlist_resources, placed_resources, slowest_clock, synthesize
from hw.boards.ulx3s import MEMORY_BYTES
from hw.presets import find_preset
from hw.toolchain import find_ecp5_tool, require_ecp5_tools
from sim.stimulus.workload import prepare
from sw.compiler.memory_map import required_config
from sw.networks.network import parse_network

ROOT = Path(__file__).parents[3]
RESULT = ROOT / "benchmarks" / "results" / "ulx3s.json"


class Multiplier(Elaboratable):
    """A light from a product, a counter and a memory."""

    def elaborate(self, platform):
        m = Module()
        count = Signal(18)
        product = Signal(36)
        m.submodules.memory = memory = Memory(shape=18, depth=1024, init=[])
        write, read = memory.write_port(), memory.read_port()
        m.d.sync += [count.eq(count + 1), product.eq(count * read.data)]
        m.d.comb += [write.en.eq(count[0]), write.addr.eq(count), write.data.eq(count), read.addr.eq(product)]
        m.submodules.led = led = io.Buffer("o", platform.request("led", 0, dir="-"))
        m.d.comb += led.o.eq(product.xor())
        return m


def test_a_design_is_synthesized_and_counted():
    fields, files = build_design(ULX3S_85F_Platform(), Multiplier(), 25, None)
    resources = fields["resources"]
    assert resources["dsp"] == 1 and resources["bram"] == 1
    assert 1 <= fields["logic_levels"] <= 6
    assert resources["ff"] >= 18 and resources["lut"] >= 18
    assert fields["clock_mhz"] == 25 and "fmax_mhz" not in fields and "bitstream" not in fields
    assert b'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ;' in files["constraints.lpf"]


def test_what_yosys_rejects_is_said_in_one_line(tmp_path: Path):
    (tmp_path / "bad.ys").write_text("synth_ecp5 -top missing\n")
    with pytest.raises(RuntimeError, match="Synthesis must end, but Yosys died") as error:
        synthesize(tmp_path, "bad.ys")
    assert "\n" not in str(error.value)


def test_cells_are_counted_as_sites():
    kinds = ["LUT4"] * 3 + ["CCU2C"] * 2 + ["TRELLIS_DPR16X4", "TRELLIS_FF", "DP16KD", "MULT18X18D", "PFUMX"]
    netlist = {"modules": {"pivot": {"cells": {str(number): {"type": kind} for number, kind in enumerate(kinds)}}}}
    assert netlist_resources(netlist) == {"lut": 13, "ff": 1, "dsp": 1, "bram": 1}
    used = {"TRELLIS_COMB": 5, "TRELLIS_FF": 4, "MULT18X18D": 3, "DP16KD": 2}
    report = {
        "utilization": {cell: {"used": count, "available": 9} for cell, count in used.items()},
        "fmax": {"a": {"achieved": 31.5, "constraint": 25.0}, "b": {"achieved": 30.25, "constraint": 25.0}},
    }
    assert placed_resources(report) == {"lut": 5, "ff": 4, "dsp": 3, "bram": 2}
    assert slowest_clock(report) == 30.25


def test_the_machine_holds_the_default_network():
    edge = find_preset("edge")
    for name, least in required_config(parse_network("fmnist_vit_tiny"), edge.rows, edge.cols, edge.pe_depth).items():
        assert getattr(edge, name) >= least, name


@pytest.mark.parametrize("images", [8])
def test_a_network_fits_the_memory_on_the_chip(images: int):
    """The network that docs/boards.md names, compiled, with images and records."""
    network = "vit:dim=48,depth=3,heads=3,tokens=17,classes=10,patch=7,channels=1"
    assert network in (ROOT / "docs" / "boards.md").read_text()
    workload = prepare(network, find_preset("edge"), images=1)
    assert MEMORY_BYTES // 2 < memory_needed(workload.program, images) <= MEMORY_BYTES


def test_the_measured_result_is_the_presets():
    report = json.loads(RESULT.read_text())
    assert report["board"] == "ulx3s" and report["preset"] == "edge"
    preset = asdict(find_preset("edge"))
    changed = [name for name, value in report["config"].items() if preset[name] != value]
    assert not changed, "run `python -m hw.build --board ulx3s --bitstream --json benchmarks/results/ulx3s.json`"
    assert report["capacity"] == find_board("ulx3s").capacity
    assert all(0 < report["resources"][name] <= limit for name, limit in report["capacity"].items())
    assert report["fmax_mhz"] >= report["clock_mhz"] == 25
    assert report["bitstream"] == "pivot.bit"


@pytest.mark.slow
@pytest.mark.skipif(None in (find_ecp5_tool("nextpnr-ecp5"), find_ecp5_tool("ecppack")), reason="no nextpnr-ecp5 and ecppack")
def test_a_small_design_becomes_a_bitstream():
    fields, files = build_design(ULX3S_85F_Platform(), Multiplier(), 25, require_ecp5_tools())
    assert fields["fmax_mhz"] > 25
    assert fields["resources"]["dsp"] == 1 and fields["resources"]["bram"] == 1
    assert files["pivot.bit"][:2] == b"\xff\x00" and b"LFE5U-85F" in files["pivot.bit"][:200]

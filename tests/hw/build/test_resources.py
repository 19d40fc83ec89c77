"""Counting, composing and caching of synthesis results, on parts of known size."""

from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import pytest
from amaranth import Module, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.build.logic_levels import longest_path
from hw.build.resources import Resources, check_capacity, composed
from hw.build.synthesis import Part, Synthesis, machine_parts, synthesize_parts, synthesized, whole_machine
from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.presets import find_preset
from hw.row.processing_pair import ProcessingPair
from hw.row.requantizer import Requantizer
from hw.verilog import to_rtlil


class Counter(wiring.Component):
    """Eight flip-flops behind an adder."""

    step: In(8)
    value: Out(8)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.sync += self.value.eq(self.value + self.step)
        return m


class Bank(wiring.Component):
    """512 words of 64 bits with byte enables: one RAMB36E2."""

    address: In(9)
    enable: In(8)
    word: In(64)
    value: Out(64)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = words = memory.Memory(shape=64, depth=512, init=[])
        read, write = words.read_port(), words.write_port(granularity=8)
        m.d.comb += [write.addr.eq(self.address), write.en.eq(self.enable), write.data.eq(self.word)]
        m.d.comb += [read.addr.eq(self.address), self.value.eq(read.data)]
        return m


class Twice(wiring.Component):
    """Two counters and a product, for black boxes."""

    step: In(8)
    value: Out(signed(27))

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.first, m.submodules.second = first, second = Counter(), Counter()
        product = Signal(signed(27))
        m.d.comb += [first.step.eq(self.step), second.step.eq(first.value)]
        m.d.sync += product.eq(first.value * second.value)
        m.d.comb += self.value.eq(product)
        return m


def part(component: wiring.Component, name: str = "top", **fields: object) -> Part:
    return Part(name, name, (to_rtlil(component, name),), **fields)  # type: ignore[arg-type]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIVOT_CACHE", str(tmp_path))
    return tmp_path / "synthesis"


def test_a_register_and_an_adder():
    result = synthesized(part(Counter()))
    assert Resources.of_cells(result.cells) == Resources(lut=8, ff=8)
    assert result.logic_levels == 2  # table, carry chain


def test_a_memory_with_byte_enables_is_block_ram():
    assert synthesized(part(Bank())).cells["RAMB36E2"] == 1


def test_black_boxes_are_left_out():
    text = to_rtlil(Twice(), "top")
    whole = synthesized(Part("whole", "top", (text,)))
    inside = synthesized(Part("inside", "top.first", (text,)))
    around = synthesized(Part("around", "top", (text,), boxes=("top.first", "top.second")))
    assert Resources.of_cells(inside.cells) == Resources(lut=8, ff=8)
    assert Resources.of_cells(around.cells).dsp == Resources.of_cells(whole.cells).dsp == 1
    assert Resources.of_cells(around.cells) + Resources.of_cells(inside.cells) * 2 == Resources.of_cells(whole.cells)


def test_one_dsp_per_packed_product_and_one_for_requantization():
    config = replace(find_preset("nano"), pe_depth=3)
    assert synthesized(part(ProcessingPair(config, 2, dsp48=True))).cells["DSP48E2"] == 3
    assert synthesized(part(ProcessingPair(config, 1, dsp48=True))).cells["DSP48E2"] == 3
    assert synthesized(part(Requantizer())).cells["DSP48E2"] == 1


def test_a_cascade_takes_little_beside_its_blocks():
    cells = synthesized(part(ProcessingPair(find_preset("zcu102"), 2, dsp48=True))).cells
    needed = Resources.of_cells(cells)
    assert needed.dsp == 8
    assert needed.lut <= 130 and needed.ff <= 380


def test_products_of_a_part_may_be_tables():
    text = to_rtlil(Twice(), "top")
    assert "DSP48E2" not in synthesized(Part("top", "top", (text,), dsp=False)).cells


def test_cells_are_counted_as_sites():
    cells = {"LUT6": 3, "INV": 1, "RAM64M8": 2, "SRL16E": 1, "FDRE": 5, "FDSE": 1, "CARRY4": 9, "RAMB36E2": 2, "RAMB18E2": 1}
    assert Resources.of_cells(cells) == Resources(lut=21, ff=6, bram36=2.5)
    with pytest.raises(RuntimeError, match=r"'\$mul'"):
        Resources.of_cells({"$mul": 1})


def test_parts_are_composed_by_instances():
    parts = [Part("a", "a", (), 3), Part("b", "b", ())]
    results = {"a": Synthesis({"LUT2": 2, "FDRE": 1}, 1, 0.0), "b": Synthesis({"DSP48E2": 1, "LUT1": 1}, 1, 0.0)}
    assert composed(parts, results) == Resources(lut=7, ff=3, dsp=1)


def test_what_does_not_fit_is_named():
    capacity = {"lut": 1000, "ff": 10, "dsp": 3, "bram36": 1}
    check_capacity(asdict(Resources(lut=1000, ff=10, dsp=3, bram36=1)), capacity, "device")
    with pytest.raises(InputError, match=r"must fit device, but needs 1,001 lut of 1,000 and 1\.5 bram36 of 1$"):
        check_capacity(asdict(Resources(lut=1001, bram36=1.5)), capacity, "device")


def test_results_are_cached_until_the_part_changes(cache: Path, monkeypatch):
    counter = part(Counter())
    first = synthesize_parts([counter])
    with monkeypatch.context() as without_synthesis:
        without_synthesis.setattr("hw.processes.worker_pool", None)
        assert synthesize_parts([replace(counter, name="again", instances=5)])["again"] == first["top"]
    next(cache.iterdir()).write_text('{"cells": {"FD')  # as a crash would leave it, were it not written aside
    assert synthesize_parts([counter])["top"].cells == first["top"].cells
    assert part(Bank()).digest != counter.digest
    assert replace(counter, boxes=("x",)).digest != counter.digest


def test_a_part_that_yosys_rejects_is_named(cache: Path):
    with pytest.raises(RuntimeError, match="Yosys died in one of bad"):
        synthesize_parts([Part("bad", "top", ("module \\top\n  nonsense\nend\n",))])
    assert not list(cache.glob("*.json"))


@lru_cache
def digests(config: AcceleratorConfig) -> dict[str, str]:
    return {part.name: part.digest for part in machine_parts(config)}


TINY = replace(find_preset("nano"), rows=3, cols=2, pe_depth=2, weight_words=64)


@pytest.mark.parametrize(
    ("changes", "synthesized"),
    [
        ({"activation_words": 2048, "residual_words": 2048, "kv_words": 2048}, {"row_slice", "weight_side", "sequencer", "system"}),
        ({"rows": 4}, {"row_slice", "sequencer", "system"}),  # a row passes on a blank bit for every row
        ({"cols": 4}, {"row_slice", "weight_side", "sequencer", "system"}),
        ({"weight_words": 32}, {"weight_side", "sequencer", "system"}),
        ({"clock_mhz": 100}, set()),
    ],
)
def test_a_change_of_the_machine_leaves_other_parts_in_the_cache(changes: dict[str, int], synthesized: set[str]):
    before, after = digests(TINY), digests(replace(TINY, **changes))
    assert {name for name in after if after[name] != before[name]} == synthesized


@pytest.mark.slow
def test_parts_add_up_to_a_little_more_than_the_whole(cache: Path):
    parts = machine_parts(TINY)
    total = composed(parts, synthesize_parts(parts))
    whole = Resources.of_cells(synthesized(whole_machine(TINY)).cells)
    assert (total.dsp, total.bram36) == (whole.dsp, whole.bram36)
    assert whole.lut <= total.lut <= 1.15 * whole.lut
    assert whole.ff <= total.ff <= 1.15 * whole.ff


def cell(kind: str, **ports: int) -> dict[str, object]:
    outputs = ("O", "Q", "CO", "DOA", "Z", "COUT", "S0", "DO")
    directions = {name: "output" if name in outputs else "input" for name in ports}
    return {"type": kind, "connections": {name: [bit] for name, bit in ports.items()}, "port_directions": directions}


def test_levels_end_at_registers():
    cells = {
        "a": cell("LUT6", I0=1, O=2),
        "register": cell("FDRE", D=2, Q=3),
        "b": cell("LUT2", I0=3, O=4),
        "carry0": cell("CARRY4", S=4, CO=5),
        "carry1": cell("CARRY4", CI=5, CO=6),
        "mux": cell("MUXF7", I0=6, O=7),
        "c": cell("INV", I=7, O=8),
        "ram": cell("RAM64M8", ADDRA=8, DIA=9, DOA=10),
        "d": cell("LUT1", I0=10, O=9),
    }
    assert longest_path({"cells": cells}) == 5  # b, carry, c, read, d; a write of d into the memory is an end
    del cells["ram"]
    assert longest_path({"cells": cells}) == 3
    assert longest_path({"cells": {}}) == 0
    ecp5 = {
        "lut": cell("LUT4", A=1, Z=2),
        "wide": cell("PFUMX", ALUT=2, Z=3),
        "carry": cell("CCU2C", A0=3, COUT=4),
        "carry_on": cell("CCU2C", CIN=4, S0=5),
        "ram": cell("TRELLIS_DPR16X4", RAD=5, DO=6),
        "written": cell("TRELLIS_DPR16X4", DI=6, DO=7),
    }
    assert longest_path({"cells": ecp5}) == 3


def test_a_loop_is_found():
    cells = {"a": cell("LUT1", I0=1, O=2), "b": cell("LUT1", I0=2, O=1)}
    with pytest.raises(RuntimeError, match="loop through 2 cells"):
        longest_path({"cells": cells})

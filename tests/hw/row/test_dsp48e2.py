"""The cascade of DSP48E2s against the behavioural twin: by simulation of whole pairs, and by proof of one link."""

import re
from itertools import product

import numpy as np
import pytest
from amaranth import Const, Module, Signal, signed, unsigned
from amaranth.hdl import Assert, Assume
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.row.dsp48e2 import PACKED_SHIFT, Dsp48Chain, Dsp48E2Model, chain_fields, chain_shape
from hw.verilog import read_design, run_pass, to_rtlil
from tests.hw.row.row_testing import small_config
from tests.hw.row.test_processing_pair import run_tiles

CORNERS = (-128, -127, -1, 0, 1, 127)


@pytest.mark.parametrize("cols, depth", [(2, 8), (3, 3), (4, 1), (2, 11), (3, 20), (1, 8), (1, 64)])
def test_a_pair_of_cascades_is_its_twin_cycle_for_cycle(cols, depth, rng):
    """Tiles of one to four words, some wide, at the least interval; activation, even and odd weight at every corner at once."""
    config = small_config(cols=cols, pe_depth=depth)
    tiles = []
    for activation, even, odd in product(CORNERS, repeat=3):
        weights = np.full((1, cols, depth), even)
        weights[:, 1::2] = odd
        tiles.append((np.full((1, depth), activation), weights))
    for values in (CORNERS, range(-128, 128)):
        for _ in range(40):
            words = int(rng.integers(1, 5))
            tiles.append((rng.choice(values, (words, depth)), rng.choice(values, (words, cols, depth))))
    wide = set(rng.choice(len(tiles), len(tiles) // 2)) if config.score_columns == 2 else set()
    twin = run_tiles(config, tiles, wide)
    assert run_tiles(config, tiles, wide, dsp48=True, link=Dsp48E2Model) == twin


class Transparent(Dsp48E2Model):
    """The model with all registers bypassed: what it computes, without when."""

    def arguments(self):
        return {name: 0 if name.endswith("REG") else value for name, value in super().arguments().items()}


class Link(wiring.Component):
    """The model adds the packed product to PCIN exactly, and the product's operands and fields are in range: for all int8.

    The multiplier is of the primitive's own widths, 27 by 18 bits: a solver takes it for the model's, and need not unroll both.
    """

    even: In(signed(8))
    odd: In(signed(8))
    activation: In(signed(8))
    pcin: In(signed(48))

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = Transparent(cascaded=True)
        m.submodules.first = first = Transparent(cascaded=False)
        for instance in (link, first):
            m.d.comb += [instance.a.eq(self.odd << PACKED_SHIFT), instance.d.eq(self.even), instance.b.eq(self.activation)]
        high, low, activation = Signal(signed(27)), Signal(signed(27)), Signal(signed(18))
        m.d.comb += [high.eq(self.odd << PACKED_SHIFT), low.eq(self.even), activation.eq(self.activation)]
        packed = (high + low)[:27].as_signed()
        product = packed * activation  # in 45 bits: exact
        field = self.even * self.activation
        m.d.comb += [
            link.pcin.eq(self.pcin),
            Assert(packed == (self.odd << PACKED_SHIFT) + self.even),
            Assert(first.p == product),
            Assume((self.pcin >= -(1 << 46)) & (self.pcin < 1 << 46)),
            Assert(link.p == self.pcin + product),
            Assert((field >= -128 * 127) & (field <= 128 * 128)),
        ]
        return m


class Fields(wiring.Component):
    """A sum of ``links`` packed products, and one more: low and high fields stay apart, and up to 8 of them split exactly.

    ``low`` and ``high`` are the sums of the links before, ``low_product`` and ``high_product`` what the next one adds: by
    distribution its packed product is ``high_product * 2^18 + low_product``.
    """

    links: In(unsigned(3))
    low: In(signed(19))
    high: In(signed(19))
    low_product: In(signed(16))
    high_product: In(signed(16))

    def elaborate(self, platform):
        m = Module()
        least, most = -128 * 127, 128 * 128
        for total in (self.low, self.high):
            m.d.comb += Assume((total >= self.links * least) & (total <= self.links * most))
        for added in (self.low_product, self.high_product):
            m.d.comb += Assume((added >= least) & (added <= most))
        before = (self.high << PACKED_SHIFT) + self.low
        after = before + ((self.high_product << PACKED_SHIFT) + self.low_product)
        next_low, next_high = self.low + self.low_product, self.high + self.high_product
        for total in (next_low, next_high):
            m.d.comb += Assert((total >= (self.links + 1) * least) & (total <= (self.links + 1) * most))
        chain = Signal(chain_shape(2))
        low, high, borrow = chain_fields(chain)
        m.d.comb += [
            chain.eq(after),
            Assert(chain == (next_high << PACKED_SHIFT) + next_low),
            Assert((low == next_low) & (high + borrow == next_high)),
        ]
        return m


@pytest.mark.parametrize("lemma", [Link, Fields])
def test_a_link_is_proven_for_all_values(lemma, tmp_path):
    """A SAT solver finds no counterexample: so, link by link, no sum of 8 products of int8 is split wrongly."""
    design = read_design([to_rtlil(lemma(), "top")])
    for command in ("proc", "flatten", "async2sync", "chformal -lower", "opt", "wreduce", "opt"):
        run_pass(design, command)
    report = tmp_path / "report"
    run_pass(design, f"tee -o {report} sat -prove-asserts -set-assumes top")
    assert "SAT proof finished - no model found: SUCCESS!" in report.read_text()


def test_every_input_of_the_primitive_is_connected():
    """UG579's ports and attributes; an open clock enable would depend on the tool."""
    text = to_rtlil(Dsp48Chain(2, 2), "top")
    assert text.count("cell \\DSP48E2") == 2
    enables = {"A1", "A2", "AD", "ALUMODE", "B1", "B2", "C", "CARRYIN", "CTRL", "D", "INMODE", "M", "P"}
    resets = {"A", "ALLCARRYIN", "ALUMODE", "B", "C", "CTRL", "D", "INMODE", "M", "P"}
    inputs = {"A", "ACIN", "ALUMODE", "B", "BCIN", "C", "CARRYCASCIN", "CARRYIN", "CARRYINSEL", "CLK", "D", "INMODE"}
    inputs |= {"MULTSIGNIN", "OPMODE", "PCIN"} | {f"CE{name}" for name in enables} | {f"RST{name}" for name in resets}
    for cell in text.split("cell \\DSP48E2")[1:]:
        assert set(re.findall(r"connect \\(\w+) ", cell.split("  end")[0])) == inputs | {"P", "PCOUT"}


@pytest.mark.parametrize("name, value", [("p_AMULTSEL", "A"), ("p_PREADDINSEL", "B"), ("i_INMODE", Const(0b00101, 5))])
def test_the_model_rejects_other_functions(name, value):
    class Other(Dsp48E2Model):
        def arguments(self):
            return {**super().arguments(), name: value}

    with pytest.raises(ValueError, match=f"{name[2:]} must be .* in the model of DSP48E2, not"):
        to_rtlil(Other(cascaded=True), "top")

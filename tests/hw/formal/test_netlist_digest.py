import pytest
from amaranth.back import rtlil
from amaranth.hdl import Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.formal.netlist_digest import netlist_digest
from hw.verilog import to_rtlil, to_verilog


class Averager(wiring.Component):
    """Mean of an input and the one before, from a table, in a part of its own; with a defect where one is named."""

    value: In(8)
    enable: In(1)
    mean: Out(9)

    def __init__(self, defect="", *, names=("before", "part", "words")):
        self.defect, self.names = defect, names
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        before, part, words = self.names
        last = Signal(8, name=before, init=3 if self.defect == "init" else 2)
        contents = [5, 6, 7, 9 if self.defect == "memory" else 8]
        m.submodules[part] = inner = Module()
        inner.submodules[words] = table = Memory(shape=8, depth=4, init=contents)
        port = table.read_port()
        difference = Signal(8, name=f"{before}_difference")
        operands = (self.value, last) if self.defect == "operands" else (last, self.value)
        m.d.comb += [difference.eq(operands[0] - operands[1]), port.addr.eq(difference)]
        with m.If(~self.enable if self.defect == "condition" else self.enable):
            m.d.sync += last.eq(self.value)
        m.d.sync += self.mean.eq(port.data + (last[1:] if self.defect == "bits" else last[:7]))
        return m


def digest(*arguments, **names):
    return netlist_digest(to_verilog([to_rtlil(Averager(*arguments, **names), "averager")]), "averager")


def test_names_do_not_count():
    assert digest() == digest(names=("zebra", "anything", "entries"))


@pytest.mark.parametrize("defect", ["init", "memory", "operands", "condition", "bits"])
def test_a_change_counts(defect):
    assert digest() != digest(defect)


WRAPPED = """
module inner(input clk, input [3:0] a, output reg [3:0] b);
  always @(posedge clk) b <= a;
endmodule
module top(input clk, input [3:0] x, output [3:0] y, output [3:0] z);
  inner first(.clk(clk), .a(x), .b(y));
  {second}
endmodule
"""


def test_a_module_of_one_instance_is_as_good_as_its_contents():
    plain = "module top(input k, input [3:0] x, output [3:0] o); reg [3:0] q; assign o = q; always @(posedge k) q <= x; endmodule"
    wrapped = plain.replace("top", "part") + " module top(input k, input [3:0] x, output [3:0] o); part p(k, x, o); endmodule"
    assert netlist_digest(plain, "top") == netlist_digest(wrapped, "top")
    renamed = plain.replace("[3:0] x", "[3:0] z").replace("<= x", "<= z")
    assert netlist_digest(plain, "top") != netlist_digest(renamed, "top")  # names of the top's ports count


def test_modules_of_several_instances_are_compared_once():
    def wired(a):
        return WRAPPED.replace("{second}", f"inner second(.clk(clk), .a({a}), .b(z));")

    text = wired("y")
    assert netlist_digest(text, "top") == netlist_digest(text.replace("second", "other").replace("inner", "delay"), "top")
    assert len({netlist_digest(changed, "top") for changed in (text, wired("x"), text.replace("b <= a", "b <= ~a"))}) == 3


def test_cells_without_a_module_must_be_known():
    def text(kind):
        m, value, product = Module(), Signal(8, name="value"), Signal(48, name="product")
        m.submodules.cell = Instance(kind, i_A=value, o_P=product)
        return to_verilog([rtlil.convert(m, name="top", ports=[value, product], emit_src=False)])

    assert len(netlist_digest(text("DSP48E2"), "top")) == 32
    with pytest.raises(ValueError, match="a cell without a module must be one of DSP48E2, not UNKNOWN"):
        netlist_digest(text("UNKNOWN"), "top")

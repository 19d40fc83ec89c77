import pytest

from sim.rtl.row_lanes import UnsuitedRows, with_row_lanes

ROW = """
module row_slice(clk, d, q);
  input clk;
  input [7:0] d;
  output [7:0] q;
  reg [7:0] q;
  {body}
endmodule
"""
STACK = """
module stack(clk, d, q);
  input clk;
  input [7:0] d;
  output [7:0] q;
  wire [7:0] middle;
  row_slice row_0 (
    .clk(clk),
    .d({first}),
    .q(middle)
  );
  row_slice row_1 (
    .clk(clk),
    .d(middle),
    .q(q)
  );
endmodule
"""
REGISTER = "always @(posedge clk) q <= d + 8'd1;"


def text(body=REGISTER, first="d"):
    return (ROW.format(body=body) + STACK.format(first=first)).lstrip()


def test_rows_become_one_module_without_instances():
    result = with_row_lanes("module other(a);\n  input a;\nendmodule\n" + text())
    assert "module other" in result and "module \\stack " in result
    assert "row_slice" not in result
    assert "for (r = 0; r < 16; r = r + 1)" in result


@pytest.mark.parametrize(
    "verilog, message",
    [
        ("module other(a);\n  input a;\nendmodule\n", "must be in one module, not in 0"),
        (text(body="always @* q = d + 8'd1;"), "output q must come from registers"),
        (text(body="always @(negedge clk) q <= d;"), "must follow the rising edge of clk"),
        (text(body="always @(posedge clk) q <= d / 8'd3;"), r"which \$div has not"),
        (text(first="q"), "must form one chain"),
        (text(first="{middle[7:1], d[0]}"), "must form one chain"),
        (text().replace(".d(middle)", ".d(~middle)"), "instances of row_slice alone"),
    ],
)
def test_other_designs_are_refused(verilog, message):
    with pytest.raises(UnsuitedRows, match=message):
        with_row_lanes(verilog)

"""The rows as loops over arrays do in every cycle what the generated rows do."""

import re
from dataclasses import replace

import pytest

from hw.presets import find_preset
from sim.rtl.bench_runner import run_bench
from sim.rtl.device import accelerator_verilog
from sim.rtl.row_lanes import with_row_lanes
from sim.rtl.row_lanes.netlist import modules_below, split_modules
from sim.rtl.verilate import verilate

CYCLES = 20_000
LEAST_CHANGES = 2_000

OPERATIONS = """
module row_slice(clk, rst, a, b, s, a_below, b_below, s_below, wide, wide_below);
  input clk, rst;
  input [16:0] a; input [6:0] b; input [3:0] s; input [129:0] wide;
  output [16:0] a_below; output [6:0] b_below; output [3:0] s_below; output [129:0] wide_below;
  reg [16:0] a_below; reg [6:0] b_below; reg [3:0] s_below = 4'd9; reg [129:0] wide_below;
  reg [69:0] memory [0:11];
  reg [16:0] p = 17'd5, q = 17'd77;
  wire [3:0] place = s < 4'd12 ? s : 4'd3;
  wire [69:0] word = memory[place];
  wire signed [16:0] sa = a;
  wire signed [6:0] sb = b;
  wire [23:0] product = sa * sb;
  always @(posedge clk) begin
    if (s[0]) memory[place][34:0] <= {a, product[17:0]};
    if (b[1]) memory[place][69:35] <= wide[104:70] ^ {35{b[2]}};
    p <= q + 1; q <= rst ? 17'd0 : p ^ a;
    case (s)
      0: a_below <= sa >>> b[4:0];
      1: a_below <= a << b[3:0];
      2: a_below <= {a > b, sa < sb, a >= b, sa <= sb, a == b, a != b, &a, |b, ^a, ~^b, !b, a && b, a || s};
      3: a_below <= -sa + sb;
      4: a_below <= ~(a & b) | s;
      5: a_below <= product[23:7];
      6: a_below <= wide[b +: 17];
      7: a_below <= word[50:34];
      8: a_below <= a >> s;
      default: a_below <= p + word[16:0] - sb;
    endcase
    b_below <= rst ? 0 : b - s * 3;
    s_below <= {s[2:0], s[3]} + b[6];
    wide_below <= s[3] ? {wide[0], wide[129:1]} : {word[69:10], wide[69:0]};
  end
endmodule
"""  # every kind of cell, memories and registers wider than a word, two registers that swap


def operations_verilog(rows):
    """Rows of `OPERATIONS` in a module ``stack``."""
    ports = {"a": 17, "b": 7, "s": 4, "wide": 130}
    lines = [f"module stack(clk, rst, {', '.join(ports)}, {', '.join(f'{name}_out' for name in ports)});", "  input clk, rst;"]
    for name, width in ports.items():
        lines += [f"  input [{width - 1}:0] {name};", f"  output [{width - 1}:0] {name}_out;"]
        lines += [f"  wire [{width - 1}:0] {name}_{row};" for row in range(rows - 1)]
    for row in range(rows):
        pins = [".clk(clk)", ".rst(rst)"]
        for name in ports:
            below = f"{name}_out" if row == rows - 1 else f"{name}_{row}"
            pins += [f".{name}({name if row == 0 else f'{name}_{row - 1}'})", f".{name}_below({below})"]
        lines += [f"  row_slice row_{row} (", ",\n".join(f"    {pin}" for pin in pins), "  );"]
    return "\n".join([OPERATIONS.lstrip(), *lines, "endmodule\n"])


def comparison(verilog):
    """Verilog of both forms of the stack, and of a top that feeds them random values."""
    modules = split_modules(verilog)
    (name,) = (name for name, text in modules.items() if re.search(r"^  row_slice ", text, re.M))
    plain = [modules[below] for below in modules_below(modules, name)]
    lanes = split_modules(with_row_lanes(verilog))[name].replace(f"module \\{name} ", "module lanes ")
    header = lanes[: lanes.index(");")].partition("(")[2]
    ports = re.findall(r"(input|output reg) (\[(\d+):0\] )?(\S+?)(?:,|$)", header)
    widths = {port: int(high or 0) + 1 for _, _, high, port in ports}
    outputs = [port for kind, _, _, port in ports if kind != "input"]
    inputs = [port for kind, _, _, port in ports if kind == "input" and port not in ("clk", "rst")]
    declarations = [f"  reg [{widths[port] - 1}:0] \\{port} ;" for port in inputs]
    declarations += [f"  wire [{widths[port] - 1}:0] \\{port}_{form} ;" for port in outputs for form in "ab"]
    pins = {form: [f".\\{port} (\\{port} )" for port in inputs] for form in "ab"}
    for form in "ab":
        pins[form] += [f".\\{port} (\\{port}_{form} )" for port in outputs]
    draws = [f"    \\{port} = {{{', '.join(['$urandom'] * -(-widths[port] // 32))}}};" for port in inputs]
    a, b = ("{" + ", ".join(f"\\{port}_{form} " for port in outputs) + "}" for form in "ab")
    total = sum(widths[port] for port in outputs)
    top = f"""
module comparison(output reg [31:0] differences, output reg [31:0] changes, output reg done);
  reg clk = 0, rst = 1;
  reg [{total - 1}:0] last;
  integer cycle = 0;
{chr(10).join(declarations)}
  \\{name} plain (.clk(clk), .rst(rst), {", ".join(pins["a"])});
  lanes loops (.clk(clk), .rst(rst), {", ".join(pins["b"])});
  initial begin differences = 0; changes = 0; done = 0; forever #1 clk = ~clk; end
  always @(negedge clk) begin
    rst = cycle < 3 || $urandom % 500 == 0;
{chr(10).join(draws)}
    differences = differences + 32'({a} != {b});
    changes = changes + 32'({a} != last);
    last = {a};
    cycle = cycle + 1;
    done = cycle == {CYCLES};
  end
endmodule
"""
    return "".join([*plain, lanes, top])


def check(verilog, path):
    """Simulate both forms of the rows in ``verilog`` side by side."""
    source = path / "comparison.sv"
    source.write_text(comparison(verilog), encoding="utf-8")
    executable = verilate([source], "comparison", arguments=["--unroll-count", "1"])
    run_bench(
        executable, "comparison", "sim.benches.bench_row_lanes", plusargs=["+verilator+seed+7"],
        env={"PIVOT_LEAST_CHANGES": str(LEAST_CHANGES)},
    )  # fmt: skip


@pytest.mark.parametrize("rows", [2, 17])
def test_every_operation(tmp_path, rows):
    check(operations_verilog(rows), tmp_path)


def test_a_wrong_form_is_found(tmp_path, monkeypatch):
    from sim.rtl.row_lanes import expressions

    monkeypatch.setitem(expressions._INFIX, "$sub", "+")
    with pytest.raises(Exception, match="of the cycles differ"):
        check(operations_verilog(2), tmp_path)


def test_generated_rows(tmp_path):
    """Random tokens, valid or not, through an odd machine; powers of two keep their addresses inside the memories."""
    config = replace(
        find_preset("nano"), rows=5, cols=3, activation_words=64, residual_words=16, kv_words=16, weight_words=16,
    )  # fmt: skip
    check(accelerator_verilog(config).read_text(encoding="utf-8"), tmp_path)

import pytest

from hw.errors import InputError
from sim.energy.saif import parse_saif, read_saif
from sim.rtl.bench_runner import run_bench
from sim.rtl.verilate import verilate

HAND_MADE = r"""// a comment (with) parentheses
(SAIFILE
(SAIFVERSION "2.0")
(DIRECTION "backward")
(TIMESCALE 1ps)
(DURATION 100)
 (INSTANCE top
  (NET
   (clk (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 20))
   (bus\[0\] (T0 90) (T1 10) (TZ 0) (TX 0) (TB 0) (TC 2))
   (bus\[1\] (T0 70) (T1 30) (TZ 0) (TX 0) (TB 0) (TC 3))
  )
  (INSTANCE unit$1
   (NET
    (chain\.valid (T0 100) (T1 0) (TZ 0) (TX 0) (TB 0) (TC 0))
   )
  )
  (INSTANCE empty
  )
 )
)
"""

COUNTER = """
module counter(output logic [3:0] value, output logic half);
    logic clk = 0;
    always #1 clk = ~clk;
    initial value = 0;
    always @(posedge clk) value <= value + 1;
    stage stage(.clk(clk), .in(value[0]), .out(half));
endmodule
module stage(input logic clk, input logic in, output logic out);
    initial out = 0;
    always @(posedge clk) out <= in;
endmodule
"""

BENCH = """
import cocotb
from cocotb.triggers import Timer

@cocotb.test()
async def wait(dut):
    await Timer(128, "ns")
"""


def test_a_hand_made_file():
    saif = parse_saif(HAND_MADE)
    assert (saif.duration, saif.timescale) == (100, "1ps")
    assert [path for path, _ in saif.top.walk()] == [(), ("top",), ("top", "unit$1"), ("top", "empty")]
    top = saif.top.child("top")
    assert top.signals["clk"].toggles == 20 and top.signals["bus"].toggles == 5
    assert top.signals["bus"].changes == {0: 2, 1: 3} and top.signals["bus"].high == {0: 10, 1: 30}
    assert saif.top.child("top", "unit$1").signals["chain.valid"].toggles == 0
    with pytest.raises(KeyError, match="top/none"):
        saif.top.child("top", "none")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(DURATION 100)\n", "", "complete SAIF file with a DURATION"),
        ("(T0 50)", "(T0 x)", "line 9 must be SAIF"),
        (" )\n)\n", "", "complete SAIF file"),
        (" )\n)\n", " )\n)\n)\n", "line 22 must be SAIF"),
        ("  (NET\n   (clk", "   (clk", "net clk must stand in a NET block"),
    ],
)
def test_what_is_no_saif_is_refused(old, new, message):
    with pytest.raises(InputError, match=message):
        parse_saif(HAND_MADE.replace(old, new, 1))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.saif"):
        read_saif(tmp_path / "none.saif")


def test_toggles_of_a_simulation(tmp_path, monkeypatch):
    design = tmp_path / "counter.sv"
    design.write_text(COUNTER)
    (tmp_path / "bench_wait.py").write_text(BENCH)
    monkeypatch.syspath_prepend(str(tmp_path))
    executable = verilate([design], "counter", public_all=True, trace_saif=True)
    run_bench(executable, "counter", "bench_wait", trace_file=tmp_path / "counter.saif")
    saif = read_saif(tmp_path / "counter.saif")
    counter = saif.top.child("counter")
    edges = (counter.signals["clk"].toggles + 1) // 2  # rising ones
    assert 60 <= edges <= 64 and saif.duration == pytest.approx(128_000, abs=2000)
    bits = [counter.signals["value"].changes[bit] for bit in range(4)]
    assert bits == [edges >> bit for bit in range(4)]
    assert saif.top.child("counter", "stage").signals["out"].toggles in (edges - 1, edges)
    assert counter.signals["value"].high[3] == pytest.approx(saif.duration / 2, rel=0.1)

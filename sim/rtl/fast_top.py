"""SystemVerilog tops around the machine, generated because the number of AXI masters is a parameter.

`fast_top` clocks itself and holds the memory, so a bench sleeps from start to interrupt; `axi_top` brings every AXI
port out to a bench.
"""

import re
from pathlib import Path

from hw.config import AcceleratorConfig

MEMORY_MODEL = Path(__file__).parent / "memory_model.sv"
MEMORY_GUARD = Path(__file__).parent / "memory_guard.sv"

CLOCK_PERIOD_NS = 2
"""Period of the simulated clock; it only counts cycles and says nothing of the machine's speed."""

WINDOWS = ("program", "image", "result")
"""What a host gives the machine to read and to write."""

READ_ADDRESS = (("arid", 1), ("araddr", 0), ("arlen", 8), ("arsize", 3), ("arburst", 2), ("arvalid", 1))
READ_DATA = (("rid", 1), ("rdata", -1), ("rresp", 2), ("rlast", 1), ("rvalid", 1))
WRITE_ADDRESS = (("awid", 1), ("awaddr", 0), ("awlen", 8), ("awsize", 3), ("awburst", 2), ("awvalid", 1))
WRITE_DATA = (("wdata", -1), ("wstrb", -2), ("wlast", 1), ("wvalid", 1))
RESPONSE = (("bid", 1), ("bresp", 2), ("bvalid", 1))

READ_PORT = tuple((name, width, "output") for name, width in (*READ_ADDRESS, ("rready", 1))) + tuple(
    (name, width, "input") for name, width in (("arready", 1), *READ_DATA)
)
WRITE_PORT = tuple((name, width, "output") for name, width in (*WRITE_ADDRESS, *WRITE_DATA, ("bready", 1))) + tuple(
    (name, width, "input") for name, width in (("awready", 1), ("wready", 1), *RESPONSE)
)
"""Signals of an AXI4 master as (name, bits, direction at the machine); 0 bits: an address, -1: data, -2: strobes."""

GUARDED = (
    "araddr", "arlen", "arvalid", "arready", "awaddr", "awlen", "awvalid", "awready", "rvalid", "rready", "memory_rresp", "rresp",
    "bvalid", "bready", "memory_bresp", "bresp",
)  # fmt: skip
"""What of the ports `memory_guard.sv` sees."""

CONTROL_PORT = (
    ("awaddr", 12, "input"), ("awvalid", 1, "input"), ("awready", 1, "output"),
    ("wdata", 32, "input"), ("wstrb", 4, "input"), ("wvalid", 1, "input"), ("wready", 1, "output"),
    ("bresp", 2, "output"), ("bvalid", 1, "output"), ("bready", 1, "input"),
    ("araddr", 12, "input"), ("arvalid", 1, "input"), ("arready", 1, "output"),
    ("rdata", 32, "output"), ("rresp", 2, "output"), ("rvalid", 1, "output"), ("rready", 1, "input"),
)  # fmt: skip
"""Signals of the AXI4-Lite slave as (name, bits, direction at the machine)."""


def master_ports(config: AcceleratorConfig, port: int) -> list[tuple[str, int, str]]:
    """Signals of AXI master ``port`` as (name without ``m<port>_axi_``, bits, direction at the machine).

    Args:
        config: The machine.
        port: 0 for the system port, which also writes; 1 to ``weight_ports`` for the weight ports.
    """
    special = {0: config.address_width, -1: 8 * config.axi_bytes, -2: config.axi_bytes}
    signals = READ_PORT + (WRITE_PORT if port == 0 else ())
    return [(name, special.get(width, width), direction) for name, width, direction in signals]


def guard_ports(config: AcceleratorConfig) -> list[tuple[str, int, str]]:
    """Signals of `memory_guard.sv` that a bench drives or reads, as (name, bits, direction)."""
    bases = [(f"{window}_base", config.address_width, "input") for window in WINDOWS]
    sizes = [(f"{window}_size", config.address_width + 1, "input") for window in WINDOWS]
    counts = [(name, 32, "output") for name in ("outside_reads", "outside_writes")]
    return [*bases, *sizes, ("clear", 1, "input"), *counts, *((name, 32, "input") for name in ("read_fault", "write_fault"))]


def _range(bits: int) -> str:
    return "" if bits == 1 else f"[{bits - 1}:0] "


def _control_declarations() -> list[str]:
    return [f"    {direction} logic {_range(bits)}s_axi_{name}" for name, bits, direction in CONTROL_PORT]


def _control_connections() -> list[str]:
    return [f"        .s_axi_{name}(s_axi_{name})" for name, _, _ in CONTROL_PORT]


def fast_top(config: AcceleratorConfig, capacity_bytes: int = 1 << 24, probe: str = "") -> str:
    """SystemVerilog of ``fast_top``: clock, machine and a memory of at most ``capacity_bytes``.

    Ports: ``clk`` (out), ``rst``, ``dump`` (a rising edge writes the results' file), ``interrupt`` (out), ``s_axi_*``, and
    ``guard_*`` for `guard_ports`.

    Args:
        config: The machine.
        capacity_bytes: Most bytes of its memory.
        probe: Further SystemVerilog inside the module, which sees all signals and changes none.
    """
    ports = 1 + config.weight_ports
    wires, machine, memory = [], [], []
    special = {0: "ADDRESS_WIDTH", -1: "BEAT_BYTES*8", -2: "BEAT_BYTES"}
    for name, width, _ in READ_PORT:
        bits = special.get(width, str(width))
        wires.append(f"    logic [{ports - 1}:0]{'' if bits == '1' else f'[{bits}-1:0]'} {name};")
        machine += [f"        .m{port}_axi_{name}({name}[{port}])" for port in range(ports)]
        memory.append(f"        .{name}({name})")
    for name, width, _ in WRITE_PORT:
        bits = special.get(width, str(width))
        wires.append(f"    logic {'' if bits == '1' else f'[{bits}-1:0] '}{name};")
        machine.append(f"        .m0_axi_{name}({name})")
        memory.append(f"        .{name}({name})")
    # The guard passes the responses on.
    wires += [f"    logic [{ports - 1}:0][1:0] memory_rresp;", "    logic [1:0] memory_bresp;"]
    memory = [re.sub(r"\((rresp|bresp)\)", r"(memory_\1)", connection) for connection in memory]
    declarations = ",\n".join(
        ["    output logic clk", "    input  logic rst", "    input  logic dump", "    output logic interrupt"]
        + [f"    {direction} logic {_range(bits)}guard_{name}" for name, bits, direction in guard_ports(config)]
        + _control_declarations()
    )
    guard = [f"        .{name}(guard_{name})" for name, _, _ in guard_ports(config)]
    guard += [f"        .{name}({name})" for name in GUARDED]
    connections = ",\n".join(
        ["        .clk(clk)", "        .rst(rst)", "        .interrupt(interrupt)"] + _control_connections() + machine
    )
    return f"""module fast_top (
{declarations}
);
    localparam int BEAT_BYTES = {config.axi_bytes}, ADDRESS_WIDTH = {config.address_width};
{chr(10).join(wires)}
    initial begin
        clk = 0;
        forever #{CLOCK_PERIOD_NS // 2} clk = ~clk;
    end
    accelerator machine (
{connections}
    );
    memory_model #(.PORTS({ports}), .BEAT_BYTES(BEAT_BYTES), .ADDRESS_WIDTH(ADDRESS_WIDTH),
        .CAPACITY_BYTES({capacity_bytes})) memory (
        .clk(clk),
        .dump(dump),
{("," + chr(10)).join(memory)}
    );
    memory_guard #(.PORTS({ports}), .BEAT_BYTES(BEAT_BYTES), .ADDRESS_WIDTH(ADDRESS_WIDTH)) guard (
        .clk(clk),
{("," + chr(10)).join(guard)}
    );{probe}
endmodule
"""


def axi_top(config: AcceleratorConfig) -> str:
    """SystemVerilog of ``axi_top``: the machine with every AXI port at the top, clocked by the bench.

    Signals that a full AXI port has and the machine does not (locks, caches, protection) are left out.
    """
    declarations = ["    input  logic clk", "    input  logic rst", "    output logic interrupt"]
    declarations += _control_declarations()
    connections = ["        .clk(clk)", "        .rst(rst)", "        .interrupt(interrupt)"] + _control_connections()
    for port in range(1 + config.weight_ports):
        for name, bits, direction in master_ports(config, port):
            declarations.append(f"    {direction} logic {_range(bits)}m{port}_axi_{name}")
            connections.append(f"        .m{port}_axi_{name}(m{port}_axi_{name})")
    return "module axi_top (\n{}\n);\n    accelerator machine (\n{}\n    );\nendmodule\n".format(
        ",\n".join(declarations), ",\n".join(connections)
    )

"""A Verilog wrapper that tells Vivado which ports of the machine are which bus."""

from hw.config import AcceleratorConfig

_INTERRUPT = "xilinx.com:signal:interrupt:1.0 interrupt INTERRUPT"


def _ports(config: AcceleratorConfig) -> list[tuple[str, str, int, str]]:
    """(name, ``input`` or ``output``, bits, bus signal) of every bus port of `hw.accelerator`."""
    from amaranth.lib.wiring import Out

    from hw.control.registers import ADDRESS_WIDTH
    from hw.memory.axi import AXI4LiteSignature, AXI4ReadSignature, AXI4Signature

    memory = (config.address_width, config.axi_bytes)
    buses = {"s_axi": AXI4LiteSignature(ADDRESS_WIDTH).flip(), "m0_axi": AXI4Signature(*memory)}
    buses |= {f"m{port + 1}_axi": AXI4ReadSignature(*memory) for port in range(config.weight_ports)}
    return [
        (f"{bus}_{name}", "output" if member.flow == Out else "input", member.shape, f"{bus} {name.upper()}")
        for bus, signature in buses.items()
        for name, member in signature.members.items()
    ]


def wrapper(config: AcceleratorConfig) -> str:
    """Verilog of ``accelerator_board``: the module ``accelerator`` with the ports' roles as Vivado's attributes."""
    ports = _ports(config)
    buses = ":".join(dict.fromkeys(name.rpartition("_")[0] for name, _, _, _ in ports))
    lines = [
        '    (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 clk CLK" *)',
        f'    (* X_INTERFACE_PARAMETER = "ASSOCIATED_BUSIF {buses}, ASSOCIATED_RESET rst" *)',
        "    input clk,",
        '    (* X_INTERFACE_INFO = "xilinx.com:signal:reset:1.0 rst RST", X_INTERFACE_PARAMETER = "POLARITY ACTIVE_HIGH" *)',
        "    input rst,",
        f'    (* X_INTERFACE_INFO = "{_INTERRUPT}", X_INTERFACE_PARAMETER = "SENSITIVITY LEVEL_HIGH" *)',
        "    output interrupt,",
    ]
    for number, (name, direction, bits, signal) in enumerate(ports):
        width = f" [{bits - 1}:0]" if bits > 1 else ""
        comma = "," if number + 1 < len(ports) else ""
        lines.append(f'    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 {signal}" *) {direction}{width} {name}{comma}')
    names = ["clk", "rst", "interrupt", *(name for name, _, _, _ in ports)]
    connections = ",\n".join(f"        .{name}({name})" for name in names)
    return "\n".join(
        ["module accelerator_board (", *lines, ");", f"    accelerator machine (\n{connections}\n    );", "endmodule", ""]
    )

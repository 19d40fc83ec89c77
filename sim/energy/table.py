"""What an event costs: one line per class of event, each with where its value comes from and how far it may be off.

No board was measured. The lines start from published energies of single operations in an ASIC process and carry them to a
16 nm UltraScale+ device by stated factors; `sim.energy.activity` starts from the measured power of an FPGA's fabric instead, and
`benchmarks/energy/activity.py` compares the two.
"""

from dataclasses import dataclass

from hw.config import AcceleratorConfig

ASIC_SCALE = round(16 / 45 * (0.85 / 0.9) ** 2, 3)
"""45 nm, 0.9 V to 16 nm, 0.85 V: energy goes as capacitance times voltage squared, capacitance as the feature size."""
LOGIC_GAP = 14
"""FPGA over ASIC, dynamic power, of logic in look-up tables (Kuon and Rose)."""
HARD_GAP = 7
"""The same where multipliers and memories are hard blocks and the nets between them are not: half of it."""
RAM_GAP = 2
"""Block RAM over an ASIC's SRAM of its size: two ports, configurable widths; the nets behind it are counted as stages."""
FABRIC_SCALE = round(16 / 150 * (0.85 / 1.5) ** 2, 4)
"""Virtex-II, 150 nm, 1.5 V, to 16 nm, 0.85 V, as `ASIC_SCALE`."""
CLB_PJ = 5.9
"""Virtex-II CLB, 8 look-up tables and flip-flops, in a typical design, per cycle (5.9 uW/MHz)."""
CLB_REGISTERS = 8
CLOCK_SHARE = 0.14
"""Of that power: clocking."""


@dataclass(frozen=True)
class EnergyLine:
    """Energy of one kind of event.

    Attributes:
        name: Class of the report.
        value: Picojoules per event; watts for the lines of `STATIC`.
        unit: What one event is.
        factor: Error as a factor, above 1: the truth is taken to lie between value / factor and value * factor.
        technology: What the figure stands for.
        source: Publications that it starts from.
        arithmetic: From there to the value, an expression of numbers; the value is its two leading digits.
        derivation: What the numbers are.
    """

    name: str
    value: float
    unit: str
    factor: float
    technology: str
    source: str
    arithmetic: str
    derivation: str


_HOROWITZ = "Horowitz, ISSCC 2014 (45 nm, 0.9 V)"
_KUON = "Kuon and Rose, TCAD 26(2), 2007"
_SHANG = "Shang, Kaviani, Bathala, FPGA 2002 (Virtex-II)"
_STAGE = f"8-bit stages in logic (x {ASIC_SCALE} x {LOGIC_GAP}), each as two 8-bit adds of 0.03 pJ: register, and what is before it"
_RAM = f"SRAM of 8 kB 10 pJ per 8 bytes (x {ASIC_SCALE} x {RAM_GAP})"

ENERGY_TABLE: tuple[EnergyLine, ...] = (
    EnergyLine(
        "mac", 0.55, "multiply-accumulate slot of an array cycle, useful or padding", 3.0,
        "half a DSP48E2 and its operands' registers", f"{_HOROWITZ}; {_KUON}", "(0.2 + 0.05) * 0.317 * 7",
        f"int8 multiply 0.2 pJ + 16-bit add 0.05 pJ, 16 nm (x {ASIC_SCALE}), hard blocks (x {HARD_GAP})",
    ),
    EnergyLine(
        "accumulate", 1.9, "dot product added to its accumulator", 3.0, "27-bit adder and registers in logic",
        f"{_HOROWITZ}; {_KUON}", "(0.1 + 5.6 * 0.06) * 0.317 * 14",
        f"32-bit add 0.1 pJ in logic (x {LOGIC_GAP}); {_STAGE}: sum and accumulator, 5.6 bytes",
    ),
    EnergyLine(
        "activation_read", 0.79, "byte that a row's two activation banks read, every cycle: their ports have no enable", 2.5,
        "RAMB36", _HOROWITZ, "10 / 8 * 0.317 * 2", _RAM,
    ),
    EnergyLine(
        "feed", 1.3, "byte fed to a row of the array", 3.0, "registers and multiplexers of the feed", f"{_HOROWITZ}; {_KUON}",
        "5 * 0.06 * 0.317 * 14",
        f"{_STAGE}: 5 stages, both banks' output registers among them; nothing but logic and nets, of which published figures "
        "differ most",
    ),
    EnergyLine(
        "delay", 0.13, "byte that moves one stage on in a delay line", 3.0, "flip-flops or SRL16, no logic between",
        f"{_HOROWITZ}; {_KUON}", "0.03 * 0.317 * 14",
        f"8-bit register as an 8-bit add of 0.03 pJ in logic (x {ASIC_SCALE} x {LOGIC_GAP})",
    ),
    EnergyLine(
        "exp", 0.84, "exp looked up in the feed", 3.0, "256 x 7 bits of LUT RAM, a subtractor, a share of the row sum's adders",
        f"{_HOROWITZ}; {_KUON}", "(0.03 + 0.1 + 0.06) * 0.317 * 14",
        f"8-bit subtraction 0.03 pJ, look-up 0.1 pJ (a 128th of the SRAM's words), 16-bit add 0.06 pJ, in logic (x {LOGIC_GAP})",
    ),
    EnergyLine(
        "weight_read", 1.2, "byte that a column's memory reads", 2.5, "RAMB36 and its output registers", f"{_HOROWITZ}; {_KUON}",
        "10 / 8 * 0.317 * 2 + 1.5 * 0.06 * 0.317 * 14", f"{_RAM}; {_STAGE}: 1.5 stages",
    ),
    EnergyLine(
        "residual", 1.1, "byte that a residual bank reads or writes", 2.5, "RAMB36", f"{_HOROWITZ}; {_KUON}",
        "10 / 8 * 0.317 * 2 + 0.06 * 0.317 * 14", f"{_RAM}; {_STAGE}: 1 stage",
    ),
    EnergyLine(
        "lane", 34.0, "accumulator drained, requantized, post-processed and written", 3.0, "two DSP48E2 and about 600 flip-flops",
        f"{_HOROWITZ}; {_KUON}", "2 * (3.1 + 0.1) * 0.317 * 7 + 70 * 0.06 * 0.317 * 14 + 10 / 8 * 0.317 * 2",
        f"32-bit multiply 3.1 pJ + add 0.1 pJ in hard blocks (x {HARD_GAP}), twice: the second requantizer follows every column; "
        f"{_STAGE}: 70 bytes of registers behind a column in the RTL; one byte written",
    ),
    EnergyLine(
        "norm", 19.0, "element normalised, with its share of the row's statistics", 3.0, "two DSP48E2 and about 400 flip-flops",
        f"{_HOROWITZ}; {_KUON}",
        "3.1 * (27 * 17 + 16 * 16) / 32**2 * 0.317 * 7 + 50 * 0.06 * 0.317 * 14 + 10 / 8 * 0.317 * 2",
        f"27 x 17-bit multiply and 16-bit square as parts of the 32-bit multiply (x {HARD_GAP}); {_STAGE}: 50 bytes of registers "
        "behind an element in the RTL; one byte written",
    ),
    EnergyLine(
        "dma", 3.2, "byte moved on chip from or to an AXI port", 2.5, "AXI, burst FIFO, gearbox, ring write",
        f"{_HOROWITZ}; {_KUON}", "2 * 10 / 8 * 0.317 * 2 + 6 * 0.06 * 0.317 * 14", f"{_RAM}, twice; {_STAGE}: 6 stages",
    ),
    EnergyLine(
        "control", 4.4, "busy cycle", 4.0, "sequencer, counters, tokens", f"{_HOROWITZ}; {_KUON}", "10 * 0.1 * 0.317 * 14",
        f"ten 32-bit adds of 0.1 pJ in logic (x {LOGIC_GAP}); the number is an estimate",
    ),
    EnergyLine(
        "clock", 0.0035, "flip-flop and busy cycle", 3.0, "clock tree and flip-flops' clock pins", _SHANG,
        "5.9 * 0.14 / 8 * 0.0343",
        f"CLB of 8 flip-flops 5.9 uW/MHz, 14 % of it clocking, 150 nm and 1.5 V to 16 nm and 0.85 V (x {FABRIC_SCALE})",
    ),
    EnergyLine(
        "memory", 140.0, "byte moved to or from DDR4", 1.7, "DDR4-2400 with its interface, rows mostly open", _HOROWITZ,
        "17.5 * 8", "DRAM 1.3-2.6 nJ per 64 bits, 20-40 pJ/bit; DDR4 at 1.2 V with open rows 15-20 pJ/bit",
    ),
    EnergyLine(
        "static_logic", 1.0, "second (watts)", 2.0, "XCZU9EG, leakage of the programmable logic, about 40 C", "none", "1.0",
        "an order of magnitude; leakage doubles every 20 to 25 K",
    ),
    EnergyLine(
        "static_system", 2.5, "second (watts)", 1.7, "idle processing system, DDR controller and DRAM background", "none", "2.5",
        "an order of magnitude; drawn whether the machine works or not",
    ),
)  # fmt: skip
"""What an event costs, one line per class of the report."""

STATIC = ("static_logic", "static_system")
"""Lines that cost time, not events."""


def energy_line(name: str) -> EnergyLine:
    """The line of a class.

    Raises:
        KeyError: When there is none.
    """
    return {line.name: line for line in ENERGY_TABLE}[name]


def flip_flops(config: AcceleratorConfig) -> int:
    """Flip-flops of a machine, a fit to the generated Verilog (within 5 %): pairs, rows, column skews, the rest."""
    pair = 24 * config.pe_depth + 210
    row = config.pairs * pair + 2950 + 170 * config.pe_depth
    return config.rows * row + config.cols * 8 * config.pe_depth * (min(config.pe_depth, 8) + 3) + 7900


def events_per_count(config: AcceleratorConfig, *, dsp48: bool = True) -> dict[str, dict[str, float]]:
    """Events of each class that costs events, as a linear form of the machine's counters: {class: {counter: factor}}.

    Per array cycle every row is fed one word and every column's memory reads one; its elements are then delayed for the cascades
    of DSP48E2s. A drained accumulator waits until a division would be done. Exps are looked up as words of scores are fed, which is
    what busy cycles of the operation CONTEXT are for; in some of them, in many of a small network's, the issue waits. With limited
    exp units they have a pass of their own, SOFTMAX, whose cycles all have as many units at work, but for a row tile's end. An
    accumulator is a row and column of a tile. Per element that is normalised the residual bank reads 2 bytes for the pass; before
    it the GEMM that made the element read 2 bytes and wrote them to the bank's two copies.

    Args:
        config: The machine.
        dsp48: Products in DSP48E2s, as on the device; else in their behavioural twin, as in simulation, which delays more.
    """
    from hw.row.element_skew import element_delays  # brings amaranth, which the page of the table does not need
    from hw.timing import Timing

    lanes = config.rows * config.cols
    norms = config.rows * config.norm_elements
    word = config.rows * config.pe_depth
    timing = Timing(config)
    skew = (config.rows + config.cols) * sum(element_delays(config, dsp48=dsp48))
    wait = lanes * (timing.drain_latency - timing.chain_latency) * config.accumulator_width / 8
    moved = dict.fromkeys(("weight_bytes", "system_bytes_read", "system_bytes_written"), 1.0)
    return {
        "mac": {"array_cycles": config.macs_per_cycle},
        "accumulate": {"array_cycles": lanes},
        "activation_read": {"cycles": 2 * word},
        "feed": {"array_cycles": word},
        "delay": {"array_cycles": skew, "tiles": wait},
        "exp": {"operation_softmax": config.exp_units} if config.softmax_pass else {"operation_context": word},
        "weight_read": {"array_cycles": config.cols * config.pe_depth},
        "residual": {"norm_cycles": 8 * norms},
        "lane": {"tiles": lanes},
        "norm": {"norm_cycles": norms},
        "dma": moved,
        "control": {"cycles": 1},
        "clock": {"cycles": flip_flops(config)},
        "memory": moved,
    }

"""Energy of a run: events counted by the machine times energy per event, plus static power times time.

No board was measured. Every line is an estimate for a 16 nm UltraScale+ device with DDR4, from public figures scaled as
its `derivation` says; `factor` is its error: the truth is taken to lie between value / factor and value * factor. Where a
result rests on the difference of two lines, read the errors first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot

from hw.config import AcceleratorConfig

PICOJOULES_PER_MILLIJOULE = 1e9


@dataclass(frozen=True)
class EnergyLine:
    """Energy of one kind of event.

    Attributes:
        name: Class of the report.
        value: Picojoules per event; watts for `static`.
        unit: What one event is.
        factor: Error as a factor, above 1.
        technology: What the figure stands for.
        source: Publications that it starts from.
        derivation: From there to the value.
    """

    name: str
    value: float
    unit: str
    factor: float
    technology: str
    source: str
    derivation: str


_HOROWITZ = "M. Horowitz, Computing's energy problem, ISSCC 2014 (45 nm, 0.9 V)"
_SCALING = "A. Stillmaker and B. Baas, Scaling equations for CMOS, Integration 58, 2017"
_FPGA = "I. Kuon and J. Rose, Measuring the gap between FPGAs and ASICs, TCAD 26(2), 2007"

ENERGY_TABLE: tuple[EnergyLine, ...] = (
    EnergyLine(
        "mac", 1.0, "multiply-accumulate slot of the array, useful or not", 2.0, "DSP48E2, two products each, 16 nm FPGA",
        f"{_HOROWITZ}; {_SCALING}; {_FPGA}",
        "int8 multiply 0.2 pJ + 32-bit add 0.1 pJ, about a third of it at 16 nm, about 10 times for an FPGA (Kuon and Rose: "
        "14 times for logic alone, less with hard blocks)",
    ),
    EnergyLine(
        "on_chip_byte", 1.2, "byte read or written in an activation, weight, K and V or residual memory", 2.5,
        "RAMB36, 16 nm FPGA", f"{_HOROWITZ}; {_SCALING}",
        "8 bytes from an 8 kB SRAM 10 pJ at 45 nm, about a third of it at 16 nm, about 3 times for the routing; estimate",
    ),
    EnergyLine(
        "lane", 12.0, "accumulator requantized and post-processed by a lane", 3.0, "a DSP48E2 and about 300 LUT, 16 nm FPGA",
        f"{_HOROWITZ}; {_SCALING}; {_FPGA}",
        "32-bit multiply 3.1 pJ + shifts and adds 0.5 pJ, a third at 16 nm, 10 times for an FPGA; estimate",
    ),
    EnergyLine(
        "norm", 10.0, "slot of the normalise pass", 3.0, "a DSP48E2 and about 200 LUT, 16 nm FPGA",
        f"{_HOROWITZ}; {_SCALING}; {_FPGA}", "as a lane, with a narrower shift; estimate",
    ),
    EnergyLine(
        "memory_byte", 140.0, "byte moved over an AXI port to or from DDR4", 1.5, "DDR4-2400 with controller and interface",
        f"{_HOROWITZ}: DRAM 1.3-2.6 nJ per 64 bits (20-40 pJ/bit); DDR4 with mostly open rows 15-20 pJ/bit",
        "17.5 pJ/bit",
    ),
    EnergyLine(
        "control_cycle", 150.0, "busy cycle", 3.0, "clock tree, sequencer and DMA of a 16 nm FPGA design",
        "none: an order of magnitude", "0.03 W at 200 MHz; estimate",
    ),
    EnergyLine(
        "static", 3.5, "second (value in watts)", 1.7, "XCZU9EG, programmable logic and idle processing system, about 40 C",
        "none: an order of magnitude; published ZCU102 ViT accelerators report 8-11 W in all (HeatViT, HPCA 2023: 10.7 W)",
        "about 1 W of logic leakage and 2.5 W of processing system and DDR controller; estimate",
    ),
)  # fmt: skip
"""What an event costs, one line per class of the report."""


@dataclass(frozen=True)
class EnergyReport:
    """Energy of a run.

    Attributes:
        total_mj: Millijoules.
        classes_mj: Millijoules by the names of `ENERGY_TABLE`; their sum is the total.
        low_mj: Total with every line's error downwards, errors taken as independent.
        high_mj: The same upwards.
    """

    total_mj: float
    classes_mj: dict[str, float]
    low_mj: float
    high_mj: float


def energy_events(counters: Mapping[str, int], config: AcceleratorConfig) -> dict[str, int]:
    """Events of each class but `static`, from the machine's counters.

    Per array cycle every row reads one activation word and every column one weight word; a weight byte is written to its
    ring once. Per tile every row's lane takes `cols` columns and writes a byte for each. A normalise cycle reads
    ``2 * norm_elements`` residual bytes per row and writes as many activation bytes.
    """
    array, tiles, norm = counters["array_cycles"], counters["tiles"], counters["norm_cycles"]
    lanes = tiles * config.rows * config.cols
    norms = norm * config.rows * config.norm_elements
    moved = counters["weight_bytes"] + counters["system_bytes_read"] + counters["system_bytes_written"]
    return {
        "mac": array * config.macs_per_cycle,
        "on_chip_byte": array * config.depth * (config.rows + config.cols) + moved + lanes + 3 * norms,
        "lane": lanes,
        "norm": norms,
        "memory_byte": moved,
        "control_cycle": counters["cycles"],
    }


def energy_mj(counters: Mapping[str, int], config: AcceleratorConfig, cycles: int, clock_mhz: float | None = None) -> EnergyReport:
    """Energy of a run.

    Args:
        counters: The machine's counters of the run.
        config: The machine.
        cycles: Cycles over which static power is drawn.
        clock_mhz: Clock; the configuration's own when None.

    Raises:
        KeyError: When a counter is missing.
    """
    seconds = cycles / ((clock_mhz or config.clock_mhz) * 1e6)
    events = energy_events(counters, config)
    classes, below, above = {}, 0.0, 0.0
    for line in ENERGY_TABLE:
        if line.name == "static":
            value = line.value * seconds * 1e3
        else:
            value = line.value * events[line.name] / PICOJOULES_PER_MILLIJOULE
        classes[line.name] = value
        below = hypot(below, value * (1 - 1 / line.factor))
        above = hypot(above, value * (line.factor - 1))
    total = sum(classes.values())
    return EnergyReport(total, classes, total - below, total + above)

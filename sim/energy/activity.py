"""Energy from switching activity: toggles of the machine's registers and accesses of its memories, as a simulation recorded them.

It shares no figure for logic with `sim.energy.table`. There an event costs what an ASIC's operations cost, times the gap to an
FPGA; here a toggle of a flip-flop costs what an FPGA's fabric was measured to take per typical toggle: nets, look-up tables and
flip-flops together. The generated Verilog says which signals are flip-flops and where memories are read and written, so that a
net that goes by many names in the hierarchy counts once. DDR4 and static power do not switch in RTL and are not in it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from hw.errors import InputError
from sim.energy.saif import Activity, Instance, Saif
from sim.energy.table import ASIC_SCALE, CLB_PJ, CLB_REGISTERS, CLOCK_SHARE, FABRIC_SCALE
from sim.rtl.fast_top import CLOCK_PERIOD_NS

ROUTING_SHARE, LOGIC_SHARE = 0.60, 0.16
"""Of a Virtex-II CLB's power (Shang, Kaviani, Bathala, FPGA 2002): nets, look-up tables; `CLOCK_SHARE` is the clock's."""
TYPICAL_ACTIVITY = 0.125
"""Toggles of a flip-flop per cycle in a typical design: the default of vendors' estimators."""
SHORT_NET = 0.25
"""A net to the next flip-flop of a delay line, as a part of an average one; estimate."""

_PER_TOGGLE = CLB_PJ / CLB_REGISTERS / TYPICAL_ACTIVITY * FABRIC_SCALE
TOGGLE_PJ = {
    "logic": (ROUTING_SHARE + LOGIC_SHARE) * _PER_TOGGLE,
    "operand": ROUTING_SHARE * _PER_TOGGLE + 0.2 / 8 * ASIC_SCALE,
    "delay": SHORT_NET * ROUTING_SHARE * _PER_TOGGLE,
}
"""Picojoules per toggle of a flip-flop's bit: with the logic behind it; at a multiplier (int8 multiply 0.2 pJ, 8 of whose 16 bits
toggle; Horowitz, ISSCC 2014); within a delay line."""
MEMORY_BYTE_PJ = 10 / 8 * ASIC_SCALE
"""Byte read or written in a memory: SRAM of 8 kB, 10 pJ per 8 bytes (Horowitz)."""
CLOCK_PJ = CLB_PJ * CLOCK_SHARE / CLB_REGISTERS * FABRIC_SCALE
"""Flip-flop and cycle."""

EVENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "array": (("mac",), ("accumulate",)),
    "activations": (("activation_read",),),
    "feed": (("feed", "exp"),),
    "delays": (("delay",),),
    "weights": (("weight_read",),),
    "residual": (("residual",),),
    "lanes": (("lane",),),
    "norm": (("norm",),),
    "dma": (("dma",),),
    "control": (("control",),),
    "clock": (("clock",),),
}
"""Classes of `sim.energy.table.ENERGY_TABLE` that a unit's energy is compared with, those together that have one factor: the exp
table is looked up with every word fed, so activity cannot tell exps from words. DDR4 and static power have no unit."""

_RULES = tuple(
    (re.compile(pattern), unit, kind)
    for pattern, unit, kind in (
        (r"/pair_\d+:(activation_next|weights_below)", "array", "operand"),
        (r"/pair_\d+:", "array", "logic"),
        (r"/(bank|normalized_bank):$", "activations", "logic"),  # the memories; what they read goes on to the feed
        (r"/(bank|normalized_bank):", "feed", "logic"),
        (r"/skew(_\d+)?:|/row_\d+:(column|second)", "delays", "delay"),
        (r"/feed|:feed_below", "feed", "logic"),
        (r"/residual_bank:", "residual", "logic"),
        (r"/normalizer/requantizer0:", "lanes", "logic"),  # requantizes the second of two scores, and follows every column
        (r"/layer_norm|:norm_below", "norm", "logic"),
        (r"/(lane|reciprocal|collector)|:(lane_below|collector)|^/parameters", "lanes", "logic"),
        (r"^/weights(/column_\d+)?:", "weights", "logic"),
        (r"^/(weights|system)|:(load_below|table_write_below)", "dma", "logic"),
        (r"", "control", "logic"),
    )
)


@dataclass
class Module:
    """What switches in a module of generated Verilog.

    Attributes:
        registers: Flip-flops by signal, bits.
        reads: (enable, bits) of each clocked read port of a memory; an enable is (signal, bit) or None where there is none.
        writes: The same of write ports, or parts of one with an enable of its own.
        lookups: Signals that a memory drives without a clock.
        instances: Modules by the names of their instances.
    """

    registers: dict[str, int] = field(default_factory=dict)
    reads: list[tuple[tuple[str, int] | None, int]] = field(default_factory=list)
    writes: list[tuple[tuple[str, int] | None, int]] = field(default_factory=list)
    lookups: list[str] = field(default_factory=list)
    instances: dict[str, str] = field(default_factory=dict)


_MODULE = re.compile(r"^module (\S+?)\s*\(.*?^endmodule", re.DOTALL | re.MULTILINE)
_REGISTER = re.compile(r"^  reg (?:signed )?(?:\[(\d+):0\] )?(\S+?)(?: +(\[\d+:0\]))?(?: += .*)?;$", re.MULTILINE)
_INSTANCE = re.compile(r"^  (\S+) +(\S+) *\($", re.MULTILINE)
_PORT = re.compile(r"(?:if \(([^\n]*?)\s*\)(?: begin)?\n\s+)?(\\\S+|[^\s\[]+) ?(\[[^\n]*\]|) <= ([^\n]*);$", re.MULTILINE)
_LOOKUP = re.compile(r"^  assign (\S+) += (\S+) ?\[", re.MULTILINE)


def _plain(name: str) -> str:
    return name.strip().replace("\\", "")


def _enable(text: str | None) -> tuple[str, int] | None:
    """(signal, bit) of an enable as the Verilog writes it."""
    if text is None:
        return None
    match = re.fullmatch(r"(\S+?) ?(?:\[(\d+)\])?", text.strip())
    if match is None:
        raise InputError(f"A memory's enable must be a signal or one of its bits, not {text}")
    return _plain(match[1]), int(match[2] or 0)


def _module(body: str) -> Module:
    module = Module(instances={_plain(name): kind for kind, name in _INSTANCE.findall(body)})
    memories: dict[str, int] = {}
    for width, name, words in _REGISTER.findall(body):
        bits = int(width or 0) + 1
        if words:
            memories[_plain(name)] = bits
        elif not name.startswith("_"):  # those are read ports, whose data has a name, too
            module.registers[_plain(name)] = bits
    for condition, target, place, value in _PORT.findall(body):
        source = _plain(value.split("[")[0])
        if _plain(target) in memories:
            part = re.search(r"\]\[(\d+):(\d+)\]$", place)
            bits = int(part[1]) - int(part[2]) + 1 if part else memories[_plain(target)]
            module.writes.append((_enable(condition or None), bits))
        elif source in memories:
            module.reads.append((_enable(condition or None), memories[source]))
    module.lookups = [_plain(name) for name, memory in _LOOKUP.findall(body) if _plain(memory) in memories]
    return module


def parse_modules(verilog: str) -> dict[str, Module]:
    """Modules of Verilog as `hw.verilog.to_verilog` writes it, by name."""
    return {match[1]: _module(match[0]) for match in _MODULE.finditer(verilog)}


def count_flip_flops(modules: dict[str, Module], top: str = "accelerator") -> int:
    """Flip-flops of a module and all below it."""
    module = modules[top]
    below = sum(count_flip_flops(modules, kind) for kind in module.instances.values() if kind in modules)
    return sum(module.registers.values()) + below


def _rule(place: str) -> tuple[str, str]:
    """(unit, kind of toggle) of a signal, given as ``/instance/…/instance:signal``."""
    return next((unit, kind) for pattern, unit, kind in _RULES if pattern.search(place))


class _Account:
    """Energy by unit while a hierarchy is walked."""

    def __init__(self, modules: dict[str, Module], saif: Saif, period: int) -> None:
        self.modules, self.period = modules, period
        self.cycles = saif.duration / period
        self.picojoules: dict[str, float] = dict.fromkeys(EVENTS, 0.0)

    def _enabled(self, instance: Instance, enable: tuple[str, int] | None) -> float:
        """Cycles in which a port is enabled."""
        if enable is None:
            return self.cycles
        name, bit = enable
        return instance.signals[name].high[bit] / self.period

    def add(self, instance: Instance, kind: str, path: str) -> None:
        module = self.modules[kind]
        for name in (*module.registers, *module.lookups):
            unit, toggle = _rule(f"{path}:{name}")
            self.picojoules[unit] += instance.signals.get(name, Activity()).toggles * TOGGLE_PJ[toggle]
        self.picojoules["clock"] += sum(module.registers.values()) * self.cycles * CLOCK_PJ
        for enable, bits in (*module.reads, *module.writes):
            unit, _ = _rule(f"{path}:")
            self.picojoules[unit] += self._enabled(instance, enable) * bits / 8 * MEMORY_BYTE_PJ
        for child in instance.children:
            if child.name in module.instances:
                self.add(child, module.instances[child.name], f"{path}/{child.name}")


def activity_energy_mj(saif: Saif, verilog: Path) -> dict[str, float]:
    """Switching energy of a recorded run.

    Args:
        saif: From `sim.rtl.device.RtlDevice` with ``activity``.
        verilog: The simulated machine's (`sim.rtl.device.accelerator_verilog`).

    Returns:
        Millijoules by unit, as `EVENTS` names them, over everything recorded, with the cycles in which the host writes registers.

    Raises:
        InputError: When the activity is not of a machine under ``fast_top``, or the Verilog is of another form.
    """
    picoseconds = {"1ps": 1, "1ns": 1000}.get(saif.timescale.replace(" ", ""))
    if picoseconds is None:
        raise InputError(f"SAIF time unit must be 1ps or 1ns, not {saif.timescale!r}")
    modules = parse_modules(Path(verilog).read_text(encoding="utf-8"))
    try:
        machine = saif.top.child("fast_top", "machine")
    except KeyError:
        raise InputError("SAIF must hold fast_top/machine") from None
    account = _Account(modules, saif, CLOCK_PERIOD_NS * 1000 // picoseconds)
    account.add(machine, "accelerator", "")
    return {unit: account.picojoules[unit] / 1e9 for unit in EVENTS}


def nonnegative_fit(columns: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least squares with factors that are not negative; exact, by trying which of them are 0.

    Args:
        columns: [samples, factors], few factors.
        target: [samples].

    Returns:
        [factors].
    """
    best, least = np.zeros(columns.shape[1]), float(np.square(target).sum())
    for used in product((False, True), repeat=columns.shape[1]):
        if any(used):
            factors = np.zeros(columns.shape[1])
            factors[list(used)] = np.linalg.lstsq(columns[:, used], target, rcond=None)[0]
            error = float(np.square(columns @ factors - target).sum())
            if error < least and (factors >= 0).all():
                best, least = factors, error
    return best


def fit_scales(events: Sequence[dict[str, float]], activity: Sequence[dict[str, float]]) -> dict[str, float]:
    """One factor per class of events that brings them to the activity, unit by unit; every run weighs the same.

    Args:
        events: Energy by class of each run (`sim.energy.estimate.EnergyReport.classes_mj`).
        activity: Energy by unit of each run (`activity_energy_mj`).
    """
    scales: dict[str, float] = {}
    for unit, groups in EVENTS.items():
        measured = np.array([run[unit] for run in activity])
        columns = np.array([[sum(run[name] for name in group) for group in groups] for run in events]) / measured[:, None]
        for group, scale in zip(groups, nonnegative_fit(columns, np.ones(len(measured))), strict=True):
            scales |= dict.fromkeys(group, float(scale))
    return scales


def scaled_units(events: dict[str, float], scales: dict[str, float]) -> dict[str, float]:
    """Energy by unit that a run's classes of events give with their factors."""
    return {unit: sum(scales[name] * events[name] for group in groups for name in group) for unit, groups in EVENTS.items()}

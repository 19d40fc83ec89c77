"""RTLIL to Verilog with Yosys in process, several separately emitted modules linked into one design."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from amaranth import ClockSignal, Instance, ResetSignal
from amaranth.back import rtlil
from amaranth.lib import wiring


class SharedModule(wiring.Component):
    """One instance of a module that is emitted once by `to_rtlil` and instantiated many times: Amaranth itself would emit
    every instance again. Its members are the module's ports, in the ``sync`` domain.

    Arguments:
        signature: of the component behind the module.
        name: of the module.
    """

    def __init__(self, signature: wiring.Signature, name: str):
        self.name = name
        super().__init__(signature)

    def elaborate(self, platform) -> Instance:
        ports = {}
        for path, member, value in self.signature.flatten(self):
            ports[("i_" if member.flow == wiring.In else "o_") + "__".join(map(str, path))] = value
        return Instance(self.name, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)


def to_rtlil(component, name: str) -> str:
    """RTLIL of a component as module ``name``; ports are the flattened signature (``clk``, ``rst`` and one vector per
    member), submodules are called ``name.submodule``."""
    return rtlil.convert(component, name=name, emit_src=False)


def to_verilog(modules: Sequence[str], *, optimize: bool = False) -> str:
    """One Verilog text of RTLIL texts whose instances refer to each other.

    Arguments:
        modules: RTLIL texts; the first one holds the top module.
        optimize: run Yosys's clean-up of processes; smaller text, but slower to simulate.

    Returns:
        Verilog-2001 of all modules.

    Raises:
        RuntimeError: when Yosys rejects a text.
    """
    from pyosys import libyosys

    design = libyosys.Design()
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "design.v"
        commands = []
        for number, text in enumerate(modules):
            source = Path(directory) / f"module_{number}.il"
            source.write_text(text)
            commands.append(f"read_rtlil {source}")
        commands += [
            f"proc {'' if optimize else '-noopt'}",
            "memory_collect",
            f"write_verilog -norename -noattr {result}",
        ]
        for command in commands:
            libyosys.Pass.call(design, f"tee -q {command}")
        return result.read_text()

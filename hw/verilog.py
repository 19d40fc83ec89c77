"""RTLIL to Verilog with Yosys in process, several separately emitted modules linked into one design."""

import gc
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from amaranth import ClockSignal, Instance, ResetSignal
from amaranth.back import rtlil
from amaranth.lib import wiring

from hw.files import plain_directory


class SharedModule(wiring.Component):
    """One instance of a module that is emitted once by `to_rtlil` and instantiated many times: Amaranth itself would emit
    every instance again. Its members are the module's ports, in the ``sync`` domain.

    Args:
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


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection: a netlist is millions of objects that all live until it is written."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def to_rtlil(component, name: str) -> str:
    """RTLIL of a component as module ``name``; ports are the flattened signature (``clk``, ``rst`` and one vector per
    member), submodules are called ``name.submodule``."""
    with _no_collection():
        return rtlil.convert(component, name=name, emit_src=False)


def read_design(modules: Sequence[str]):
    """The Yosys design of RTLIL texts whose instances refer to each other.

    Args:
        modules: RTLIL texts, as `to_rtlil` returns them.

    Returns:
        A ``pyosys.libyosys.Design``, processes not yet converted. Names such as ``word[0]``, which Amaranth gives to elements of
        arrays, are made private: synthesis takes them for bits of ``word``.
    """
    from hw.toolchain import require_pyosys

    design = require_pyosys().Design()
    with yosys_directory() as directory:
        for number, text in enumerate(modules):
            source = directory / f"module_{number}.il"
            source.write_text(text, encoding="utf-8")
            run_pass(design, f"read_rtlil {source}")
    run_pass(design, "rename -hide w:*[*")
    return design


@contextmanager
def yosys_directory() -> Iterator[Path]:
    """A temporary directory by a name that is one word in Yosys's commands and no pattern, whatever ``TMPDIR`` is called."""
    with tempfile.TemporaryDirectory() as name, plain_directory(Path(name)) as directory:
        yield directory


def run_pass(design, command: str) -> None:
    """Run a Yosys command on a design from `read_design` without its log."""
    from hw.toolchain import require_pyosys

    require_pyosys().Pass.call(design, f"tee -q {command}")


def to_verilog(modules: Sequence[str]) -> str:
    """One Verilog text of RTLIL texts whose instances refer to each other.

    Args:
        modules: RTLIL texts, as `to_rtlil` returns them.

    Returns:
        Verilog-2001 of all modules.
    """
    design = read_design(modules)
    # For Verilator: multiplexers of many inputs as trees of two-way ones, and no wires without a reader, simulate 1.3 times as
    # fast as `proc -noopt` alone; `opt_expr`, which a plain `proc` runs too, costs a tenth.
    for command in ("proc -noopt", "pmuxtree", "opt_clean", "memory_collect"):
        run_pass(design, command)
    with yosys_directory() as directory:
        result = directory / "design.v"
        run_pass(design, f"write_verilog -noattr {result}")
        return _fold_initials(result.read_text(encoding="utf-8"))


_INITIAL = re.compile(r"  initial begin\n((?:    (\S+ ?)\[\d+\] = (\d+'[hd]\w+);\n)(?:    \2\[\d+\] = \3;\n)*)  end\n")


def _fold_initials(text: str) -> str:
    """Loops in place of one line per memory word, where all words begin alike: far less to compile per row."""
    numbers = count()

    def fold(match: re.Match) -> str:
        lines, memory, value = match.groups()
        words = lines.count("\n")
        return (
            f"  initial begin : initial_words_{next(numbers)}\n    integer word;\n"
            f"    for (word = 0; word < {words}; word = word + 1) {memory}[word] = {value};\n  end\n"
        )

    return _INITIAL.sub(fold, text)

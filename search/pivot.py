"""The console script ``pivot``: every command as a subcommand. ``pivot measure …`` is ``python -m sim.measure …``, but the working
directory has no say in what is imported, neither here nor in the processes that a command starts.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from hw.errors import InputError, command

COMMANDS: dict[str, tuple[Callable[[], ModuleType], str]] = {
    "search": (lambda: import_module("search.cosearch"), "choose two efforts of a network and the threshold between them"),
    "infer": (lambda: import_module("sw.infer"), "answer pictures with the pair that a search has chosen"),
    "measure": (lambda: import_module("sim.measure"), "run a network on a simulated machine: bits, cycles, delay, energy"),
    "build": (lambda: import_module("hw.build.__main__"), "write Verilog, project and resource report of a machine for a board"),
    "prove": (lambda: import_module("hw.formal.__main__"), "prove properties of the machine's components"),
    "train": (lambda: import_module("sw.train"), "train a network on Fashion-MNIST"),
    "quantization-report": (lambda: import_module("sw.quantization_report"), "find the tensors that int8 costs most"),
    "data": (lambda: import_module("sw.data.__main__"), "show, fetch or embed Fashion-MNIST"),
    "toolchain": (lambda: import_module("hw.toolchain"), "list the tools in use, and name what is missing"),
}
"""What imports a subcommand's module, and the subcommand in one line, by its name."""


def _help() -> str:
    lines = (f"  {name:<21}{what}" for name, (_, what) in COMMANDS.items())
    return "\n".join(("usage: pivot COMMAND [OPTION ...]", "", *lines, "", "pivot COMMAND --help tells of its options."))


@command()
def main(arguments: list[str] | None = None) -> int:
    """``pivot``.

    Returns:
        The subcommand's exit code; 2 for a name that is none of `COMMANDS`.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(f"pivot-codesign {version('pivot-codesign')}")
        return 0
    if name not in COMMANDS:
        from difflib import get_close_matches

        near = get_close_matches(name, COMMANDS)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise InputError(f"Command must be one of {', '.join(COMMANDS)}, not {name!r}{hint}")
    os.environ["PYTHONSAFEPATH"] = "1"  # for the processes that a command starts; this one's path begins with the script's folder
    sys.argv[1:] = rest  # as a command sees it that notes how it was called
    return COMMANDS[name][0]().main(rest)

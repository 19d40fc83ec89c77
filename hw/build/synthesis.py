"""Synthesis of a machine's parts with Yosys, once each, kept in a cache.

A part is one module of the machine with the parts below it left out as black boxes; the whole is the sum of parts times
their instances (`hw.build.resources`). The black boxes keep what a flat synthesis would trim at the edges, such as the bottom row's
unused outputs, so the sum is an upper bound.
"""

import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hw.build.logic_levels import longest_path
from hw.config import AcceleratorConfig
from hw.files import write_json
from hw.progress import stage

RESULT_VERSION = 1
"""Raised when the same RTLIL and script would give another `Synthesis`, so that cached results are not taken."""


@dataclass(frozen=True)
class Part:
    """A module to synthesize.

    Attributes:
        name: what the report calls it.
        top: its module's name.
        modules: RTLIL texts that hold it and what it instantiates.
        instances: how many the machine has.
        boxes: modules inside it that are parts of their own.
        dsp: whether products may take DSP blocks, or only tables.
        tables: modules, as patterns of their names, whose products may not.
    """

    name: str
    top: str
    modules: tuple[str, ...]
    instances: int = 1
    boxes: tuple[str, ...] = ()
    dsp: bool = True
    tables: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Key of the part's synthesis, whatever it is called and however often it occurs."""
        from importlib.metadata import version

        script = _script(self, [], Path("netlist"))
        text = json.dumps([RESULT_VERSION, version("pyosys"), script, *self.modules])
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Synthesis:
    """What synthesis of one part found.

    Attributes:
        cells: instances by type of UltraScale+ primitive, without the black boxes.
        logic_levels: `logic_levels.longest_path` of the part.
        seconds: wall time, of the run that filled the cache.
    """

    cells: dict[str, int]
    logic_levels: int
    seconds: float


def _script(part: Part, sources: Sequence[Path], netlist: Path) -> list[str]:
    """Yosys commands: ``synth_xilinx -family xcup`` of Yosys 0.70 but for `alumacc`.

    It would merge trees of adders into compressors of plain LUTs, 1.3 times the LUTs of a PE pair at the same levels. Without it
    every adder stays a carry chain, in the order that the source gives (docs/decisions/0006-packed-weights-and-adder-trees.md).
    """
    synth = f"synth_xilinx -family xcup -flatten -noiopad -noclkbuf -top {part.top}"
    multipliers = "-D DSP_A_MAXWIDTH=27 -D DSP_B_MAXWIDTH=18 -D DSP_A_MAXWIDTH_PARTIAL=18 -D DSP_A_MINWIDTH=2 -D DSP_B_MINWIDTH=2"
    map_dsp = [
        "memory_dff",
        *(["chtype -set $__soft_mul t:$mul a:in_tables %i"] if part.tables else []),
        f"techmap -map +/mul2dsp.v -map +/xilinx/xcu_dsp_map.v {multipliers} -D DSP_Y_MINWIDTH=9 -D DSP_SIGNEDONLY=1 "
        "-D DSP_NAME=$__MUL27X18",
        "select a:mul2dsp",
        "setattr -unset mul2dsp",
        "opt_expr -fine",
        "wreduce",
        "select -clear",
        "xilinx_dsp -family xcup",
        "chtype -set $mul t:$__soft_mul",
    ]
    return [
        *(f"read_rtlil {source}" for source in sources),
        *(f"blackbox {box}" for box in part.boxes),
        f"hierarchy -top {part.top}",  # drops what only a black box held
        *(f"setattr -set in_tables 1 {module}/t:$mul" for module in part.tables),
        f"{synth} -run begin:map_dsp",
        *(map_dsp if part.dsp else []),
        "techmap -map +/cmp2lut.v -map +/cmp2lcu.v -D LUT_WIDTH=6",
        "share",
        "opt",
        "memory -nomap",
        "opt_clean",
        f"{synth} -run map_memory:",
        f"write_json {netlist}",
    ]


def synthesize(part: Part) -> Synthesis:
    """Synthesize one part for UltraScale+, flat down to its black boxes.

    Raises:
        InputError: when pyosys is missing.
        SystemExit: when Yosys rejects the part: it ends the process.
    """
    from hw.toolchain import require_pyosys
    from hw.verilog import yosys_directory

    yosys = require_pyosys()
    start = time.monotonic()
    design = yosys.Design()
    with yosys_directory() as directory:
        sources = [directory / f"{number}.il" for number in range(len(part.modules))]
        for source, text in zip(sources, part.modules, strict=True):
            source.write_text(text, encoding="utf-8")
        netlist = directory / "netlist.json"
        for command in _script(part, sources, netlist):
            yosys.Pass.call(design, f"tee -q {command}")
        module = json.loads(netlist.read_text(encoding="utf-8"))["modules"][part.top]
    cells = Counter(cell["type"] for cell in module["cells"].values() if cell["type"] not in (*part.boxes, "$scopeinfo"))
    return Synthesis(dict(sorted(cells.items())), longest_path(module), round(time.monotonic() - start, 1))


def synthesized(part: Part) -> Synthesis:
    """What is known of a part, or `synthesize` and keep it; raises as that."""
    stored = _load(_cached(part))
    if stored is None:
        stored = synthesize(part)
        _store(_cached(part), stored)
    return stored


def _cached(part: Part) -> Path:
    from hw.toolchain import cache_root

    return cache_root() / "synthesis" / f"{part.digest}.json"


def _load(path: Path) -> Synthesis | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Synthesis(stored["cells"], stored["logic_levels"], stored["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # missing, or cut short by a crash: synthesized anew


def _store(path: Path, result: Synthesis) -> None:
    write_json(path, vars(result))


def synthesize_parts(parts: Sequence[Part], *, workers: int | None = None) -> dict[str, Synthesis]:
    """Synthesize parts side by side, in one process each; results are kept under the user's cache directory.

    Args:
        parts: what to synthesize; names differ.
        workers: processes at a time; the machine's cores where None.

    Returns:
        Result by part name, in the order of ``parts``.

    Raises:
        RuntimeError: when Yosys rejects a part.
    """
    from concurrent.futures import as_completed
    from concurrent.futures.process import BrokenProcessPool

    from hw.processes import worker_pool

    found: dict[str, Synthesis] = {}
    missing: list[Part] = []
    for part in parts:
        stored = _load(_cached(part))
        if stored is None:
            missing.append(part)
        else:
            found[part.name] = stored
    if missing:
        # the longest first, so that no process is left alone with it at the end; spawned, as Yosys keeps global state
        missing.sort(key=lambda part: -sum(map(len, part.modules)))
        count = min(workers or os.cpu_count() or 1, len(missing))
        with worker_pool(count) as pool, stage("synthesis") as rename:
            futures = {pool.submit(synthesized, part): part for part in missing}
            for future in as_completed(futures):
                part = futures[future]
                try:
                    found[part.name] = future.result()
                except BrokenProcessPool:
                    names = ", ".join(part.name for part in missing if part.name not in found)
                    raise RuntimeError(f"Synthesis must end, but Yosys died in one of {names}") from None
                waiting = ", ".join(part.name for part in missing if part.name not in found)
                rename(f"synthesis, {len(found)} of {len(parts)} parts done: {waiting}")
    return {part.name: found[part.name] for part in parts}


def _modules(text: str) -> dict[str, str]:
    """RTLIL of each module of a text, by name."""
    parts = re.split(r"^((?:attribute .*\n)*module \\(\S+)\n)", text, flags=re.MULTILINE)
    return {name: head + body for head, name, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)}


def _ports(module: str) -> str:
    """A module without what is between its ports."""
    lines = [line for line in module.splitlines() if re.match(r"(attribute|module|end)\b|  wire .*\b(input|output) \d", line)]
    return "\n".join(lines) + "\n"


def _needed(modules: Mapping[str, str], top: str, boxes: Collection[str]) -> str:
    """RTLIL of ``top`` and what it instantiates; of black boxes only the ports.

    So a part's digest stays the same when something else of the machine changes.
    """
    texts: dict[str, str] = {}
    waiting = [top]
    while waiting:
        name = waiting.pop()
        if name in texts:
            continue
        texts[name] = _ports(modules[name]) if name in boxes else modules[name]
        waiting += [kind for kind in re.findall(r"^  cell \\(\S+) ", texts[name], re.MULTILINE) if kind in modules]
    return "".join(texts[name] for name in sorted(texts))


def _emitted_name(modules: Collection[str], name: str) -> str:
    """A module's name in RTLIL, where Amaranth appends a number to a name that it also needs elsewhere."""
    for emitted in modules:
        if re.fullmatch(rf"{re.escape(name)}(\$\d+)?", emitted):
            return emitted
    raise RuntimeError(f"The machine has no module {name!r}")


def _machine_modules(config: AcceleratorConfig) -> dict[str, str]:
    """RTLIL of all modules of `hw.accelerator.Accelerator` by name."""
    from hw.accelerator import Accelerator
    from hw.row.row_stack import shared_modules
    from hw.verilog import to_rtlil

    machine = to_rtlil(Accelerator(config, shared=True, dsp48=True), "accelerator")
    return {name: module for text in (machine, *shared_modules(config, dsp48=True)) for name, module in _modules(text).items()}


def machine_parts(config: AcceleratorConfig) -> list[Part]:
    """The parts of `hw.accelerator.Accelerator`: PE pairs, the rest of a row, the weight side, the sequencer, and all else
    (registers, system port, parameter ring) as ``system``."""
    from hw.accelerator import PRODUCTS_IN_TABLES
    from hw.row.row_slice import pair_module_name
    from hw.row.row_stack import ROW_MODULE

    modules = _machine_modules(config)
    inner = {name: _emitted_name(modules, f"accelerator.{name}") for name in ("rows", "sequencer", "weights")}
    pairs = {pair_module_name(columns): count for columns, count in ((1, config.cols % 2), (2, config.cols // 2)) if count}
    units: list[tuple[str, str, str, int, tuple[str, ...]]] = [
        *((name, name, "rows", config.rows * count, ()) for name, count in pairs.items()),
        ("row_slice", ROW_MODULE, "rows", config.rows, tuple(pairs)),
        ("weight_side", inner["weights"], "weights", 1, ()),
        ("sequencer", inner["sequencer"], "sequencer", 1, ()),
        ("system", "accelerator", "system", 1, tuple(inner.values())),
    ]
    return [
        Part(name, top, (_needed(modules, top, boxes),), count, boxes, unit not in PRODUCTS_IN_TABLES)
        for name, top, unit, count, boxes in units
    ]


def whole_machine(config: AcceleratorConfig) -> Part:
    """`hw.accelerator.Accelerator` as one part, to hold the sum of `machine_parts` against; minutes for a few rows."""
    from hw.accelerator import PRODUCTS_IN_TABLES

    modules = _machine_modules(config)
    tables = tuple(f"accelerator.{unit}*" for unit in PRODUCTS_IN_TABLES)
    return Part("machine", "accelerator", (_needed(modules, "accelerator", ()),), tables=tables)

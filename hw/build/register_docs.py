"""Documentation of registers, counters, descriptors, records and errors, generated from `hw.isa`.

``hw.build`` writes it as ``registers.md``; ``docs/registers.md`` is a copy, and a test holds the two equal.
"""

import ast
import inspect
from enum import IntEnum
from functools import cache
from itertools import pairwise

from hw import isa
from hw.tables import markdown_table

_INTRODUCTION = """\
# Registers, descriptors and records

Generated from `hw/isa.py` by `python -m hw.build`. Everything is little-endian; addresses and sizes are in bytes.
The AXI4-Lite slave has 12 address bits; an unknown offset reads 0 and ignores writes.
"""


@cache
def _syntax() -> ast.Module:
    return ast.parse(inspect.getsource(isa))


def _described(body: list[ast.stmt]) -> dict[str, str]:
    """Names assigned in ``body`` with the string that stands under each, on one line."""
    found = {}
    for statement, below in pairwise(body):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[statement.targets[0].id] = " ".join(below.value.value.split())
    return found


def flag_meanings() -> dict[str, str]:
    """Meaning of every ``FLAG_*`` bit of a descriptor, by name, in order of the bits."""
    return {name: text for name, text in _described(_syntax().body).items() if name.startswith("FLAG_")}


def member_meanings(enumeration: type[IntEnum]) -> dict[str, str]:
    """Meaning of every member of an enumeration of `hw.isa` by name; empty text where its name says it all."""
    classes = [node for node in _syntax().body if isinstance(node, ast.ClassDef) and node.name == enumeration.__name__]
    described = _described(classes[0].body)
    return {member.name: described.get(member.name, "") for member in enumeration}


def _enumeration(enumeration: type[IntEnum]) -> str:
    meanings = member_meanings(enumeration)
    rows: list[tuple[object, ...]] = [(member.value, f"`{member.name}`", meanings[member.name]) for member in enumeration]
    title = (enumeration.__doc__ or "").strip().partition("\n")[0]
    return f"### {enumeration.__name__}\n\n{title}\n\n" + markdown_table(("value", "name", "meaning"), rows)


def _descriptor(opcode: isa.Opcode) -> str:
    rows: list[tuple[object, ...]] = []
    offset = 0
    for name, size, meaning in isa.DESCRIPTOR_FIELDS[opcode]:
        rows.append((offset, size, f"`{name}`", meaning))
        offset += size
    rows.append((offset, isa.DESCRIPTOR_BYTES - offset, "`reserved`", "must be 0"))
    meaning = member_meanings(isa.Opcode)[opcode.name]
    return f"### {opcode.name} ({opcode.value})\n\n{meaning}\n\n" + markdown_table(("offset", "bytes", "field", "meaning"), rows)


def generate_register_docs() -> str:
    """The page as Markdown."""
    registers: list[tuple[object, ...]] = [
        (f"`0x{isa.register_offset(name):03x}`", f"`{name}`", access, meaning) for name, access, meaning in isa.REGISTERS
    ]
    counters: list[tuple[object, ...]] = [
        (f"`0x{isa.register_offset(name):03x}`", f"`{name}`", meaning) for name, meaning in isa.COUNTERS
    ]
    flags: list[tuple[object, ...]] = [
        (getattr(isa, name).bit_length() - 1, f"`{name}`", meaning) for name, meaning in flag_meanings().items()
    ]
    record: list[tuple[object, ...]] = [
        (4 * index, 4, f"`{name}`", meaning) for index, (name, meaning) in enumerate(isa.RECORD_FIELDS)
    ]
    record.append((isa.RECORD_HEAD_BYTES, "4 x classes", "`logits`", "int32 in 2^-12 nat, padded with zeros to a beat"))
    sections = [
        _INTRODUCTION,
        "## Registers\n",
        markdown_table(("offset", "name", "access", "meaning"), registers),
        "## Counters\n\nRead-only, 32 bits; cleared by start.\n",
        markdown_table(("offset", "name", "counts"), counters),
        "## Errors\n\nWhat status reports beside the index of the descriptor.\n",
        _enumeration(isa.Error),
        f"## Descriptors\n\n{isa.DESCRIPTOR_BYTES} bytes each; the first four fields are common to all.\n",
        *(_descriptor(opcode) for opcode in isa.Opcode),
        "### Flags\n",
        markdown_table(("bit", "name", "meaning"), flags),
        *(_enumeration(enumeration) for enumeration in (isa.Post, isa.Operation, isa.Target)),
        "## Result record\n\nOne per image, `result_stride` bytes apart.\n",
        markdown_table(("offset", "bytes", "field", "meaning"), record),
    ]
    return "\n".join(sections)

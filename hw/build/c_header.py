"""C header of the machine, generated from `hw.isa` and a configuration: what a host program needs to drive it."""

from dataclasses import fields
from enum import IntEnum

from hw import isa
from hw.build.register_docs import flag_meanings, member_meanings
from hw.config import PARAMETER_BYTES, TABLE_ENTRIES, AcceleratorConfig

_C_TYPES = {1: "uint8_t", 2: "uint16_t", 4: "uint32_t", 8: "uint64_t"}

_HEAD = """\
/* PIVOT accelerator: registers, descriptors and result records. Generated from hw/isa.py; do not edit.
 * Everything in memory is little-endian. C11 or C++11. */
#ifndef PIVOT_H
#define PIVOT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define PIVOT_ASSERT(condition, text) static_assert(condition, text)
#else
#define PIVOT_ASSERT(condition, text) _Static_assert(condition, text)
#endif
#define PIVOT_PACKED __attribute__((packed))
"""


def _define(name: str, value: object, comment: str = "") -> str:
    return f"#define PIVOT_{name.upper()} {value}" + (f" /* {comment} */" if comment else "")


def _parameters(config: AcceleratorConfig) -> list[str]:
    lines = [_define(field.name, getattr(config, field.name)) for field in fields(config)]
    return ["/* The machine that this header was generated for */", *lines, ""]


def _registers() -> list[str]:
    from hw.control.registers import IDENTITY, VERSION

    lines = ["/* Registers: byte offsets, then bits */"]
    for name, access, meaning in isa.REGISTERS:
        lines.append(_define(f"reg_{name}", f"0x{isa.register_offset(name):03x}", f"{access}: {meaning}"))
    lines += ["", _define("identity_value", f"0x{IDENTITY:08x}"), _define("version_value", VERSION)]
    for name, bits in isa.REGISTER_BITS.items():
        for field, low, width, _ in bits:
            lines.append(_define(f"{name}_{field}_shift", low))
            lines.append(_define(f"{name}_{field}_mask", f"0x{((1 << width) - 1) << low:08x}u"))
    lines += ["", "/* Counters: byte offsets, read-only, cleared by start */"]
    for name, meaning in isa.COUNTERS:
        lines.append(_define(f"counter_{name}", f"0x{isa.register_offset(name):03x}", meaning))
    return [*lines, ""]


def _enumeration(enumeration: type[IntEnum]) -> list[str]:
    name = enumeration.__name__.lower()
    meanings = member_meanings(enumeration)
    lines = [f"enum pivot_{name} {{"]
    for member in enumeration:
        comment = f" /* {meanings[member.name]} */" if meanings[member.name] else ""
        lines.append(f"    PIVOT_{name.upper()}_{member.name} = {member.value},{comment}")
    return [*lines, "};", ""]


def _struct(name: str, members: list[tuple[str, int, str]], total: int) -> list[str]:
    """A packed struct of unsigned members (name, bytes, meaning) with assertions of every offset and of its size."""
    lines, asserts, offset = [f"struct PIVOT_PACKED {name} {{"], [], 0
    for member, size, meaning in members:
        declaration = f"{_C_TYPES[size]} {member}" if size in _C_TYPES else f"uint8_t {member}[{size}]"
        lines.append(f"    {declaration}; /* {meaning} */")
        asserts.append(f'PIVOT_ASSERT(offsetof(struct {name}, {member}) == {offset}, "{name}.{member}");')
        offset += size
    return [*lines, "};", *asserts, f'PIVOT_ASSERT(sizeof(struct {name}) == {total}, "{name}");', ""]


def _descriptors() -> list[str]:
    lines = ["/* Descriptors */", _define("descriptor_bytes", isa.DESCRIPTOR_BYTES)]
    for name, meaning in flag_meanings().items():
        lines.append(_define(name, f"0x{getattr(isa, name):02x}", meaning))
    lines += [_define("parameter_bytes", PARAMETER_BYTES), _define("table_bytes", TABLE_ENTRIES), ""]
    for opcode, members in isa.DESCRIPTOR_FIELDS.items():
        reserved = isa.DESCRIPTOR_BYTES - sum(size for _, size, _ in members)
        padded = [*members, ("reserved", reserved, "must be 0")] if reserved else list(members)
        lines += _struct(f"pivot_descriptor_{opcode.name.lower()}", padded, isa.DESCRIPTOR_BYTES)
    return lines


def generate_header(config: AcceleratorConfig | None) -> str:
    """``pivot.h``: a machine's parameters, and what all machines share: registers, enumerations, descriptor structs and the
    record's head.

    The structs are packed and their layout is asserted, so a compiler that lays them out otherwise rejects the header.

    Args:
        config: the machine; None leaves its parameters out.
    """
    record = [(name, 4, meaning) for name, meaning in isa.RECORD_FIELDS]
    lines = [*_HEAD.splitlines(), "", *(_parameters(config) if config else []), *_registers()]
    for enumeration in (isa.Opcode, isa.Post, isa.Operation, isa.Target, isa.Error):
        lines += _enumeration(enumeration)
    lines += _descriptors()
    lines += ["/* Result record; int32_t logits[classes] in 2^-12 nat follow */"]
    lines += _struct("pivot_record", record, isa.RECORD_HEAD_BYTES)
    return "\n".join([*lines, "#endif", ""])

"""The C header and the register page say what `hw.isa` says, as a C compiler and a reader see it."""

import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from hw import isa
from hw.build.c_header import generate_header
from hw.build.register_docs import flag_meanings, generate_register_docs, member_meanings
from hw.presets import find_preset

ROOT = Path(__file__).parents[3]
CONFIG = find_preset("zcu102").with_fields("rows=7,classes=11")
COMPILER = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler on PATH")


def compile_c(directory: Path, header: str, lines: list[str]) -> subprocess.CompletedProcess[str]:
    """Compile and run a program whose main is ``lines``."""
    (directory / "pivot.h").write_text(header)
    source = directory / "main.c"
    body = "\n".join(f"    {line}" for line in lines)
    source.write_text(f'#include <stdio.h>\n#include "pivot.h"\nint main(void) {{\n{body}\n    return 0;\n}}\n')
    options = ["-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-o", directory / "main"]
    call = subprocess.run([str(COMPILER), *options, source], capture_output=True, text=True, timeout=120)
    if call.returncode:
        return call
    return subprocess.run([directory / "main"], capture_output=True, text=True, timeout=60)


def printed(name: str) -> str:
    return f'printf("{name} %lld\\n", (long long)({name}));'


@needs_compiler
def test_a_compiler_sees_the_values_of_isa(tmp_path: Path):
    expected = {f"PIVOT_{field.name.upper()}": getattr(CONFIG, field.name) for field in fields(CONFIG)}
    expected |= {f"PIVOT_REG_{name.upper()}": isa.register_offset(name) for name, _, _ in isa.REGISTERS}
    expected |= {f"PIVOT_COUNTER_{name.upper()}": isa.register_offset(name) for name, _ in isa.COUNTERS}
    for enumeration in (isa.Opcode, isa.Post, isa.Operation, isa.Target, isa.Error):
        prefix = f"PIVOT_{enumeration.__name__.upper()}"
        expected |= {f"{prefix}_{member.name}": member.value for member in enumeration}
    expected |= {f"PIVOT_{name}": value for name, value in vars(isa).items() if name.startswith("FLAG_")}
    expected |= {"PIVOT_DESCRIPTOR_BYTES": 64, "PIVOT_IDENTITY_VALUE": 0x50495654, "sizeof(struct pivot_record)": 32}
    call = compile_c(tmp_path, generate_header(CONFIG), [printed(name) for name in expected])
    assert call.returncode == 0, call.stderr
    values = {name: int(value) for name, _, value in (line.rpartition(" ") for line in call.stdout.splitlines())}
    assert values == expected


@needs_compiler
@pytest.mark.parametrize("opcode", list(isa.Opcode))
def test_a_struct_holds_the_bytes_that_encode_writes(tmp_path: Path, opcode: isa.Opcode):
    members = isa.DESCRIPTOR_FIELDS[opcode][1:]
    values = {name: (index * 40503 + 0x01020304) % (1 << 8 * size) for index, (name, size, _) in enumerate(members)}
    struct = f"struct pivot_descriptor_{opcode.name.lower()}"
    lines = [f"{struct} d = {{0}};", f"d.opcode = PIVOT_OPCODE_{opcode.name};"]
    lines += [f"d.{name} = {value}u;" for name, value in values.items()]
    lines += ['for (size_t i = 0; i < sizeof d; i++) printf("%02x", ((const unsigned char *)&d)[i]);']
    call = compile_c(tmp_path, generate_header(CONFIG), lines)
    assert call.returncode == 0, call.stderr
    assert bytes.fromhex(call.stdout) == isa.Descriptor(opcode, values).encode()


@needs_compiler
def test_a_wrong_offset_does_not_compile(tmp_path: Path):
    header = generate_header(CONFIG).replace("uint32_t table;", "uint16_t table;")
    call = compile_c(tmp_path, header, [])
    assert call.returncode != 0
    assert "pivot_descriptor_gemm.table" in call.stderr or "pivot_descriptor_gemm.source_base" in call.stderr


def test_register_bits_do_not_meet_and_are_said_of_the_register():
    meanings = {name: meaning for name, _, meaning in isa.REGISTERS}
    assert meanings["control"] == "bit 0 start; bit 1 soft reset; bit 2 clear interrupt"
    assert meanings["status"].endswith("bit 2 error; bits 15:8 `Error`; bits 31:16 descriptor index of the error")
    for bits in isa.REGISTER_BITS.values():
        ends = [low + width for _, low, width, _ in bits]
        assert all(end <= low for end, (_, low, _, _) in zip([0, *ends], bits, strict=False)) and ends[-1] <= 32
    assert "#define PIVOT_STATUS_ERROR_CODE_SHIFT 8\n#define PIVOT_STATUS_ERROR_CODE_MASK 0x0000ff00u\n" in generate_header(None)


def test_meanings_are_found():
    assert list(flag_meanings()) == [name for name in vars(isa) if name.startswith("FLAG_")]
    for enumeration in (isa.Opcode, isa.Post):
        assert all(member_meanings(enumeration).values())


def test_the_documented_registers_are_current():
    page = generate_register_docs()
    assert (ROOT / "docs" / "registers.md").read_text() == page, "copy registers.md of `python -m hw.build` to docs/"
    for name in [entry[0] for entry in (*isa.REGISTERS, *isa.COUNTERS, *isa.RECORD_FIELDS)]:
        assert f"`{name}`" in page
    for members in isa.DESCRIPTOR_FIELDS.values():
        assert all(f"`{name}` | {meaning}" in page for name, _, meaning in members)

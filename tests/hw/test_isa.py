import numpy as np
import pytest

from hw import isa
from hw.isa import DESCRIPTOR_FIELDS, Descriptor, Opcode, descriptor_layout


@pytest.mark.parametrize("opcode", list(Opcode))
def test_the_rtl_reads_the_fields_that_the_encoder_writes(opcode, rng):
    values = {
        name: int.from_bytes(rng.bytes(size), "little")
        for name, size, _ in DESCRIPTOR_FIELDS[opcode]
        if name != "opcode"
    }
    encoded = Descriptor(opcode, values).encode()
    assert len(encoded) == isa.DESCRIPTOR_BYTES
    constant = descriptor_layout(opcode).from_bits(int.from_bytes(encoded, "little"))
    assert constant["opcode"] == opcode and constant["reserved"] == 0
    assert {name: constant[name] for name in values} == values
    assert Descriptor.decode(encoded) == Descriptor(opcode, values)


def test_wrong_fields_are_refused():
    with pytest.raises(ValueError, match="NORM has no field 'weights'"):
        Descriptor(Opcode.NORM, {"weights": 1})
    with pytest.raises(ValueError, match=r"GEMM.columns must fit 2 unsigned bytes, not 65536"):
        Descriptor(Opcode.GEMM, {"columns": 1 << 16})
    with pytest.raises(ValueError, match="64 bytes, not 3"):
        Descriptor.decode(b"abc")
    with pytest.raises(AttributeError, match="END has no field 'weights'"):
        _ = Descriptor(Opcode.END).weights


def test_registers_and_counters_have_distinct_word_offsets():
    names = [entry[0] for entry in isa.REGISTERS] + [entry[0] for entry in isa.COUNTERS]
    offsets = [isa.register_offset(name) for name in names]
    assert len(set(names)) == len(names)
    assert offsets == list(np.arange(len(names)) * 4)
    with pytest.raises(KeyError):
        isa.register_offset("no such register")

from dataclasses import replace

import numpy as np
import pytest

from hw import isa
from hw.config import AcceleratorConfig, ceil_div
from hw.control.descriptor_check import CHECK_CYCLES, DescriptorCheck
from hw.isa import Descriptor, Error, Opcode, Post, Target
from tests.hw.simulation import cached, simulate

CONFIG = AcceleratorConfig(
    rows=3, cols=5, pe_depth=4, activation_words=64, residual_words=32, weight_words=16, kv_words=24,
    parameter_tiles=2, row_tiles=4, classes=10, weight_ports=2, axi_bytes=16, normalized_words=40,
)  # fmt: skip
WHOLE_WORDS = replace(CONFIG, cols=8)  # two scores share a word, a tile of K is whole words
PROGRAM_BYTES = 1 << 16


def gemm(**changes):
    fields = dict(
        flags=isa.FLAG_PER_COLUMN, weights=1024, parameters=4096, source_base=3, source_stride=4, base=1, stride=5, element=1,
        k_words=3, k_elements=10, columns=12, column_tiles=3, row_tiles=4, tokens=11, shift=9, resident=1,
    )  # fmt: skip
    return Descriptor(Opcode.GEMM, {**fields, **changes})


def load(**changes):
    fields = dict(
        base=2, stride=3, first_row=1, first_row_tile=1, segment_bytes=5, segments=2, tokens_inner=2, tokens_outer=4,
    )  # fmt: skip
    return Descriptor(Opcode.LOAD, {**fields, **changes})


def norm(**changes):
    fields = dict(
        base=2,
        stride=3,
        source_base=1,
        source_stride=4,
        words=3,
        channels=11,
        row_tiles=4,
        inverse=1,
        inverse_shift=20,
        epsilon=1,
        multiplier=1,
    )
    return Descriptor(Opcode.NORM, {**fields, **changes})


WEIGHT_BYTES = 2 * ceil_div(3 * 3 * 1 * 4 * 4, 16) * 16  # groups_per_port 1, columns_per_beat 4
KEY = dict(post=Post.KEY, columns=8, column_tiles=2, element=0, stride=4, base=0)
VALUE = dict(post=Post.VALUE, columns=8, column_tiles=2, element=0, stride=5, base=0)
CASES = [
    (gemm(), 0),
    (gemm(weights=PROGRAM_BYTES - WEIGHT_BYTES), 0),
    (gemm(weights=PROGRAM_BYTES - WEIGHT_BYTES + 16), Error.ADDRESS),
    (gemm(weights=1025), Error.ADDRESS),
    (gemm(parameters=PROGRAM_BYTES - 128), 0),
    (gemm(parameters=PROGRAM_BYTES - 112), Error.ADDRESS),
    (gemm(post=Post.ACTIVATION, table=PROGRAM_BYTES - 256), 0),
    (gemm(post=Post.ACTIVATION, table=PROGRAM_BYTES - 240), Error.ADDRESS),
    (gemm(flags=isa.FLAG_EXP, table=0xFFFFFFF0), Error.ADDRESS),
    (gemm(table=0xFFFFFFF0), 0),
    (gemm(post=Post.ACTIVATION, flags=isa.FLAG_EXP), Error.FIELD),
    (gemm(flags=isa.FLAG_IMAGE), Error.FIELD),
    (gemm(flags=isa.FLAG_NORMALIZED, source_base=40 - 12 - 3), 0),
    (gemm(flags=isa.FLAG_NORMALIZED, source_base=40 - 12 - 2), Error.BUFFER),
    (gemm(post=Post.SCORE, flags=isa.FLAG_NORMALIZED), Error.FIELD),
    (gemm(post=Post.SCORE), Error.FIELD),
    (gemm(post=Post.SCORE, flags=isa.FLAG_KV), 0),
    (gemm(resident=2), 0),
    (gemm(resident=0), 0),
    (gemm(resident=3), Error.BUFFER),
    (gemm(resident=5, flags=0), 0),
    (gemm(resident=6, flags=0), Error.BUFFER),
    (gemm(resident=0xFFFF, flags=isa.FLAG_KV), 0),
    (gemm(resident=0, flags=isa.FLAG_KV), 0),
    (gemm(k_words=17, k_elements=68, resident=0, weights=0, source_base=0, source_stride=0), Error.BUFFER),
    (gemm(encoder=32), Error.FIELD),
    (gemm(operation=11), Error.FIELD),
    (gemm(post=7), Error.FIELD),
    (gemm(element=4), Error.FIELD),
    (gemm(k_words=0), Error.FIELD),
    (gemm(k_elements=13), Error.FIELD),
    (gemm(k_elements=8), Error.FIELD),
    (gemm(k_elements=9), 0),
    (gemm(columns=16), Error.FIELD),
    (gemm(columns=10), Error.FIELD),
    (gemm(tokens=13, row_tiles=5), Error.FIELD),
    (gemm(tokens=9), Error.FIELD),
    (gemm(tokens=12), 0),
    (gemm(shift=64), Error.FIELD),
    (gemm(k_words=17, k_elements=68, weights=0, source_base=0, source_stride=0), Error.BUFFER),
    (gemm(k_words=17, k_elements=68, flags=isa.FLAG_KV, column_tiles=1, columns=5, source_stride=0, kv_base=7), 0),
    (gemm(k_words=17, k_elements=68, flags=isa.FLAG_KV, column_tiles=1, columns=5, source_stride=0, kv_base=8), Error.BUFFER),
    (gemm(source_base=64 - 12 - 3), 0),
    (gemm(source_base=64 - 12 - 2), Error.BUFFER),
    (gemm(base=64 - 15 - 4), 0),
    (gemm(base=64 - 15 - 3), Error.BUFFER),
    (gemm(post=Post.RESIDUAL, base=32 - 15 - 4), 0),
    (gemm(post=Post.RESIDUAL, base=32 - 15 - 3), Error.BUFFER),
    (gemm(post=Post.RESIDUAL, addend_base=32 - 15 - 4), 0),
    (gemm(post=Post.RESIDUAL, addend_base=32 - 15 - 3), Error.BUFFER),
    (gemm(post=Post.RESIDUAL, base=32 - 15 - 3, addend_base=1), Error.BUFFER),
    (gemm(addend_base=0xFFFF), 0),
    # Row tile 3's second segment ends at 3 + 3 * 4 + stride + 2; the last one, of one word, must fit whole.
    (gemm(segment_words=2, segment_stride=64 - 17), 0),
    (gemm(segment_words=2, segment_stride=64 - 16), Error.BUFFER),
    (gemm(segment_words=1, segment_stride=24), 0),
    (gemm(segment_words=1, segment_stride=25), Error.BUFFER),
    (gemm(segment_words=3, segment_stride=0xFFFF), 0),
    (gemm(segment_words=64 - 15, segment_stride=0xFFFF), 0),
    (gemm(segment_words=64 - 14), Error.BUFFER),
    (gemm(segment_words=0, segment_stride=0xFFFF), 0),
    (gemm(segment_words=1, segment_stride=0xFFFF), Error.BUFFER),
    (gemm(segment_words=1, segment_stride=11), 0),
    (gemm(segment_words=1, segment_stride=11, flags=isa.FLAG_NORMALIZED), 0),
    (gemm(**KEY, segment_words=1), Error.FIELD),
    (gemm(**VALUE, segment_words=1), 0),
    (gemm(first_row_tile=1), Error.FIELD),
    (gemm(first_row_tile=0xFFFF), Error.FIELD),
    (gemm(first_row_tile=2, row_tiles=2, tokens=5), 0),
    (gemm(first_row_tile=3, row_tiles=2, tokens=5), Error.FIELD),
    (gemm(blank_rows=7), 0),
    (gemm(blank_rows=8), Error.FIELD),
    (gemm(blank_rows=1 << 63), Error.FIELD),
    (gemm(blank_rows=5, post=Post.ACTIVATION), 0),
    *((gemm(blank_rows=1, post=post, flags=0, columns=5, column_tiles=1, element=0), Error.FIELD) for post in range(2, 7)),
    (gemm(**KEY, tokens=10), 0),
    (gemm(**{**KEY, "base": 24 - 8 - 2}), 0),  # tokens 0..10: token tiles 0, 1, 2
    (gemm(**{**KEY, "base": 24 - 8 - 1}), Error.BUFFER),
    (gemm(**{**VALUE, "base": 24 - 5 - 3}), 0),  # 11 tokens: 3 words
    (gemm(**{**VALUE, "base": 24 - 5 - 2}), Error.BUFFER),
    (gemm(post=Post.LOGITS, columns=10, column_tiles=2, row_tiles=1, tokens=1, base=0xFFFF), 0),
    (gemm(post=Post.LOGITS, columns=11, column_tiles=3, row_tiles=1, tokens=1), Error.FIELD),
    (gemm(post=Post.LOGITS, columns=10, column_tiles=2), Error.FIELD),
    (gemm(k_words=0xFFFF, column_tiles=0xFFFF, k_elements=0xFFFF, columns=0xFFFF), Error.FIELD),
    (load(), 0),
    (load(tokens_outer=5), Error.FIELD),
    (load(first_row=3), Error.FIELD),
    (load(first_row_tile=4), Error.FIELD),
    (load(target=2), Error.FIELD),
    (load(tokens_inner=0), Error.FIELD),
    (load(segments=0), Error.FIELD),
    (load(tokens_inner=0xFFFF, tokens_outer=0xFFFF), Error.FIELD),
    (load(base=64 - 9 - 3), 0),  # tokens 4..11: row tiles 1..3; 10 bytes: 3 words
    (load(base=64 - 9 - 2), Error.BUFFER),
    (load(target=Target.RESIDUAL, base=32 - 9 - 2), 0),
    (load(target=Target.RESIDUAL, base=32 - 9 - 1), Error.BUFFER),
    (load(flags=isa.FLAG_CONTIGUOUS, segment_bytes=8, inner_stride=8, segment_words=2), 0),
    (load(flags=isa.FLAG_CONTIGUOUS, segment_bytes=8, inner_stride=8, segment_words=1, target=Target.RESIDUAL, base=0), 0),
    (load(flags=isa.FLAG_CONTIGUOUS, segment_bytes=8, inner_stride=8, segment_words=1), Error.FIELD),
    (load(flags=isa.FLAG_CONTIGUOUS, segment_bytes=8, inner_stride=8, segment_words=3), Error.FIELD),
    (load(flags=isa.FLAG_CONTIGUOUS, segment_bytes=8, inner_stride=9, segment_words=2), Error.FIELD),
    (load(flags=isa.FLAG_CONTIGUOUS, segment_bytes=8, inner_stride=1 << 16 | 8, segment_words=2), Error.FIELD),
    (load(segment_bytes=8, segment_words=3), 0),
    (load(flags=isa.FLAG_EXP), Error.FIELD),
    (load(segments=0xFFFF, segment_bytes=0xFFFF), Error.BUFFER),
    (load(address=PROGRAM_BYTES - 1), 0),
    (load(address=PROGRAM_BYTES), Error.ADDRESS),
    (load(flags=isa.FLAG_IMAGE, address=99), 0),
    (load(flags=isa.FLAG_IMAGE, address=100), Error.ADDRESS),
    (norm(), 0),
    (norm(channels=13), Error.FIELD),
    (norm(channels=8), Error.FIELD),
    (norm(epsilon=0), Error.FIELD),
    (norm(inverse_shift=3), Error.FIELD),
    (norm(row_tiles=5), Error.FIELD),
    (norm(first_row_tile=1), Error.FIELD),
    (norm(first_row_tile=1, row_tiles=3), 0),
    (norm(first_row_tile=0xFFFF), Error.FIELD),
    (norm(source_base=32 - 12 - 3), 0),
    (norm(source_base=32 - 12 - 2), Error.BUFFER),
    (norm(base=40 - 9 - 3), 0),
    (norm(base=40 - 9 - 2), Error.BUFFER),
    (norm(flags=isa.FLAG_CONTIGUOUS), Error.FIELD),
    (norm(flags=isa.FLAG_WAIT | isa.FLAG_ATTENTION | isa.FLAG_HIGH), 0),
    (Descriptor(Opcode.END, {"classes": 10}), 0),
    (Descriptor(Opcode.END, {"classes": 11}), Error.FIELD),
    (Descriptor(Opcode.GATE, {"classes": 0}), Error.FIELD),
    (Descriptor(Opcode.END, {"classes": 1, "flags": isa.FLAG_NORMALIZED}), Error.FIELD),
]


def outcomes(cases, machine=CONFIG):
    """(code, cycles) of each 64-byte descriptor."""
    dut = cached(DescriptorCheck, machine)
    results = []

    async def testbench(ctx):
        ctx.set(dut.program_bytes, PROGRAM_BYTES)
        ctx.set(dut.image_bytes, 100)
        for encoded in cases:
            ctx.set(dut.descriptor, int.from_bytes(encoded, "little"))
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            cycles = 1
            while not ctx.get(dut.done):
                assert cycles < 100
                await ctx.tick()
                cycles += 1
            results.append((ctx.get(dut.code), cycles))

    simulate(dut, testbench)
    return results


@pytest.fixture(scope="module")
def results():
    return outcomes([descriptor.encode() for descriptor, _ in CASES])


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{n}-{CASES[n][0].opcode.name}")
def test_code_and_duration(results, number):
    descriptor, expected = CASES[number]
    code, cycles = results[number]
    assert code == expected
    assert cycles == CHECK_CYCLES[descriptor.opcode] if code == 0 else cycles <= CHECK_CYCLES[descriptor.opcode]


def test_elements_where_columns_share_words():
    fields = dict(columns=7, column_tiles=1, flags=0, tokens=3, row_tiles=1, base=0)
    cases = [
        (dict(post=Post.SCORE, element=2), 0), (dict(post=Post.SCORE, element=1), Error.FIELD),
        (dict(post=Post.KEY, element=0), 0), (dict(post=Post.KEY, element=2), Error.FIELD),
        (dict(post=Post.REQUANT, element=1), 0),
    ]  # fmt: skip
    found = outcomes([gemm(**fields, **case).encode() for case, _ in cases], WHOLE_WORDS)
    assert found == [(code, CHECK_CYCLES[Opcode.GEMM] if code == 0 else 1) for _, code in cases]


def softmax(**changes):
    fields = dict(table=512, base=2, stride=4, keys=13, row_tiles=4, tokens=11, flags=isa.FLAG_ATTENTION)
    return Descriptor(Opcode.SOFTMAX, {**fields, **changes})


def test_a_softmax_where_exp_units_are_limited():
    cases = [
        (softmax(), 0), (softmax(base=64 - 12 - 4), 0), (softmax(base=64 - 12 - 3), Error.BUFFER),
        (softmax(base=64 - 12 - 3, keys=12), 0), (softmax(stride=65535), Error.BUFFER), (softmax(keys=65535), Error.BUFFER),
        (softmax(keys=0), Error.FIELD), (softmax(tokens=0), Error.FIELD), (softmax(row_tiles=0), Error.FIELD),
        (softmax(row_tiles=5, tokens=13), Error.FIELD), (softmax(tokens=9), Error.FIELD), (softmax(tokens=13), Error.FIELD),
        (softmax(table=520), Error.ADDRESS), (softmax(table=PROGRAM_BYTES - 256), 0),
        (softmax(table=PROGRAM_BYTES - 240), Error.ADDRESS), (softmax(flags=isa.FLAG_EXP), Error.FIELD),
        (softmax(encoder=32), Error.FIELD), (softmax(operation=11), Error.FIELD),
        # a GEMM's table is then a activation table
        (gemm(flags=isa.FLAG_EXP, table=1 << 20), 0), (gemm(post=Post.ACTIVATION, table=1 << 20), Error.ADDRESS),
    ]  # fmt: skip
    found = outcomes([descriptor.encode() for descriptor, _ in cases], replace(CONFIG, exp_units=2))
    assert [code for code, _ in found] == [code for _, code in cases]
    assert all(cycles == CHECK_CYCLES[d.opcode] for (d, code), (_, cycles) in zip(cases, found, strict=True) if not code)
    assert [code for code, _ in outcomes([softmax().encode()])] == [Error.OPCODE]


def test_unknown_opcodes_and_reserved_bytes():
    encoded = [bytes([opcode]) + bytes(63) for opcode in (0, 6, 255)]
    encoded += [descriptor.encode()[:63] + b"\1" for descriptor in (gemm(), load(), norm())]
    codes = [code for code, _ in outcomes(encoded)]
    assert codes == [Error.OPCODE] * 3 + [Error.FIELD] * 3


def test_random_bytes_always_end():
    rng = np.random.default_rng(5)
    encoded = []
    for opcode in range(1, 6):
        for _ in range(40):
            sizes = isa.descriptor_layout(Opcode(opcode)).members
            used = isa.DESCRIPTOR_BYTES - sizes["reserved"].width // 8 if hasattr(sizes["reserved"], "width") else 40
            encoded.append((bytes([opcode, 0, 0, 0]) + bytes(rng.integers(0, 4, used, dtype=np.uint8))).ljust(64, b"\0")[:64])
    assert all(0 <= code <= Error.BUFFER for code, _ in outcomes(encoded))

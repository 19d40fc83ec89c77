"""The golden machine against small arithmetic done by hand on its Programs; whole networks are compared in tests/sw and sim/."""

import numpy as np
import pytest

from hw import isa
from hw.device import EXIT_END, EXIT_LOW, NO_GATE
from hw.errors import InputError
from hw.golden import GoldenDevice, GoldenMachine
from hw.isa import Descriptor, Opcode, Operation, Post
from hw.presets import PRESETS
from hw.program import Program

CONFIG = PRESETS["nano"]
PIXELS, CLASSES = 6, 3


def _weights(matrix):
    """Region of a GEMM's weights int8 [K, N] for one port, as docs/architecture.md lays it out."""
    k_words, tiles = -(-matrix.shape[0] // CONFIG.depth), -(-matrix.shape[1] // CONFIG.cols)
    padded = np.zeros((k_words * CONFIG.depth, tiles * CONFIG.cols), np.int8)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    ordered = padded.reshape(k_words, CONFIG.depth, tiles, CONFIG.cols).transpose(2, 0, 3, 1)
    return ordered.tobytes()


def _program(matrix, bias, *, threshold=0, gate=False):
    """A Program that multiplies an image of PIXELS bytes with a matrix, once, or twice around a gate."""
    parameters = b"".join(
        int(value).to_bytes(4, "little", signed=True) + (1 << 15).to_bytes(2, "little") + bytes([15, 0]) for value in bias
    )
    parameters = parameters.ljust(CONFIG.cols * 8, b"\0")
    data = _weights(matrix) + parameters
    count = 5 if gate else 3
    base = count * isa.DESCRIPTOR_BYTES
    load = Descriptor(
        Opcode.LOAD,
        {"flags": isa.FLAG_IMAGE | isa.FLAG_WAIT, "segment_bytes": PIXELS, "segments": 1, "tokens_inner": 1, "tokens_outer": 1},
    )
    gemm = Descriptor(
        Opcode.GEMM,
        {
            "flags": isa.FLAG_PER_COLUMN | isa.FLAG_WAIT, "operation": Operation.HEAD, "weights": base,
            "parameters": base + len(_weights(matrix)), "post": Post.LOGITS, "k_words": -(-PIXELS // CONFIG.depth),
            "k_elements": PIXELS, "columns": CLASSES, "column_tiles": 1, "row_tiles": 1, "tokens": 1,
        },
    )  # fmt: skip
    end = Descriptor(Opcode.END, {"classes": CLASSES})
    descriptors = [load, gemm, Descriptor(Opcode.GATE, {"classes": CLASSES}), gemm, end] if gate else [load, gemm, end]
    memory = b"".join(descriptor.encode() for descriptor in descriptors) + data
    return Program(CONFIG, memory, count, PIXELS, CLASSES, (0, 0), threshold)


def test_logits_are_the_product_with_bias(rng):
    matrix, bias = rng.integers(-127, 128, (PIXELS, CLASSES)), rng.integers(-5000, 5000, CLASSES)
    images = rng.integers(-128, 128, (5, PIXELS), dtype=np.int8)
    result = GoldenMachine(_program(matrix, bias), chunk=2).run(images)
    np.testing.assert_array_equal(result.logits, images.astype(np.int64) @ matrix + bias)
    assert set(result.exits) == {EXIT_END} and set(result.gate_entropy) == {NO_GATE}


def test_the_gate_lets_out_at_its_threshold_and_not_above_it(rng):
    matrix, bias = rng.integers(-40, 41, (PIXELS, CLASSES)), np.zeros(CLASSES)
    images = rng.integers(-128, 128, (40, PIXELS), dtype=np.int8)
    program = _program(matrix, bias, gate=True)
    device = GoldenDevice(CONFIG)
    entropy = device.run(program, images, threshold=0).gate_entropy
    threshold = int(np.sort(entropy)[20])
    result = device.run(program, images, threshold=threshold)
    np.testing.assert_array_equal(result.exits, np.where(entropy <= threshold, EXIT_LOW, EXIT_END))
    assert set(result.exits) == {EXIT_LOW, EXIT_END}


def test_a_flipped_bit_of_a_weight_changes_the_answer(rng):
    program = _program(rng.integers(-100, 101, (PIXELS, CLASSES)), np.zeros(CLASSES))
    images = np.full((1, PIXELS), 3, np.int8)
    memory = bytearray(program.memory)
    memory[program.descriptor_count * isa.DESCRIPTOR_BYTES] ^= 1 << 4
    flipped = Program(CONFIG, bytes(memory), program.descriptor_count, PIXELS, CLASSES, (0, 0))
    before, after = (GoldenMachine(each).run(images).logits[0] for each in (program, flipped))
    assert abs(after[0] - before[0]) == 3 << 4 and (after[1:] == before[1:]).all()


def test_images_and_programs_that_do_not_fit_are_refused():
    program = _program(np.ones((PIXELS, CLASSES), int), np.zeros(CLASSES))
    with pytest.raises(InputError, match="Images must have 6 bytes each, not 5"):
        GoldenMachine(program).run(np.zeros((1, 5), np.int8))
    with pytest.raises(InputError, match="Program must be compiled for"):
        GoldenDevice(PRESETS["zcu102"]).run(program, np.zeros((1, PIXELS), np.int8))

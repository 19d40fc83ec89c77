"""The golden device against small arithmetic done by hand on its Programs; whole networks are compared in tests/sw and sim/."""

import numpy as np
import pytest

from hw import isa
from hw.device import EXIT_END, EXIT_LOW
from hw.errors import InputError
from hw.golden import GoldenDevice
from hw.interpreter import Interpreter, State
from hw.isa import NO_GATE, Descriptor, Opcode, Operation, Post
from hw.presets import PRESETS
from hw.program import Program

CONFIG = PRESETS["nano"]
PIXELS, CLASSES = 6, 3


def _weights(matrix):
    """Region of a GEMM's weights int8 [K, N] for one port, as docs/architecture.md lays it out."""
    k_words, tiles = -(-matrix.shape[0] // CONFIG.pe_depth), -(-matrix.shape[1] // CONFIG.cols)
    padded = np.zeros((k_words * CONFIG.pe_depth, tiles * CONFIG.cols), np.int8)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    ordered = padded.reshape(k_words, CONFIG.pe_depth, tiles, CONFIG.cols).transpose(2, 0, 3, 1)
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
            "parameters": base + len(_weights(matrix)), "post": Post.LOGITS, "k_words": -(-PIXELS // CONFIG.pe_depth),
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
    result = GoldenDevice(chunk=2).run(_program(matrix, bias), images)
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
    before, after = (GoldenDevice().run(each, images).logits[0] for each in (program, flipped))
    assert abs(after[0] - before[0]) == 3 << 4 and (after[1:] == before[1:]).all()


def _state(rng):
    """Memories of one image with random activations and residuals."""
    interpreter = Interpreter(_program(np.ones((PIXELS, CLASSES), int), np.zeros(CLASSES)))
    rows, depth = CONFIG.rows, CONFIG.pe_depth
    return interpreter, State(
        images=np.zeros((1, PIXELS), np.int8),
        activation=rng.integers(-128, 128, (1, rows, CONFIG.activation_words * depth)).astype(np.int8),
        normalized=np.zeros((1, rows, CONFIG.normalized_words * depth), np.int8),
        residual=rng.integers(-9000, 9000, (1, rows, CONFIG.residual_words * depth)).astype(np.int16),
        kv=rng.integers(-128, 128, (1, CONFIG.cols, CONFIG.kv_words, depth)).astype(np.int8),
        row_max=np.zeros((1, CONFIG.max_tokens), np.int8),
        logits=np.zeros((1, CLASSES), np.int64),
    )


_FIELDS = {
    "flags": isa.FLAG_KV, "k_words": 5, "k_elements": 18, "columns": CONFIG.cols, "column_tiles": 1, "row_tiles": 2,
    "tokens": 2 * CONFIG.rows, "source_base": 3, "source_stride": 2, "base": 100, "stride": 3, "multiplier": 1 << 15, "shift": 23,
}  # fmt: skip


def _products(state, words):
    """int64 [2, rows, cols]: what the words at these offsets from a row tile's first one give with the K and V buffer's 5 words."""
    depth = CONFIG.pe_depth
    weights = state.kv[0, :, :5].reshape(CONFIG.cols, -1)[:, :18].astype(np.int64).T
    banks = state.activation[0].reshape(CONFIG.rows, -1, depth).astype(np.int64)
    fed = np.stack([banks[:, [3 + 2 * tile + word for word in words]].reshape(CONFIG.rows, -1)[:, :18] for tile in range(2)])
    return (fed @ weights + 128) >> 8


def test_a_dot_product_is_gathered_from_segments(rng):
    interpreter, state = _state(rng)
    expected = np.clip(_products(state, [0, 1, 7, 8, 14]), -128, 127)
    interpreter._gemm(state, Descriptor(Opcode.GEMM, _FIELDS | {"segment_words": 2, "segment_stride": 7}))
    written = state.activation[0].reshape(CONFIG.rows, -1, CONFIG.pe_depth)
    np.testing.assert_array_equal(np.stack([written[:, 100], written[:, 103]]), expected)


def test_blank_rows_write_the_least_code(rng):
    interpreter, state = _state(rng)
    expected = np.clip(_products(state, range(5)), -128, 127)
    expected[:, [1, 3]] = -128
    interpreter._gemm(state, Descriptor(Opcode.GEMM, _FIELDS | {"blank_rows": 0b1010}))
    written = state.activation[0].reshape(CONFIG.rows, -1, CONFIG.pe_depth)
    np.testing.assert_array_equal(np.stack([written[:, 100], written[:, 103]]), expected)


def test_a_residual_goes_on_in_another_region(rng):
    interpreter, state = _state(rng)
    before = state.residual[0].reshape(CONFIG.rows, -1, CONFIG.pe_depth).copy()
    expected = before[:, [10, 13]].transpose(1, 0, 2) + _products(state, range(5))
    interpreter._gemm(state, Descriptor(Opcode.GEMM, _FIELDS | {"post": Post.RESIDUAL, "addend_base": 10}))
    after = state.residual[0].reshape(CONFIG.rows, -1, CONFIG.pe_depth)
    np.testing.assert_array_equal(after[:, [100, 103]].transpose(1, 0, 2), expected)
    np.testing.assert_array_equal(np.delete(after, [100, 103], axis=1), np.delete(before, [100, 103], axis=1))


def test_scores_leave_their_maximum_in_the_row_state_they_name(rng):
    interpreter, state = _state(rng)
    scores = Descriptor(Opcode.GEMM, _FIELDS | {"post": Post.SCORE, "first_row_tile": 3})
    interpreter._gemm(state, scores)
    written = state.activation[0].reshape(CONFIG.rows, -1, CONFIG.pe_depth)
    greatest = np.concatenate([written[:, 100].max(axis=1), written[:, 103].max(axis=1)])
    states = slice(3 * CONFIG.rows, 5 * CONFIG.rows)
    np.testing.assert_array_equal(state.row_max[0, states], greatest)
    assert not np.delete(state.row_max[0], np.r_[states]).any()


def test_images_and_programs_that_do_not_fit_are_refused():
    program = _program(np.ones((PIXELS, CLASSES), int), np.zeros(CLASSES))
    with pytest.raises(InputError, match="Images must have 6 bytes each, not 5"):
        GoldenDevice().run(program, np.zeros((1, 5), np.int8))
    with pytest.raises(InputError, match="Program must be compiled for"):
        GoldenDevice(PRESETS["zcu102"]).run(program, np.zeros((1, PIXELS), np.int8))

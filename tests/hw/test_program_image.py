import numpy as np
import pytest

from hw.commands import parameter_layout
from hw.config import PARAMETER_BYTES, AcceleratorConfig, ceil_div
from hw.errors import InputError
from hw.isa import DESCRIPTOR_BYTES, Descriptor, Opcode
from hw.presets import find_preset
from hw.program_image import Parameters, ProgramImage, pack_parameters, pack_weights, unpack_parameters, unpack_weights

SHAPES = [
    find_preset("nano").with_fields(f"cols={cols},pe_depth={depth},weight_ports={ports},axi_bytes={beat}")
    for cols, depth, ports, beat in ((2, 4, 1, 16), (5, 4, 1, 16), (7, 2, 3, 16), (12, 8, 2, 32), (9, 16, 4, 16), (33, 8, 2, 64))
]


@pytest.mark.parametrize("config", SHAPES, ids=lambda config: f"{config.cols}x{config.pe_depth} by {config.weight_ports}")
def test_weights_survive(config: AcceleratorConfig, rng: np.random.Generator):
    for _ in range(20):
        outputs, inputs = rng.integers(1, 4 * config.cols), rng.integers(1, 5 * config.pe_depth)
        weights = rng.integers(-128, 128, (outputs, inputs)).astype(np.int8)
        packed = pack_weights(config, weights)
        k_words, column_tiles = ceil_div(inputs, config.pe_depth), ceil_div(outputs, config.cols)
        assert len(packed) == config.weight_ports * config.weight_port_bytes(k_words, column_tiles)
        memory = np.frombuffer(packed + b"\x55" * 100, np.int8)
        found = unpack_weights(config, memory, outputs, k_words)
        assert found.shape == (outputs, k_words * config.pe_depth) and found.dtype == np.int8
        np.testing.assert_array_equal(found[:, :inputs], weights)
        assert not found[:, inputs:].any()


def test_parameters_survive_and_lie_as_the_machine_reads_them(rng: np.random.Generator):
    config = find_preset("nano")
    layout = parameter_layout(config)
    for outputs in (1, config.cols, 2 * config.cols + 1):
        channels = Parameters(
            rng.integers(-(1 << 31), 1 << 31, outputs), rng.integers(0, 1 << 16, outputs), rng.integers(0, 1 << 8, outputs)
        )
        packed = pack_parameters(config, channels)
        assert len(packed) == ceil_div(outputs, config.cols) * config.cols * PARAMETER_BYTES
        for expected, found in zip(channels, unpack_parameters(np.frombuffer(packed, np.int8), outputs), strict=True):
            np.testing.assert_array_equal(found, expected)
        for index in range(outputs):
            entry = layout.from_bits(int.from_bytes(packed[PARAMETER_BYTES * index :][:PARAMETER_BYTES], "little"))
            assert [entry.bias, entry.multiplier, entry.shift] == [values[index] for values in channels]
        assert not any(packed[PARAMETER_BYTES * outputs :])


def test_equal_regions_are_stored_once_and_offsets_move_behind_the_descriptors():
    config = find_preset("nano")
    image = ProgramImage(config)
    first, second, again = image.add("a", b"1"), image.add("b", b"22"), image.add("c", b"1")
    assert (first, second, again) == (0, config.axi_bytes, 0)
    memory, regions = image.finish([Descriptor(Opcode.LOAD, {"address": second, "base": 16})])
    assert memory[DESCRIPTOR_BYTES:] == b"1".ljust(config.axi_bytes, b"\0") + b"22".ljust(config.axi_bytes, b"\0")
    moved = Descriptor.decode(memory[:DESCRIPTOR_BYTES])
    assert (moved.address, moved.base) == (DESCRIPTOR_BYTES + config.axi_bytes, 16)
    assert regions == (("descriptors", 0, 64), ("a", 64, 1), ("b", 64 + config.axi_bytes, 2), ("c", 64, 1))


def test_a_program_must_fit_the_address_space():
    image = ProgramImage(find_preset("nano").with_fields("address_width=16"))
    image.add("weights", bytes(1 << 16))
    with pytest.raises(InputError, match="address_width must be at least 17 for this network"):
        image.finish([Descriptor(Opcode.END, {"classes": 1})])

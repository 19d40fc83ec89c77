"""The bytes of a Program: weights and parameters packed and unpacked, and the regions behind the descriptors."""

from typing import NamedTuple, Protocol

import numpy as np

from hw.config import PARAMETER_BYTES, AcceleratorConfig, ceil_div
from hw.errors import InputError
from hw.isa import DESCRIPTOR_BYTES, Descriptor

PARAMETER = np.dtype([("bias", "<i4"), ("multiplier", "<u2"), ("shift", "u1"), ("reserved", "u1")])
"""Requantization parameters of one output channel; `hw.commands.parameter_layout` is the RTL's view of the same bytes."""
assert PARAMETER.itemsize == PARAMETER_BYTES


def pack_weights(config: AcceleratorConfig, weights: np.ndarray) -> bytes:
    """Weights as the ports stream them: one region of `weight_port_bytes` per port, in port order.

    Args:
        config: the machine.
        weights: int8 [outputs, inputs].
    """
    outputs, inputs = weights.shape
    column_tiles, k_words = ceil_div(outputs, config.cols), ceil_div(inputs, config.pe_depth)
    padded = np.zeros((column_tiles * config.cols, k_words * config.pe_depth), np.int8)
    padded[:outputs, :inputs] = weights
    ports, beat_columns = config.weight_ports, config.columns_per_beat
    slots = config.groups_per_port * ports * beat_columns
    columns = np.zeros((column_tiles, slots, k_words, config.pe_depth), np.int8)
    columns[:, : config.cols] = padded.reshape(column_tiles, config.cols, k_words, config.pe_depth)
    # Column (group * ports + port) * beat_columns + j.
    grouped = columns.reshape(column_tiles, config.groups_per_port, ports, beat_columns, k_words, config.pe_depth)
    streams = grouped.transpose(2, 0, 4, 1, 3, 5).reshape(ports, -1)
    size = config.weight_port_bytes(k_words, column_tiles)
    return b"".join(stream.tobytes().ljust(size, b"\0") for stream in streams)


def unpack_weights(config: AcceleratorConfig, memory: np.ndarray, outputs: int, k_words: int) -> np.ndarray:
    """What `pack_weights` packed, of words that are whole.

    Args:
        config: the machine.
        memory: int8, from the regions' first byte on.
        outputs: output channels.
        k_words: words of a dot product.

    Returns:
        int8 [outputs, k_words * pe_depth].
    """
    column_tiles = ceil_div(outputs, config.cols)
    size = config.weight_port_bytes(k_words, column_tiles)
    shape = (column_tiles, k_words, config.groups_per_port, config.columns_per_beat, config.pe_depth)
    ports = [memory[port * size :][: int(np.prod(shape))].reshape(shape) for port in range(config.weight_ports)]
    tiles = np.stack(ports, axis=3).reshape(column_tiles, k_words, -1, config.pe_depth)[:, :, : config.cols]
    return np.ascontiguousarray(tiles.transpose(0, 2, 1, 3).reshape(-1, k_words * config.pe_depth)[:outputs])


class Requantization(Protocol):
    """What has a bias, a multiplier and a shift for every output channel, integers [outputs]."""

    @property
    def bias(self) -> np.ndarray:
        """Added to the accumulator."""

    @property
    def multiplier(self) -> np.ndarray:
        """Unsigned, 16 bits."""

    @property
    def shift(self) -> np.ndarray:
        """0 to 63."""


class Parameters(NamedTuple):
    """Bias, multiplier and shift of every output channel, int64 [outputs] each."""

    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray


def pack_parameters(config: AcceleratorConfig, channels: Requantization) -> bytes:
    """Bias, multiplier and shift of every output channel, 8 bytes each, padded to whole column tiles."""
    outputs = len(channels.bias)
    entries = np.zeros(ceil_div(outputs, config.cols) * config.cols, PARAMETER)
    for name in Parameters._fields:
        entries[name][:outputs] = getattr(channels, name)
    return entries.tobytes()


def unpack_parameters(memory: np.ndarray, outputs: int) -> Parameters:
    """What `pack_parameters` packed; ``memory`` is of bytes, from the first one on."""
    entries = np.frombuffer(memory[: outputs * PARAMETER_BYTES].tobytes(), PARAMETER)
    return Parameters(*(entries[name].astype(np.int64) for name in Parameters._fields))


class Offset(int):
    """A byte offset counted from the first region; `ProgramImage.finish` adds the descriptors' bytes."""


class ProgramImage:
    """Collects regions; a content that is there already is stored once, so networks with common weights share them."""

    def __init__(self, config: AcceleratorConfig) -> None:
        """Start without regions, for a Program of ``config``."""
        self._config = config
        self._size = 0
        self._parts: list[bytes] = []
        self._offsets: dict[bytes, int] = {}
        self._regions: dict[tuple[str, int, int], None] = {}

    def _aligned(self, size: int) -> int:
        return ceil_div(size, self._config.axi_bytes) * self._config.axi_bytes

    def add(self, name: str, content: bytes) -> Offset:
        """Return the offset of a region with this content."""
        if content not in self._offsets:
            self._offsets[content] = self._size
            self._parts.append(content.ljust(self._aligned(len(content)), b"\0"))
            self._size += len(self._parts[-1])
        offset = self._offsets[content]
        self._regions[name, offset, len(content)] = None
        return Offset(offset)

    def finish(self, descriptors: list[Descriptor]) -> tuple[bytes, tuple[tuple[str, int, int], ...]]:
        """Return the memory block and its regions, the descriptors' first.

        Raises:
            InputError: the Program leaves the address space.
        """
        head_bytes = len(descriptors) * DESCRIPTOR_BYTES
        start = self._aligned(head_bytes)
        limit = min(32, self._config.address_width)
        if start + self._size > 1 << limit:
            need = (start + self._size - 1).bit_length()
            raise InputError(f"address_width must be at least {need} for this network (and 32 at most), not {limit}")
        head = b"".join(_relocated(descriptor, start).encode() for descriptor in descriptors)
        moved = ((name, offset + start, size) for name, offset, size in self._regions)
        return b"".join([head.ljust(start, b"\0"), *self._parts]), (("descriptors", 0, head_bytes), *moved)


def _relocated(descriptor: Descriptor, start: int) -> Descriptor:
    fields = {name: value + start if isinstance(value, Offset) else value for name, value in descriptor.fields.items()}
    return Descriptor(descriptor.opcode, fields)

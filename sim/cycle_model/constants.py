"""What the cycle model must know of a machine and its memory: every number comes from `hw`, none is told twice."""

import ctypes
from functools import cache

from hw.config import PARAMETER_BYTES, TABLE_ENTRIES, TABLE_SLOTS, AcceleratorConfig
from hw.control.descriptor_check import CHECK_CYCLES
from hw.control.gate import EVALUATE_CYCLES
from hw.isa import Opcode, Post
from hw.memory.axi import BOUNDARY
from hw.memory.jobs import JobKind
from hw.memory.side_loader import PLACEMENTS
from hw.memory.word_placer import ROWS_MARGIN
from hw.memory_timing import MemoryTiming
from hw.timing import FEED_LATENCY, NORM_LATENCY, SOFTMAX_LATENCY, STATISTICS_LATENCY, Timing

IMAGE_START = 2
"""Cycle of the image's start; the batch's first busy cycle is 0."""
FLUSH_CYCLES = 2
"""Cycles from the first one of a flush to its end, if everything is idle."""

_OPCODES, _POSTS = max(Opcode) + 1, max(Post) + 1

FIELDS: tuple[tuple[str, int], ...] = (
    *((name, 1) for name in (
        "rows", "cols", "pe_depth", "weight_words", "parameter_tiles", "groups_per_port", "weight_ports", "axi_bytes",
        "burst_beats", "outstanding", "queue_depth", "score_columns", "weight_write_bytes", "parameter_bytes", "table_entries",
        "burst_boundary",
        "placements", "table_slots", "rows_margin", "job_parameters", "job_table", "job_rows", "image_start", "flush_cycles",
        "evaluate_cycles", "drain_latency", "weight_release", "parameter_release", "residual_settle", "norm_steps", "norm_latency",
        "statistics_latency", "softmax_latency", "exp_units", "gathers", "look_back",
        "memory_latency", "bytes_per_cycle", "memory_outstanding",
    )),
    ("check_cycles", _OPCODES), ("settle", _POSTS), ("intervals", 4 * _POSTS), ("table_delays", 2),
)  # fmt: skip
"""Members of the C++ struct `Constants`: name and count of 64-bit integers."""


class Constants(ctypes.Structure):
    """The struct as the library takes it."""

    _fields_ = [(name, ctypes.c_int64 * count if count > 1 else ctypes.c_int64) for name, count in FIELDS]


def constants_header() -> str:
    """``constants.hpp``: the struct's definition in C++."""
    members = [f"    std::int64_t {name}{f'[{count}]' if count > 1 else ''};" for name, count in FIELDS]
    return "\n".join(["#pragma once", "#include <cstdint>", "", "struct Constants {", *members, "};", ""])


@cache
def machine_constants(config: AcceleratorConfig, memory: MemoryTiming) -> Constants:
    """The numbers of a machine and its memory."""
    timing = Timing(config)
    intervals = [
        timing.drain_interval(Post(post), reciprocal, sends=sends)
        for post in range(_POSTS)
        for reciprocal in (False, True)
        for sends in (False, True)
    ]
    own: dict[str, int | list[int]] = {name: getattr(config, name) for name, _ in FIELDS if hasattr(config, name)}
    values = own | {
        "weight_write_bytes": config.columns_per_beat * config.pe_depth,
        "parameter_bytes": PARAMETER_BYTES,
        "table_entries": TABLE_ENTRIES,
        "burst_boundary": BOUNDARY,
        "placements": PLACEMENTS,
        "table_slots": TABLE_SLOTS,
        "rows_margin": ROWS_MARGIN,
        "job_parameters": JobKind.PARAMETERS,
        "job_table": JobKind.TABLE,
        "job_rows": JobKind.ROWS,
        "image_start": IMAGE_START,
        "flush_cycles": FLUSH_CYCLES,
        "evaluate_cycles": EVALUATE_CYCLES,
        "check_cycles": [CHECK_CYCLES[Opcode(number)] if number in CHECK_CYCLES else 0 for number in range(_OPCODES)],
        "settle": [timing.settle(Post(post)) for post in range(_POSTS)],
        "intervals": intervals,
        "drain_latency": timing.drain_latency,
        "weight_release": FEED_LATENCY + config.pairs + 3,
        "parameter_release": timing.drain_latency - 4 + 3 + config.cols,
        "residual_settle": timing.residual_settle,
        "norm_steps": config.pe_depth // config.norm_elements,
        "norm_latency": NORM_LATENCY,
        "statistics_latency": STATISTICS_LATENCY,
        "softmax_latency": SOFTMAX_LATENCY,
        "table_delays": [timing.settle(Post.ACTIVATION), (SOFTMAX_LATENCY if config.softmax_pass else FEED_LATENCY) + config.rows],
        "look_back": max(intervals) + 64,
        "memory_latency": memory.latency,
        "bytes_per_cycle": memory.bytes_per_cycle,
        "memory_outstanding": memory.outstanding,
    }  # fmt: skip
    result = Constants()
    for name, count in FIELDS:
        value = values[name]
        setattr(result, name, (ctypes.c_int64 * count)(*value) if isinstance(value, list) else value)
    return result

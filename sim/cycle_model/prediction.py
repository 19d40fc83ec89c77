"""Cycles and counters of images without their RTL."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.errors import InputError
from hw.isa import COUNTERS, DESCRIPTOR_BYTES, FLAG_ATTENTION, FLAG_HIGH, Opcode
from hw.memory_timing import MemoryTiming
from hw.program import Program
from sim.cycle_model.constants import machine_constants
from sim.cycle_model.native import every_mask, walk

MOST_ENCODERS = 20
"""Encoders of a network whose every mask is walked: the answer has 2^encoders rows."""


@dataclass(frozen=True)
class Prediction:
    """One image alone in its batch.

    Attributes:
        cycles: Busy cycles, as the counter of that name.
        counters: All of `isa.COUNTERS`, by name.
    """

    cycles: int
    counters: dict[str, int]


def _opcodes(program: Program) -> NDArray[np.uint8]:
    heads = np.frombuffer(program.memory, np.uint8, program.descriptor_count * DESCRIPTOR_BYTES)
    return heads.reshape(-1, DESCRIPTOR_BYTES)[:, :4]


def predict(
    program: Program,
    memory_timing: MemoryTiming | None = None,
    *,
    path_masks: tuple[int, int] | None = None,
    exits_low: bool = False,
) -> Prediction:
    """Cycles and counters of one image, equal to the RTL's.

    Args:
        program: The Program; it must be a good one: what the machine answers with an error is not modelled.
        memory_timing: Of the memory.
        path_masks: (low, high) masks of kept attentions; the Program's own when None.
        exits_low: Whether the image leaves at the first gate.

    Raises:
        BuildError: When the model cannot be compiled.
        InputError: When the image is to leave at a gate that the Program does not have.
    """
    masks = program.path_masks if path_masks is None else path_masks
    if exits_low and not np.any(_opcodes(program)[:, 0] == Opcode.GATE):
        raise InputError("An image exits low only in a Program with a gate, got one without")
    constants = machine_constants(program.config, memory_timing or MemoryTiming())
    counters = walk(constants, program.memory, program.descriptor_count, masks, exits_low)
    named = {name: int(value) for (name, _), value in zip(COUNTERS, counters, strict=True)}
    return Prediction(named["cycles"], named)


def predict_every_mask(program: Program, memory_timing: MemoryTiming | None = None) -> NDArray[np.int64]:
    """Counters of one image for every mask of kept attentions, each equal to `predict`'s.

    An encoder's cost depends on what the encoders before it have left in queues, buffers and memory. The machine is walked
    once from every such state to the same point of the next encoder, with and without its attention; masks that lead to the
    same state share what follows. Few states differ, because the prefetch fills up within an encoder.

    Args:
        program: Of one network, without a gate.
        memory_timing: Of the memory.

    Returns:
        int64 [2^encoders, counters] by mask (bit i: attention i is kept), in the order of `isa.COUNTERS`.

    Raises:
        BuildError: When the model cannot be compiled.
        InputError: For a Program with a gate, without attention, or with more than MOST_ENCODERS encoders.
    """
    heads = _opcodes(program)
    attention = np.flatnonzero(heads[:, 1] & FLAG_ATTENTION)
    encoders, seams = np.unique(heads[attention, 2], return_index=True)
    in_order = np.array_equal(encoders, np.arange(len(encoders))) and np.all(np.diff(heads[attention, 2].astype(int)) >= 0)
    if np.any(heads[:, 0] == Opcode.GATE) or np.any(heads[:, 1] & FLAG_HIGH) or not len(encoders) or not in_order:
        raise InputError("Every mask is walked of a Program of one network, its encoders in order, without a gate")
    if len(encoders) > MOST_ENCODERS:
        raise InputError(f"Every mask is walked of at most {MOST_ENCODERS} encoders, not {len(encoders)}")
    constants = machine_constants(program.config, memory_timing or MemoryTiming())
    return every_mask(constants, program.memory, program.descriptor_count, attention[seams].tolist())[0]

"""What a Program must cost by its descriptors alone: the machine's counters have to agree."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hw.config import PARAMETER_BYTES, TABLE_ENTRIES
from hw.isa import (
    DESCRIPTOR_BYTES,
    FLAG_ATTENTION,
    FLAG_EXP,
    FLAG_HIGH,
    FLAG_KV,
    FLAG_PER_COLUMN,
    Descriptor,
    Opcode,
    Operation,
    Post,
)
from hw.program import Program


def operation_cycles(counters: Mapping[str, int]) -> dict[str, int]:
    """Busy cycles by operation, from the machine's counters; operations that did not occur have 0."""
    return {op.name.lower(): counters[f"operation_{op.name.lower()}"] for op in Operation}


@dataclass
class ProgramCounts:
    """Counts of one image.

    Attributes:
        macs: Multiply-accumulates of GEMMs, without padding; of a stem's convolutions without those of halos, which several
            rows do.
        array_cycles: Words fed to row 0, as the counter of that name.
        attention_array_cycles: Of these, words of descriptors that belong to an attention.
        tiles: Tiles issued.
        weight_bytes: Bytes that the weight ports read.
        descriptors: Descriptors executed.
        descriptors_skipped: Descriptors dropped by a path mask.
    """

    macs: int = 0
    array_cycles: int = 0
    attention_array_cycles: int = 0
    tiles: int = 0
    weight_bytes: int = 0
    descriptors: int = 0
    descriptors_skipped: int = 0

    def counters(self) -> dict[str, int]:
        """The counts that are counters of the machine, by name."""
        return {name: value for name, value in vars(self).items() if name != "macs"}


@dataclass
class OperationCounts:
    """Counts of one image that belong to one operation.

    Attributes:
        macs: Multiply-accumulates of GEMMs, without padding.
        array_cycles: Words fed to row 0.
        tiles: Tiles issued.
        norm_cycles: Cycles of normalise passes.
        exps: Exps looked up, those of padding included where the feed looks them up.
        residual_bytes: Bytes that the residual banks read and write: 2 per element of a normalise pass; 2 read and 2 x 2 written
            per element that a GEMM adds.
        bytes: Bytes of descriptors, weights, parameters, tables and rows, without what alignment adds.
    """

    macs: int = 0
    array_cycles: int = 0
    tiles: int = 0
    norm_cycles: int = 0
    exps: int = 0
    residual_bytes: int = 0
    bytes: int = 0


def _until_exit(program: Program, exit_low: bool) -> Iterator[Descriptor]:
    for descriptor in program.descriptors():
        yield descriptor
        if descriptor.opcode == Opcode.END or (exit_low and descriptor.opcode == Opcode.GATE):
            return


def _executed(program: Program, path_masks: tuple[int, int] | None, exit_low: bool) -> Iterator[tuple[Descriptor, bool]]:
    """Descriptors up to the exit, each with whether the path masks keep it."""
    masks = program.path_masks if path_masks is None else path_masks
    for d in _until_exit(program, exit_low):
        yield d, not d.flags & FLAG_ATTENTION or bool(masks[1 if d.flags & FLAG_HIGH else 0] >> d.encoder & 1)


def _macs(d: Descriptor) -> int:
    """Multiply-accumulates of a GEMM, without padding."""
    return d.tokens * d.columns * d.k_elements


def _weight_bytes(program: Program, d: Descriptor) -> int:
    """Bytes that the weight ports read for a GEMM."""
    if d.flags & FLAG_KV:
        return 0
    config = program.config
    passes = 1 if d.resident else d.row_tiles
    return passes * config.weight_ports * config.weight_port_bytes(d.k_words, d.column_tiles)


def count_program(program: Program, path_masks: tuple[int, int] | None = None, *, exit_low: bool = False) -> ProgramCounts:
    """Count one image.

    Args:
        program: The Program.
        path_masks: (low, high) masks of kept attentions; the Program's own when None.
        exit_low: Whether the image leaves at the first gate.
    """
    counts, stems = ProgramCounts(), set()
    for d, kept in _executed(program, path_masks, exit_low):
        if not kept:
            counts.descriptors_skipped += 1
            continue
        counts.descriptors += 1
        if d.opcode != Opcode.GEMM:
            continue
        if d.operation == Operation.EMBEDDING:
            stems.add(bool(d.flags & FLAG_HIGH))
        tiles = d.column_tiles * d.row_tiles
        counts.macs += _macs(d)
        counts.tiles += tiles
        counts.array_cycles += tiles * d.k_words
        counts.attention_array_cycles += bool(d.flags & FLAG_ATTENTION) * tiles * d.k_words
        counts.weight_bytes += _weight_bytes(program, d)
    counts.macs -= len(stems) * program.redundant_macs
    return counts


def count_operations(
    program: Program, path_masks: tuple[int, int] | None = None, *, exit_low: bool = False
) -> dict[str, OperationCounts]:
    """Counts of one image by operation, every `isa.Operation` by its name in small letters; arguments as `count_program`."""
    config = program.config
    counts = {operation.name.lower(): OperationCounts() for operation in Operation}
    for d, kept in _executed(program, path_masks, exit_low):
        part = counts[Operation(d.operation).name.lower()]
        part.bytes += DESCRIPTOR_BYTES
        if not kept:
            continue
        if d.opcode == Opcode.LOAD:
            part.bytes += d.tokens_outer * d.tokens_inner * d.segments * d.segment_bytes
        elif d.opcode == Opcode.NORM:
            elements = d.row_tiles * d.words * config.pe_depth * config.rows
            part.norm_cycles += elements // (config.rows * config.norm_elements)
            part.residual_bytes += 2 * elements
        elif d.opcode == Opcode.SOFTMAX:
            part.exps += d.tokens * d.keys
            part.bytes += TABLE_ENTRIES
        elif d.opcode == Opcode.GEMM:
            tiles = d.column_tiles * d.row_tiles
            part.macs += _macs(d)
            part.array_cycles += tiles * d.k_words
            part.tiles += tiles
            part.bytes += _weight_bytes(program, d)
            if d.flags & FLAG_PER_COLUMN:
                part.bytes += (1 if d.resident else d.row_tiles) * d.column_tiles * config.cols * PARAMETER_BYTES
            exponential = d.flags & FLAG_EXP and not config.softmax_pass
            if exponential or d.post == Post.ACTIVATION:
                part.bytes += TABLE_ENTRIES
            if exponential:
                part.exps += tiles * d.k_words * config.rows * config.pe_depth
            if d.post == Post.RESIDUAL:
                part.residual_bytes += 6 * d.row_tiles * config.rows * d.columns
    return counts

"""What a Program must cost by its descriptors alone: the machine's counters have to agree."""

from collections.abc import Iterator
from dataclasses import dataclass

from hw.isa import FLAG_ATTENTION, FLAG_HIGH, FLAG_KV, Descriptor, Opcode
from hw.program import Program


@dataclass
class ProgramCounts:
    """Counts of one image.

    Attributes:
        macs: Multiply-accumulates of GEMMs, without padding.
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


def _until_exit(program: Program, exit_low: bool) -> Iterator[Descriptor]:
    for descriptor in program.descriptors():
        yield descriptor
        if descriptor.opcode == Opcode.END or (exit_low and descriptor.opcode == Opcode.GATE):
            return


def count_program(program: Program, path_masks: tuple[int, int] | None = None, *, exit_low: bool = False) -> ProgramCounts:
    """Count one image.

    Args:
        program: The Program.
        path_masks: (low, high) masks of kept attentions; the Program's own when None.
        exit_low: Whether the image leaves at the first gate.
    """
    masks = program.path_masks if path_masks is None else path_masks
    config, counts = program.config, ProgramCounts()
    for d in _until_exit(program, exit_low):
        attention = bool(d.flags & FLAG_ATTENTION)
        if attention and not masks[1 if d.flags & FLAG_HIGH else 0] >> d.encoder & 1:
            counts.descriptors_skipped += 1
            continue
        counts.descriptors += 1
        if d.opcode != Opcode.GEMM:
            continue
        tiles = d.column_tiles * d.row_tiles
        counts.macs += d.tokens * d.columns * d.k_elements
        counts.tiles += tiles
        counts.array_cycles += tiles * d.k_words
        counts.attention_array_cycles += attention * tiles * d.k_words
        if not d.flags & FLAG_KV:
            passes = 1 if d.resident else d.row_tiles
            counts.weight_bytes += passes * config.weight_ports * config.weight_port_bytes(d.k_words, d.column_tiles)
    return counts

"""What the side loader is asked for, and what its parts tell each other."""

from enum import IntEnum

from amaranth.lib import data
from amaranth.utils import bits_for

from hw import commands, isa
from hw.config import PARAMETER_BYTES, AcceleratorConfig


class JobKind(IntEnum):
    """What a job of the side loader reads."""

    PARAMETERS = 0
    """``column_tiles * cols`` entries of 8 bytes to the parameter ring."""
    TABLE = 1
    """256 bytes to an exp or activation table."""
    ROWS = 2
    """Token rows of a LOAD."""


WORD_SIZES = 4
"""Word sizes of the side loader: by `JobKind`, then residual rows."""


def word_bytes(config: AcceleratorConfig) -> list[int]:
    """Bytes of a word by size index: parameter entry, table entry, activation word, residual word."""
    return [PARAMETER_BYTES, 1, config.pe_depth, 2 * config.pe_depth]


def rows_layout() -> data.StructLayout:
    """The fields of a LOAD that the side loader needs, with the widths of `isa.DESCRIPTOR_FIELDS`: base to segment_words."""
    fields = isa.DESCRIPTOR_FIELDS[isa.Opcode.LOAD]
    names = [name for name, _, _ in fields]
    return data.StructLayout({name: 8 * size for name, size, _ in fields[names.index("base") :]})


def side_job(config: AcceleratorConfig) -> data.StructLayout:
    """One job; ``address`` is absolute. PARAMETERS: ``column_tiles``, read ``repeats`` times (at least 1) one behind the other.
    TABLE: ``exponential``. ROWS: ``rows``, ``contiguous`` (`isa.FLAG_CONTIGUOUS`) and ``limit``, the absolute address after the
    last byte that may be read. PARAMETERS and TABLE addresses are aligned to a beat."""
    return data.StructLayout(
        {
            "kind": 2,
            "address": config.address_width,
            "limit": config.address_width + 1,
            "column_tiles": 16,
            "repeats": 16,
            "exponential": 1,
            "contiguous": 1,
            "rows": rows_layout(),
        }
    )


def placement_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Where a job's words go: ``base`` is the word of row 0's bank that the first token's row tile starts at.

    Words come in runs of ``segments`` times ``tokens`` segments: all tokens' first segments, then their second ones, and so on.
    A segment has ``segment_words`` words if ``contiguous``; else tokens and segments are 1 and its last word is marked.
    """
    return data.StructLayout(
        {
            "kind": 2,
            "exponential": 1,
            "target": 1,
            "base": commands.bank_address_width(config),
            "stride": commands.bank_address_width(config),
            "row": commands.index_width(config.rows),
            "contiguous": 1,
            "tokens": bits_for(config.max_tokens),
            "segments": 16,
            "segment_words": commands.bank_address_width(config) + 1,
        }
    )


def record_layout(config: AcceleratorConfig) -> data.StructLayout:
    """``address`` of a record, aligned to a beat, and its head's fields, as in `isa.RECORD_FIELDS`."""
    return data.StructLayout(
        {
            "address": config.address_width,
            "exit": 32,
            "entropy": 32,
            "gate_entropy": 32,
            "top1": 16,
            "classes": 16,  # 1 to config.classes
            "cycles": 32,
        }
    )

"""Descriptors, registers, records and error codes: the one source for RTL, compiler, C header and documentation.

A descriptor is 64 bytes, little-endian. `DESCRIPTOR_FIELDS` gives every operation's fields as (name, bytes, meaning) in
order after the common head; `Descriptor` encodes and decodes them, `descriptor_layout` is the RTL's view of the same bytes.
"""

from dataclasses import dataclass, field
from enum import IntEnum, unique
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amaranth.lib import data

DESCRIPTOR_BYTES = 64


@unique
class Opcode(IntEnum):
    """What a descriptor does."""

    END = 1
    """Write the result record and finish the image."""
    GATE = 2
    """Finish the image as END does if the logits' entropy is at most the threshold, else go on."""
    LOAD = 3
    """Strided DMA of token rows into the activation or residual banks; gathers patches (im2col)."""
    NORM = 4
    """LayerNorm's normalise pass, residual banks to normalised banks, row tile by row tile beside the GEMMs around it."""
    GEMM = 5
    """Matrix product with everything fused into feeding and draining; streams its own weights, parameters and table."""
    SOFTMAX = 6
    """Scores in the activation banks become exp(row maximum - score) in place; only where `exp_units` is limited. Streams its own
    table; waits for all before it, and all behind it waits for its end."""


@unique
class Post(IntEnum):
    """What a lane does with a drained column of a GEMM."""

    REQUANT = 0
    """int8 to the activation bank."""
    ACTIVATION = 1
    """int8, through the activation table, to the activation bank."""
    RESIDUAL = 2
    """int16 added with saturation to the residual bank; LayerNorm statistics follow the sum."""
    SCORE = 3
    """int8 to the activation bank; the row maximum follows."""
    KEY = 4
    """int8 to the K buffer: a token's channels are words of one column bank."""
    VALUE = 5
    """int8 to the V buffer: a token's channels are one byte in each column bank."""
    LOGITS = 6
    """24 bits, unit 2^-12 nat, of row 0 to the gate."""


@unique
class Operation(IntEnum):
    """Class that the cycles of a descriptor are counted under; tags GEMMs for the delay split."""

    OTHER = 0
    EMBEDDING = 1
    NORM = 2
    QKV = 3
    SCORES = 4
    SOFTMAX = 5
    CONTEXT = 6
    PROJECTION = 7
    MLP = 8
    HEAD = 9
    GATE = 10


@unique
class Target(IntEnum):
    """Where a LOAD writes."""

    ACTIVATION = 0
    RESIDUAL = 1


FLAG_WAIT = 1 << 0
"""Issue only when the array, the lanes and the collector are empty (all but GEMM and NORM always wait, for the NORM too).
NORM: begin no statistics before every GEMM has settled."""
FLAG_ATTENTION = 1 << 1
"""Belongs to the attention of `encoder`: dropped at fetch when the path mask's bit is 0."""
FLAG_HIGH = 1 << 2
"""Use path mask 1 (high effort) in place of mask 0."""
FLAG_IMAGE = 1 << 3
"""LOAD: the address counts from the image, not from the Program."""
FLAG_KV = 1 << 4
"""GEMM: the weight side reads the K and V buffer, not the weight ring."""
FLAG_EXP = 1 << 5
"""GEMM: the feed applies exp(row maximum - score), or, where a SOFTMAX has done so, feeds the exps as they are; the drain
multiplies by the reciprocal of the row's sum of exps."""
FLAG_PER_COLUMN = 1 << 6
"""GEMM: bias, multiplier and shift come per output channel from the parameter ring, else `multiplier` and `shift` and no bias.
Not with post SCORE."""
FLAG_NORMALIZED = 1 << 7
"""GEMM: the feed reads the normalised bank; a row tile is fed when the NORM before has written it. Not with post SCORE."""
FLAG_CONTIGUOUS = 1 << 4
"""LOAD: the inner tokens' segments with the same number lie one behind the other (`inner_stride` = `segment_bytes`) and are whole
words (`segment_words`): each such run is read as one."""

_HEAD = (
    ("opcode", 1, "an `Opcode`"),
    ("flags", 1, "`FLAG_*` bits"),
    ("encoder", 1, "encoder that an attention descriptor belongs to, 0 to 31"),
    ("operation", 1, "an `Operation`: class that its cycles are counted under"),
)

_FIELDS: dict[Opcode, tuple[tuple[str, int, str], ...]] = {
    Opcode.END: (("classes", 2, "logits in the record, 1 to `classes` of the configuration"),),
    Opcode.GATE: (("classes", 2, "logits, 1 to `classes` of the configuration"),),
    Opcode.LOAD: (
        ("address", 4, "byte offset of the first segment, from the Program or the image"),
        ("base", 2, "word of the bank that token 0 of a row tile starts at"),
        ("stride", 2, "words from one row tile to the next"),
        ("first_row", 2, "row of the first token, below `rows`"),
        ("first_row_tile", 2, "row tile of the first token"),
        ("target", 2, "a `Target`"),
        ("segment_bytes", 2, "contiguous bytes of a segment, at least 1"),
        ("segments", 2, "segments of a token, at least 1"),
        ("tokens_inner", 2, "tokens of the inner loop, at least 1"),
        ("tokens_outer", 2, "runs of the outer loop, at least 1; tokens = inner x outer"),
        ("segment_stride", 4, "bytes from a segment to the next one of the same token"),
        ("inner_stride", 4, "bytes from a token to the next of the inner loop"),
        ("outer_stride", 4, "bytes from a run to the next"),
        ("segment_words", 2, "with FLAG_CONTIGUOUS: bank words of a segment"),
    ),
    Opcode.NORM: (
        ("base", 2, "normalised word that row tile 0 is written to"),
        ("stride", 2, "normalised words from one row tile to the next"),
        ("source_base", 2, "residual word of row tile 0"),
        ("source_stride", 2, "residual words from one row tile to the next"),
        ("words", 2, "words per token, ceil(channels / pe_depth)"),
        ("channels", 2, "channels n of a token, 1 to 4095"),
        ("row_tiles", 2, "row tiles"),
        ("inverse", 2, "round(2^inverse_shift / n), in [2^15, 2^16)"),
        ("inverse_shift", 1, "shift of `inverse`"),
        ("shift", 1, "shift of the normalised output, before the root's exponent is added"),
        ("multiplier", 2, "output scale's mantissa, in [2^15, 2^16)"),
        ("epsilon", 4, "n^2 * epsilon in squared residual units, at least 1"),
        ("first_row_tile", 2, "statistics of row tile i are number first_row_tile + i"),
    ),
    Opcode.GEMM: (
        ("weights", 4, "byte offset of the weights: one region of `weight_port_bytes` per port, in port order"),
        ("parameters", 4, "byte offset of the parameters, column_tiles x cols entries of 8 bytes"),
        ("table", 4, "byte offset of the 256-byte activation or exp table, where one is used"),
        ("source_base", 2, "word of the activation or, with FLAG_NORMALIZED, normalised bank that row tile 0 is fed from"),
        ("source_stride", 2, "words from one row tile to the next"),
        ("base", 2, "destination word: of row tile 0 and channel 0; for KEY and VALUE a word of the K and V buffer"),
        ("stride", 2, "destination words from one row tile to the next; KEY: from one token tile of `cols` to the next; "
                      "VALUE: from one column tile to the next"),
        ("element", 1, "element of the destination word that channel 0 falls on, below `pe_depth`"),
        ("post", 1, "a `Post`"),
        ("k_words", 2, "words of `pe_depth` elements per dot product, ceil(k_elements / pe_depth)"),
        ("k_elements", 2, "elements per dot product; the feed zeroes the rest of the last word"),
        ("columns", 2, "output channels"),
        ("column_tiles", 2, "ceil(columns / cols)"),
        ("row_tiles", 2, "row tiles, ceil(tokens / rows): a token of every row each, or a pixel of every row's patch"),
        ("tokens", 2, "tokens; the collector drops rows beyond"),
        ("kv_base", 2, "K and V buffer word of column tile 0, with FLAG_KV"),
        ("multiplier", 2, "without FLAG_PER_COLUMN: requantization multiplier; with FLAG_EXP: the reciprocal's"),
        ("shift", 1, "without FLAG_PER_COLUMN: shift; with FLAG_EXP the sum's exponent is added to it"),
        ("resident", 2, "column tiles of a group: they stay in the ring while all row tiles pass (1: weight_major); "
                        "0: token_major, weights and parameters pass again for every row tile"),
        ("segment_words", 2, "words of a dot product that lie one behind the other; the last segment may have fewer, but must fit "
                             "whole; 0: all words are one segment; not with post KEY; with FLAG_NORMALIZED the GEMM waits for the "
                             "NORM's end"),
        ("segment_stride", 2, "words from a segment's first word to the next one's"),
        ("first_row_tile", 2, "row state (statistics, row maximum, reciprocal) of row tile i is number first_row_tile + i"),
        ("addend_base", 2, "RESIDUAL: word of row tile 0 and channel 0 that is added to, with the destination's stride and "
                           "element; `base` for an add in place"),
        ("blank_rows", 8, "REQUANT and ACTIVATION: bit r makes -128 of row r's requantized outputs, before the table"),
    ),
    Opcode.SOFTMAX: (
        ("table", 4, "byte offset of the 256-byte exp table"),
        ("base", 2, "activation word of row tile 0's first score"),
        ("stride", 2, "words from one row tile to the next"),
        ("keys", 2, "scores of a token, from element 0 of its first word on, at least 1"),
        ("row_tiles", 2, "row tiles, ceil(tokens / rows)"),
        ("tokens", 2, "tokens; other rows keep what they have"),
    ),
}  # fmt: skip

DESCRIPTOR_FIELDS: dict[Opcode, tuple[tuple[str, int, str], ...]] = {op: _HEAD + fields for op, fields in _FIELDS.items()}

_FIELD_NAMES = {op: frozenset(name for name, _, _ in fields) for op, fields in DESCRIPTOR_FIELDS.items()}


def descriptor_layout(opcode: Opcode) -> "data.StructLayout":
    """The RTL's view of a descriptor, 512 bits; padding is the field `reserved`, which must be zero."""
    from amaranth.lib import data  # hosts and benches, which load this file too, start faster without it

    members = {name: size * 8 for name, size, _ in DESCRIPTOR_FIELDS[opcode]}
    members["reserved"] = DESCRIPTOR_BYTES * 8 - sum(members.values())
    return data.StructLayout(members)


@dataclass(frozen=True)
class Descriptor:
    """One command of a Program: an opcode and its fields by name; fields left out are zero.

    Raises:
        ValueError: for a field that the operation does not have or a value that does not fit.
    """

    opcode: Opcode
    fields: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        sizes = {name: size for name, size, _ in DESCRIPTOR_FIELDS[self.opcode]}
        for name, value in self.fields.items():
            if name not in sizes or name == "opcode":
                raise ValueError(f"{self.opcode.name} has no field {name!r}")
            if not 0 <= value < 1 << (8 * sizes[name]):
                raise ValueError(f"{self.opcode.name}.{name} must fit {sizes[name]} unsigned bytes, not {value}")
        vars(self).update(dict.fromkeys(_FIELD_NAMES[self.opcode], 0) | self.fields | {"opcode": self.opcode})

    def __getattr__(self, name: str) -> int:
        raise AttributeError(f"{self.opcode.name} has no field {name!r}")

    def encode(self) -> bytes:
        """The descriptor's 64 bytes."""
        values = {**self.fields, "opcode": int(self.opcode)}
        parts = [int(values.get(name, 0)).to_bytes(size, "little") for name, size, _ in DESCRIPTOR_FIELDS[self.opcode]]
        return b"".join(parts).ljust(DESCRIPTOR_BYTES, b"\0")

    @staticmethod
    def decode(encoded: bytes) -> "Descriptor":
        """Descriptor of 64 bytes.

        Raises:
            ValueError: for an unknown opcode or a wrong length.
        """
        if len(encoded) != DESCRIPTOR_BYTES:
            raise ValueError(f"Descriptor must be {DESCRIPTOR_BYTES} bytes, not {len(encoded)}")
        opcode, values, position = Opcode(encoded[0]), {}, 0
        for name, size, _ in DESCRIPTOR_FIELDS[opcode]:
            values[name] = int.from_bytes(encoded[position : position + size], "little")
            position += size
        del values["opcode"]
        return Descriptor(opcode, values)


@unique
class Error(IntEnum):
    """Error codes in the status register; the descriptor's index stands beside them."""

    NONE = 0
    OPCODE = 1
    """Unknown opcode."""
    FIELD = 2
    """A field is zero or too large for the configuration, or a reserved byte is not zero."""
    ADDRESS = 3
    """A memory range leaves the Program or the image."""
    BUFFER = 4
    """A bank, buffer or ring is too small for the range that a descriptor names."""
    MISSING_END = 5
    """The Program ended without END."""
    AXI = 6
    """A memory port answered SLVERR or DECERR."""
    DEADLINE = 7
    """The image had not ended as many cycles after its start as the deadline register says."""
    START = 8
    """Start with an image count of 0, a Program size of 0, or a size that is no multiple of 64 for the descriptors."""


REGISTER_BITS: dict[str, tuple[tuple[str, int, int, str], ...]] = {
    "control": (("start", 0, 1, "start"), ("soft_reset", 1, 1, "soft reset"), ("clear_interrupt", 2, 1, "clear interrupt")),
    "status": (
        ("busy", 0, 1, "busy"),
        ("done", 1, 1, "done"),
        ("error", 2, 1, "error"),
        ("error_code", 8, 8, "`Error`"),
        ("descriptor_index", 16, 16, "descriptor index of the error"),
    ),
}
"""Fields of the registers that have several, ascending: (name, lowest bit, width in bits, meaning)."""


def _bits_meaning(register: str) -> str:
    fields = REGISTER_BITS[register]
    return "; ".join(f"bit {low} {text}" if size == 1 else f"bits {low + size - 1}:{low} {text}" for _, low, size, text in fields)


# name, access, meaning; 32-bit registers at consecutive word offsets
REGISTERS: tuple[tuple[str, str, str], ...] = (
    ("identity", "ro", "0x50495654, ASCII PIVT"),
    ("version", "ro", "interface version, 1"),
    ("control", "wo", _bits_meaning("control")),
    ("status", "ro", _bits_meaning("status")),
    ("interrupt_enable", "rw", "bit 0: raise the interrupt on done or error; after an error busy ends once the memory answered"),
    ("program_base_low", "rw", "Program address, bytes, 64-byte aligned"),
    ("program_base_high", "rw", "upper half"),
    ("program_bytes", "rw", "size of the Program, descriptors and data"),
    ("descriptor_count", "rw", "descriptors at the Program's start"),
    ("image_base_low", "rw", "first image, bytes, aligned to a beat"),
    ("image_base_high", "rw", "upper half"),
    ("image_stride", "rw", "bytes from an image to the next; also the size that a LOAD may read"),
    ("image_count", "rw", "images of the batch"),
    ("result_base_low", "rw", "first result record, bytes, aligned to a beat"),
    ("result_base_high", "rw", "upper half"),
    ("result_stride", "rw", "bytes from a record to the next"),
    ("path_mask_low", "rw", "bit i: the low-effort network keeps encoder i's attention"),
    ("path_mask_high", "rw", "bit i: the high-effort network keeps encoder i's attention"),
    ("threshold", "rw", "gate threshold, entropy in 2^-12 nat"),
    ("deadline", "rw", "cycles from an image's start after which it is an error unless all of it has ended; 0: none"),
    ("images_done", "ro", "result records written"),
)

# 32-bit read-only counters after the registers; cleared by start
COUNTERS: tuple[tuple[str, str], ...] = (
    ("cycles", "busy cycles of the batch"),
    ("array_cycles", "cycles in which a word is fed to row 0"),
    ("attention_array_cycles", "of these, words of descriptors that belong to an attention"),
    ("norm_cycles", "cycles in which elements are normalised"),
    ("gate_cycles", "cycles of entropy evaluations and record writes"),
    ("stall_weights", "cycles in which the issue waits for weights"),
    ("stall_parameters", "cycles in which the issue waits for parameters"),
    ("stall_table", "cycles in which the issue waits for a table"),
    ("stall_drain", "cycles in which the issue waits for the pipeline to empty"),
    ("stall_norm", "cycles in which the issue waits for a NORM"),
    ("stall_load", "cycles in which the issue waits for a LOAD"),
    ("stall_fetch", "cycles in which the issue waits for a descriptor"),
    ("tiles", "tiles issued"),
    ("descriptors", "descriptors executed"),
    ("descriptors_skipped", "descriptors dropped by a path mask"),
    ("weight_bytes", "bytes read by the weight ports"),
    ("system_bytes_read", "bytes read by the system port"),
    ("system_bytes_written", "bytes written by the system port"),
    ("exits_low", "images that left at a gate"),
) + tuple((f"operation_{op.name.lower()}", f"busy cycles while the issue works on {op.name}") for op in Operation)


def register_offset(name: str) -> int:
    """Byte offset of a register, or of a counter by its name.

    Raises:
        KeyError: for an unknown name.
    """
    names = [entry[0] for entry in REGISTERS] + [entry[0] for entry in COUNTERS]
    if name not in names:
        raise KeyError(name)
    return 4 * names.index(name)


NO_GATE = 0xFFFFFFFF
"""A record's `gate_entropy` where no gate was met."""

RECORD_FIELDS: tuple[tuple[str, str], ...] = (
    ("exit", "0: left at a gate; 1: at END"),
    ("entropy", "entropy of the logits below, in 2^-12 nat"),
    ("gate_entropy", "entropy that the last gate saw, in 2^-12 nat; 0xffffffff without a gate"),
    ("top1", "class with the greatest logit; the lowest such class"),
    ("classes", "logits that follow"),
    ("cycles", "cycles from the image's start to this record"),
    ("reserved0", "0"),
    ("reserved1", "0"),
)
"""Result record: eight 32-bit words, then `classes` logits as int32 in 2^-12 nat, padded with zeros to a beat."""

RECORD_HEAD_BYTES = 4 * len(RECORD_FIELDS)

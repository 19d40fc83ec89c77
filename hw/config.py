"""Parameters of the accelerator: what a user chooses, what follows from it, and which choices can work."""

from dataclasses import dataclass, fields, replace
from math import gcd
from typing import TYPE_CHECKING, TypeVar

from hw.assignments import parse_assignments
from hw.errors import InputError

if TYPE_CHECKING:
    import numpy as np

PARAMETER_BYTES = 8
"""Bytes of one output channel's requantization parameters in memory: bias int32, multiplier uint16, shift uint8, one pad byte."""

TABLE_ENTRIES = 256
"""Entries of an exp or activation table; one byte each."""

TABLE_SLOTS = 2
"""Tables of a kind held at a time: one in use, the next being written."""


def ceil_div(dividend: int, divisor: int) -> int:
    """Smallest integer that is at least ``dividend / divisor``."""
    return -(-dividend // divisor)


Cycles = TypeVar("Cycles", float, "np.ndarray")


def milliseconds(cycles: Cycles, clock_mhz: float) -> Cycles:
    """What cycles take."""
    return cycles / (clock_mhz * 1e3)


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """One machine: ``rows`` identical row slices, one weight side, one sequencer.

    Args:
        rows: row slices; each owns one token of a row tile.
        cols: columns of PEs (output channels of a column tile); columns 2p and 2p + 1 share packed products.
        pe_depth: int8 elements of a dot product per PE and cycle; also bytes of an activation or weight word.
        activation_words: words of ``pe_depth`` bytes in a row's activation bank.
        normalized_words: words of ``pe_depth`` bytes in a row's bank of normalised activations, which NORM writes.
        residual_words: words of ``pe_depth`` int16 in a row's residual bank.
        weight_words: words of ``pe_depth`` bytes in a column's weight ring.
        kv_words: words of ``pe_depth`` bytes in a column's K and V buffer.
        parameter_tiles: column tiles that the ring of requantization parameters holds.
        row_tiles: row tiles that a row keeps softmax and LayerNorm state for; ``tokens <= rows * row_tiles``.
        classes: logits that the gate holds.
        norm_elements: residual elements normalised per row and cycle; divides ``pe_depth``.
        weight_ports: AXI masters that stream weights; one more, the system port, does everything else.
        axi_bytes: bytes of an AXI data beat.
        burst_beats: most beats of one AXI burst.
        outstanding: most read bursts in flight per port.
        queue_depth: descriptors that may wait between fetch and each unit.
        address_width: bits of an AXI address.
        clock_mhz: clock that delays are stated for, in MHz; no timing closure is implied.
        exp_units: exps that the whole machine computes in a cycle, 1 to ``rows``, in a pass of its own (SOFTMAX); 0: as many as the
            rows feed in a cycle, ``rows * pe_depth``, on the way into P·V, without a pass.

    Raises:
        InputError: when a value cannot work; the message names the field, the rule and the value.
    """

    rows: int
    cols: int
    pe_depth: int
    activation_words: int
    residual_words: int
    weight_words: int
    kv_words: int
    parameter_tiles: int
    row_tiles: int
    classes: int
    normalized_words: int = 256
    norm_elements: int = 1
    weight_ports: int = 1
    axi_bytes: int = 16
    burst_beats: int = 16
    outstanding: int = 4
    queue_depth: int = 8
    address_width: int = 32
    clock_mhz: int = 200
    exp_units: int = 0

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "exp_units" else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{field.name} must be {'0 or ' if not least else ''}a positive integer, not {value!r}")
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} must be between {low} and {high}, not {getattr(self, name)}")
        if self.pe_depth % self.norm_elements:
            raise InputError(f"norm_elements must divide pe_depth ({self.pe_depth}), not {self.norm_elements}")
        if self.exp_units > self.rows:
            raise InputError(f"exp_units must be 0 or 1 to rows ({self.rows}), not {self.exp_units}")
        if self.axi_bytes not in (8, 16, 32, 64):
            raise InputError(f"axi_bytes must be 8, 16, 32 or 64, not {self.axi_bytes}")
        if self.burst_beats * self.axi_bytes > 4096:
            raise InputError(f"burst_beats times axi_bytes must be at most 4096, not {self.burst_beats * self.axi_bytes}")

    @property
    def pairs(self) -> int:
        """PE pairs per row; with an odd ``cols`` the last pair has one PE."""
        return ceil_div(self.cols, 2)

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates that the array does per cycle at most."""
        return self.rows * self.cols * self.pe_depth

    @property
    def accumulator_width(self) -> int:
        """Bits of an accumulator with its bias: 27 is the wide operand of a DSP48E2.

        |bias| + sum |w| * 128 must stay below 2^26 for every output channel; the compiler checks it.
        """
        return 27

    @property
    def max_tokens(self) -> int:
        """Tokens that the row state covers."""
        return self.rows * self.row_tiles

    @property
    def softmax_pass(self) -> bool:
        """Whether exps are computed in a pass of their own, not on the way into P·V."""
        return self.exp_units != 0

    @property
    def columns_per_beat(self) -> int:
        """Columns whose weight words a weight port writes in one cycle."""
        return max(1, min(self.cols, self.axi_bytes // self.pe_depth))

    @property
    def groups_per_port(self) -> int:
        """Groups of ``columns_per_beat`` columns that each weight port serves; group g of port m starts at column
        ``(g * weight_ports + m) * columns_per_beat``. Columns beyond ``cols`` are read and dropped."""
        return ceil_div(self.cols, self.columns_per_beat * self.weight_ports)

    @property
    def score_columns(self) -> int:
        """Columns of scores that drain per cycle and row: both of a pair where they always share an activation word, else one."""
        return 1 if self.cols % 2 or self.pe_depth % 2 else 2

    @property
    def key_slot_words(self) -> int:
        """Words of K that one slot of the collector holds: all of a tile's where a tile's channels are whole words."""
        return 1 if self.cols % self.pe_depth else self.cols // self.pe_depth

    @property
    def key_slots_per_tile(self) -> int:
        """Most collector slots per row that the ``cols`` channels of K of one tile take."""
        if self.cols % self.pe_depth == 0:
            return 1
        return ceil_div(self.cols + self.pe_depth - gcd(self.cols, self.pe_depth), self.pe_depth)

    @property
    def gathers(self) -> bool:
        """Whether bytes of K and V are gathered to words before they leave the rows: with one column a tile has only one byte of a
        token, so a row collects a token's word of K over column tiles, and the rows share a word of V."""
        return self.cols == 1 and self.pe_depth > 1

    def weight_port_bytes(self, k_words: int, column_tiles: int) -> int:
        """Bytes that one weight port reads for a GEMM, rounded up to whole beats."""
        size = k_words * column_tiles * self.groups_per_port * self.columns_per_beat * self.pe_depth
        return ceil_div(size, self.axi_bytes) * self.axi_bytes

    def with_fields(self, assignments: str) -> "AcceleratorConfig":
        """Copy with fields replaced, as ``--set rows=7,cols=1`` says.

        Raises:
            InputError: for an unknown field, a value that is not an integer, or a configuration that cannot work.
        """
        kinds = dict.fromkeys(sorted(field.name for field in fields(self)), int)
        return replace(self, **dict(parse_assignments(assignments, kinds, "--set")))


RANGES = {
    "rows": (1, 64),
    "cols": (1, 64),
    "pe_depth": (1, 64),
    "activation_words": (2, 1 << 16),
    "residual_words": (2, 1 << 16),
    "normalized_words": (2, 1 << 16),
    "weight_words": (2, 1 << 15),
    "kv_words": (2, 1 << 15),
    "parameter_tiles": (2, 1 << 12),
    "row_tiles": (1, 256),
    "classes": (1, 1024),
    "weight_ports": (1, 8),
    "burst_beats": (1, 256),
    "outstanding": (1, 64),
    "queue_depth": (2, 64),
    "address_width": (16, 64),
    "clock_mhz": (1, 1000),
}
"""Least and greatest value of fields."""

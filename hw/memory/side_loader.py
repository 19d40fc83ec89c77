"""Loads what is not weights: requantization parameters, tables, and the rows of a LOAD."""

from enum import IntEnum

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw import isa, tokens
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4ReadSignature
from hw.weights.parameter_ring import parameter_write


class JobKind(IntEnum):
    """What a job of the side loader reads."""

    PARAMETERS = 0
    """``column_tiles * cols`` entries of 8 bytes to the parameter ring."""
    TABLE = 1
    """256 bytes to an exp or GELU table."""
    ROWS = 2
    """Token rows of a LOAD."""


def rows_layout() -> data.StructLayout:
    """The fields of a LOAD that the side loader needs, with the widths of `isa.DESCRIPTOR_FIELDS`: base to outer_stride."""
    fields = isa.DESCRIPTOR_FIELDS[isa.Opcode.LOAD]
    names = [name for name, _, _ in fields]
    return data.StructLayout({name: 8 * size for name, size, _ in fields[names.index("base") :]})


def side_job(config: AcceleratorConfig) -> data.StructLayout:
    """One job; ``address`` is absolute. PARAMETERS: ``column_tiles``. TABLE: ``exponential``. ROWS: ``rows`` and ``limit``,
    the absolute address after the last byte that may be read. PARAMETERS and TABLE addresses are aligned to a beat."""
    return data.StructLayout(
        {
            "kind": 2,
            "address": config.address_width,
            "limit": config.address_width + 1,
            "column_tiles": 16,
            "exponential": 1,
            "rows": rows_layout(),
        }
    )


class SideLoader(wiring.Component):
    """Client of the system port's reads: a queue of ``queue_depth`` jobs, done strictly in order.

    A job that waits for room (a parameter slot, a table slot) or for `rows_go` holds up the jobs behind it, so a GEMM's
    TABLE must come before its PARAMETERS.

    Slots: the n-th column tile since reset goes to parameter slot ``n % parameter_tiles``; the n-th table of a kind to
    table slot ``n % 2``. A slot is taken when its first entry is written, given back by `parameter_release` or
    `table_release`.

    Members:
        job: stream of `side_job`.
        axi: AXI4 read master.
        parameter_write: `hw.weights.parameter_ring.parameter_write`, to `ParameterRing`.
        parameter_tile_done: pulse with the last entry of a slot; the ring may be read from the next cycle.
        parameter_release: pulse, oldest slot may be overwritten.
        table_write: `tokens.table_write` at row 0, moves down one row per cycle.
        table_done: pulse with a table's last entry; bit 0 GELU, bit 1 exp. A token of row 0 may use the slot from the next cycle.
        table_release: pulse, oldest table of the kind may be overwritten; bits as `table_done`.
        load: `tokens.load_word` at row 0, moves down one row per cycle.
        rows_go: pulse, the next ROWS job may start; it reads nothing before. At most one pulse per ROWS job.
        rows_done: pulse when all words of a ROWS job are in their banks, ``rows + 4`` cycles after the last word.
        address_error: pulse, a segment of a ROWS job would end beyond `limit`; nothing is read for it, and no later job starts
            until reset.
        abort, idle, error, beat_accepted: as `BurstReader`.
        busy: a job is in the queue or in work.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(side_job(config))),
                "axi": Out(AXI4ReadSignature(config.address_width, config.axi_bytes)),
                "parameter_write": Out(parameter_write(config)),
                "parameter_tile_done": Out(1),
                "parameter_release": In(1),
                "table_write": Out(tokens.table_write(config)),
                "table_done": Out(2),
                "table_release": In(2),
                "load": Out(tokens.load_word(config)),
                "rows_go": In(1),
                "rows_done": Out(1),
                "address_error": Out(1),
                "abort": In(1),
                "idle": Out(1),
                "error": Out(1),
                "busy": Out(1),
                "beat_accepted": Out(1),
            }
        )

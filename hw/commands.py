"""Words that travel between components: all waiting happens at issue, so a command once issued is never stalled.

Commands enter row 0 and move down one row per cycle, so every row does what the row above did one cycle before.
Each function returns the `StructLayout` for a configuration.
"""

from amaranth import signed, unsigned
from amaranth.lib import data
from amaranth.utils import bits_for

from hw import numerics
from hw.config import AcceleratorConfig


def index_width(count: int) -> int:
    """Bits that tell ``count`` things apart, at least 1."""
    return max(1, bits_for(count - 1))


def bank_address_width(config: AcceleratorConfig) -> int:
    """Bits of a word address in the activation, residual or K and V memories."""
    return index_width(max(config.activation_words, config.residual_words, config.kv_words))


def feed_command(config: AcceleratorConfig) -> data.StructLayout:
    """One word fed to a row: read the activation bank, multiply with the weight words that arrive with it."""
    return data.StructLayout(
        {
            "valid": 1,
            "first": 1,  # first word of the tile: accumulators restart
            "last": 1,  # last word of the tile: accumulators are captured and drained
            "normalized": 1,  # read the normalised bank, not the activation bank
            "wide": 1,  # with last: both columns of a pair drain in one slot (scores, where ``score_columns`` is 2)
            "exponential": 1,  # elements are scores: feed exp(row maximum - score); exps already with ``softmax_pass``
            "reciprocal": 1,  # with exponential: sum this tile's exps and divide at `last` (first column tile of the GEMM)
            "table_slot": 1,  # exp table to use; of no use with ``softmax_pass``
            "address": index_width(max(config.activation_words, config.normalized_words)),
            "elements": index_width(config.pe_depth + 1),  # elements of the word that exist; the feed zeroes the rest
            "row_tile": index_width(config.row_tiles),  # number of the row state
            "multiplier": unsigned(numerics.MULTIPLIER_WIDTH),  # numerator of the reciprocal
        }
    )


def weight_command(config: AcceleratorConfig) -> data.StructLayout:
    """The weight side's half of a feed command, issued in the same cycle."""
    return data.StructLayout(
        {
            "valid": 1,
            "kv": 1,  # read the K and V buffer, not the ring
            "address": index_width(max(config.weight_words, config.kv_words)),
        }
    )


def lane_command(config: AcceleratorConfig) -> data.StructLayout:
    """One drained column at a lane's input: how to requantize it and where it goes."""
    return data.StructLayout(
        {
            "valid": 1,
            "first": 1,  # first column of the tile; KEY where rows gather: of the row tile's group
            "last": 1,  # last column of the tile (the last slot, enabled or not); KEY where rows gather: of the row tile's group
            "enabled": 1,  # the column exists; others are dropped
            "second_enabled": 1,  # SCORE, where ``score_columns`` is 2: the next column comes beside this one, and exists
            "start": 1,  # first column tile of the GEMM: row maximum or statistics restart
            "exponential": 1,  # multiply by the row's reciprocal, add its exponent to the shift
            "post": unsigned(3),  # an isa.Post
            "table_slot": 1,  # activation table to use
            "bias": signed(config.accumulator_width),
            "multiplier": unsigned(numerics.MULTIPLIER_WIDTH),
            "shift": unsigned(numerics.SHIFT_WIDTH),
            "row_tile": index_width(config.row_tiles),  # number of the row state
            "address": bank_address_width(config),  # destination word
            "addend": index_width(config.residual_words),  # RESIDUAL: word of the element that is added to
            "element": index_width(config.pe_depth),  # element of that word; KEY: element of the K word
            # KEY and VALUE: per-row fields, advanced by each row before it passes the command on
            "tokens_left": 16,  # valid tokens from this row on; 0: this row's token does not exist
            "kv_index": index_width(max(config.cols, config.pe_depth)),  # KEY: column bank; VALUE: byte of the word
            "kv_stride": bank_address_width(config),  # added to address where kv_index wraps (at cols or depth)
            "blank": config.rows,  # bit 0: this row's value is -128; each row passes on the bits above it
        }
    )


def norm_command(config: AcceleratorConfig) -> data.StructLayout:
    """LayerNorm command to a row: `statistics` starts the row's serial unit on a row tile; `valid` normalises
    ``norm_elements`` elements of one residual word; `capture`, with the first of them, takes over the unit's results."""
    return data.StructLayout(
        {
            "statistics": 1,
            "capture": 1,
            "valid": 1,
            "row_tile": index_width(config.row_tiles),  # with statistics: number of the row state
            "source": index_width(config.residual_words),
            "group": index_width(config.pe_depth // config.norm_elements),  # elements group * norm_elements ...
            "destination": index_width(config.normalized_words),
            "channels": 12,
            "inverse": unsigned(numerics.MULTIPLIER_WIDTH),
            "inverse_shift": unsigned(numerics.SHIFT_WIDTH),
            "epsilon": 32,
            "multiplier": unsigned(numerics.MULTIPLIER_WIDTH),
            "shift": unsigned(numerics.SHIFT_WIDTH),
        }
    )


def softmax_command(config: AcceleratorConfig) -> data.StructLayout:
    """One score to turn into an exp, in the ``units`` rows behind the first ``skip`` from here on; each row passes it on with one
    less of what is left. Only with ``softmax_pass``."""
    return data.StructLayout(
        {
            "valid": 1,
            "skip": index_width(config.rows),
            "units": index_width(config.exp_units + 1),
            "table_slot": 1,
            "row_tile": index_width(config.row_tiles),
            "address": index_width(config.activation_words),
            "element": index_width(config.pe_depth),
        }
    )


def load_word(config: AcceleratorConfig) -> data.StructLayout:
    """One word of a LOAD; the row that sees ``rows_left == 0`` takes it, others pass it on with one less."""
    return data.StructLayout(
        {
            "valid": 1,
            "target": 1,  # an isa.Target
            "rows_left": index_width(config.rows),
            "address": bank_address_width(config),
            "data": config.pe_depth * numerics.RESIDUAL_WIDTH,  # activations use the low depth bytes
        }
    )


def table_write(config: AcceleratorConfig) -> data.StructLayout:
    """One entry of an exp or activation table, written by every row."""
    return data.StructLayout({"valid": 1, "exponential": 1, "slot": 1, "index": 8, "data": 8})


def collector_word(config: AcceleratorConfig) -> data.StructLayout:
    """One word on its way from a lane down to the bottom row and on to the K and V buffer.

    KEY: ``mask`` bytes of ``data``'s low ``key_slot_words * depth`` bytes to words ``address`` … of column bank ``index``.
    VALUE: byte c of ``data`` to byte ``index`` of word ``address`` of column bank c, for each set bit c of ``mask``; where the rows
    gather (``gathers``) ``mask`` bytes of ``data`` to word ``address`` of the one bank.
    """
    return data.StructLayout(
        {
            "valid": 1,
            "value": 1,
            "index": index_width(max(config.cols, config.pe_depth)),
            "address": index_width(config.kv_words),
            "mask": max(config.cols, config.pe_depth),
            "data": max(config.cols, config.pe_depth) * 8,
        }
    )


def weight_word(config: AcceleratorConfig) -> data.ArrayLayout:
    """One weight word of one column: ``depth`` int8."""
    return data.ArrayLayout(signed(8), config.pe_depth)


def weight_write(config: AcceleratorConfig) -> data.StructLayout:
    """``columns_per_beat`` weight words of one group of columns from a weight port to the rings."""
    return data.StructLayout(
        {
            "valid": 1,
            "group": index_width(config.groups_per_port),
            "address": index_width(config.weight_words),
            "data": config.columns_per_beat * config.pe_depth * 8,
        }
    )


def parameter_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Requantization parameters of one output channel, as they lie in memory (8 bytes, little-endian)."""
    return data.StructLayout({"bias": signed(32), "multiplier": unsigned(16), "shift": unsigned(8), "reserved": 8})


def parameter_write(config: AcceleratorConfig) -> data.StructLayout:
    """One output channel's parameters on their way into the ring."""
    return data.StructLayout(
        {
            "valid": 1,
            "slot": index_width(config.parameter_tiles),
            "column": index_width(config.cols),
            "parameters": parameter_layout(config),
        }
    )


def tile_command(config: AcceleratorConfig) -> data.StructLayout:
    """What the drain sequencer must know of a tile, issued with its last feed command."""
    return data.StructLayout(
        {
            "valid": 1,
            "post": unsigned(3),
            "start": 1,
            "exponential": 1,
            "per_column": 1,  # bias, multiplier and shift from the parameter ring
            "release": 1,  # last row tile of the column tile: its parameters may be overwritten
            "table_slot": 1,
            "columns": index_width(config.cols + 1),  # existing columns of the tile
            "row_tile": index_width(config.row_tiles),  # number of the row state
            "address": bank_address_width(config),
            "addend_offset": index_width(config.residual_words),  # from the address to the addend's, modulo 2^width
            "element": index_width(config.pe_depth),
            "parameter_tile": index_width(config.parameter_tiles),
            "multiplier": unsigned(numerics.MULTIPLIER_WIDTH),
            "shift": unsigned(numerics.SHIFT_WIDTH),
            "tokens_left": 16,
            "kv_index": index_width(max(config.cols, config.pe_depth)),
            "kv_stride": bank_address_width(config),
            "blank": config.rows,
            # where a KEY tile only adds to the rows' words: first and last column tile of the group for the row tile
            **({"group_first": 1, "group_last": 1} if config.gathers else {}),
        }
    )

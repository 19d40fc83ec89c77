"""Which loop order a GEMM runs in: how many of its column tiles stay in the weight ring while all row tiles pass."""

from dataclasses import dataclass

from hw.config import AcceleratorConfig, ceil_div
from hw.errors import InputError
from hw.isa import Post
from hw.timing import STATISTICS_LATENCY, Timing

AUTO, WEIGHT_MAJOR, TOKEN_MAJOR = "auto", "weight_major", "token_major"
ORDERS = (AUTO, WEIGHT_MAJOR, TOKEN_MAJOR)
"""What a user may ask for; a number of resident column tiles is the fourth choice."""


def checked_order(order: str) -> str:
    """A loop order as given.

    Raises:
        InputError: it is neither one of `ORDERS` nor a positive number.
    """
    if order in ORDERS or (order.isdecimal() and int(order) > 0):
        return order
    raise InputError(f"Loop order must be {', '.join(ORDERS)} or a number of resident column tiles, not {order!r}")


@dataclass(frozen=True, kw_only=True)
class GemmShape:
    """What the choice depends on.

    Attributes:
        k_words: feed tokens of a tile.
        column_tiles: column tiles.
        row_tiles: row tiles.
        post: what the lanes do.
        streams: weights come from memory, not from the K and V buffer.
        normalized: reads what a NORM beside it writes.
        before_norm: a NORM follows, which waits for its row tiles.
    """

    k_words: int
    column_tiles: int
    row_tiles: int
    post: Post
    streams: bool
    normalized: bool
    before_norm: bool


@dataclass(frozen=True, order=True)
class OrderCost:
    """Prediction for one order, best first when sorted.

    Attributes:
        cycles: from the GEMM's first word to the first word behind it, waits for a NORM included.
        weight_bytes: bytes that the weight ports read.
        resident: the descriptor's field; 0 is token_major.
    """

    cycles: int
    weight_bytes: int
    resident: int


def order_cost(config: AcceleratorConfig, gemm: GemmShape, resident: int) -> OrderCost:
    """Predict one order; closed forms of `hw.timing`, with the weight ports at their peak rate."""
    timing = Timing(config)
    group = min(resident, gemm.column_tiles) or gemm.column_tiles
    groups = ceil_div(gemm.column_tiles, group)
    of_group, of_last = (
        timing.group_interval(tiles, gemm.k_words, gemm.post) for tiles in (group, gemm.column_tiles - (groups - 1) * group)
    )
    array = gemm.row_tiles * ((groups - 1) * of_group + of_last)
    words = gemm.k_words
    stall = weight_bytes = 0
    if gemm.streams:
        passes = 1 if resident else gemm.row_tiles
        weight_bytes = passes * config.weight_ports * config.weight_port_bytes(words, gemm.column_tiles)
        rate = config.weight_ports * config.axi_bytes
        stall = max(0, weight_bytes // rate - array)
        if resident:  # the next group comes as far as the ring has room beside this one
            missing = max(0, 2 * group * words - config.weight_words) * config.cols * config.pe_depth // rate
            stall = max(stall, (groups - 1) * missing)
    if gemm.normalized:
        behind = timing.norm_pass(words) - of_group
        stall += (gemm.row_tiles - 1) * max(0, behind)
    if gemm.before_norm:
        dim_words = ceil_div(gemm.column_tiles * config.cols, config.pe_depth)
        wait = timing.residual_settle + STATISTICS_LATENCY + timing.norm_ready(dim_words)
        stall += max(0, wait - (gemm.row_tiles - 1) * of_last)
    return OrderCost(array + stall, weight_bytes, resident)


def choose_resident(config: AcceleratorConfig, gemm: GemmShape, order: str = AUTO) -> int:
    """The descriptor's ``resident``.

    Args:
        config: the machine.
        gemm: the GEMM.
        order: as `checked_order` returns it; a number is cut down to what the rings hold.

    Returns:
        Resident column tiles; 0 for token_major. With ``auto`` the order with the fewest predicted cycles, then the fewest bytes,
        then the fewest tiles. A GEMM on the K and V buffer, which all stays on chip, passes row tile by row tile, so that what
        follows finds its first rows early.
    """
    most = gemm.column_tiles
    if gemm.streams:
        most = max(1, min(most, config.weight_words // gemm.k_words, config.parameter_tiles))
    if order == WEIGHT_MAJOR:
        return 1
    if order == TOKEN_MAJOR:
        return 0
    if order != AUTO:
        return min(int(order), most)
    if not gemm.streams:
        return most
    return min(order_cost(config, gemm, resident) for resident in range(int(gemm.row_tiles == 1), most + 1)).resident

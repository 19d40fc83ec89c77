"""Where a network's tensors lie in the banks of a machine, and whether they fit."""

from dataclasses import dataclass
from typing import Protocol

from hw.config import RANGES, AcceleratorConfig, ceil_div
from hw.errors import InputError
from sw.compiler.stem_geometry import StemGeometry
from sw.compiler.stem_layout import StemPlan, least_plan, most_k_words
from sw.graph.convolution import ConvolutionShape
from sw.graph.path import MAX_ENCODERS

MAX_DIM = 4095
"""Channels of a normalise pass, and with it of a head's dot product: 4095 * 128 * 128 < 2^26."""
MAX_TOKENS = 4096
"""Elements of a context's dot product: 4096 * 127 * 128 < 2^26."""


class Shapes(Protocol):
    """What sizes depend on; `sw.networks.spec.NetworkSpec` and `sw.graph.integer_network.IntegerNetwork` both have it."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""

    @property
    def channels(self) -> int:
        """Image channels."""

    @property
    def stem_shapes(self) -> tuple[ConvolutionShape, ...]:
        """Convolutions before the embedding."""

    @property
    def embedding_side(self) -> int:
        """Side of a patch in pixels of the map that the embedding reads: the image, or the stem's last map."""

    @property
    def dim(self) -> int:
        """Channels of the residual stream."""

    @property
    def heads(self) -> int:
        """Attention heads."""

    @property
    def hidden(self) -> int:
        """Hidden channels of an MLP."""

    @property
    def tokens(self) -> int:
        """Tokens, the class token included."""

    @property
    def classes(self) -> int:
        """Logits."""

    @property
    def depth(self) -> int:
        """Encoders."""

    @property
    def head_tokens(self) -> int:
        """Tokens that the head reads."""


@dataclass(frozen=True)
class Region:
    """Words of every bank: token ``t``'s channels start at word ``base + (t // rows) * stride`` of row ``t % rows``;
    in the K and V buffer a tile's words start at ``base + tile * stride``."""

    base: int
    stride: int
    tiles: int

    @property
    def end(self) -> int:
        """First word behind it."""
        return self.base + self.stride * self.tiles


@dataclass(frozen=True)
class MemoryMap:
    """Regions of one network.

    Activation bank: `patches` and the MLP's `hidden` share the space of the attention's `query`, `scores` and `context`,
    which live at other times. K and V of the next head may overwrite this head's, because its scores
    and context are fed before, in issue order.

    Attributes:
        patches: the embedding's input; with a stem, the last map of a row tile (see `sw.compiler.stem_layout.StemPlan`).
        query, scores, context, hidden: activation bank, too.
        normalized: normalised bank.
        residual: residual bank.
        key, value: K and V buffer, tiles of `cols` tokens and of `cols` channels.
        row_tiles: ceil(tokens / rows).
    """

    patches: Region
    normalized: Region
    query: Region
    scores: Region
    context: Region
    hidden: Region
    residual: Region
    key: Region
    value: Region
    row_tiles: int


def stem_geometry(shapes: Shapes) -> StemGeometry:
    """Which pixels the stem of a network needs; only where it has one."""
    return StemGeometry(shapes.stem_shapes, shapes.image_size, shapes.embedding_side)


def _least_stem(shapes: Shapes, pe_depth: int) -> StemPlan | None:
    return least_plan(stem_geometry(shapes), pe_depth) if shapes.stem_shapes else None


def allocate(shapes: Shapes, rows: int, cols: int, pe_depth: int) -> MemoryMap:
    """Lay out a network's tensors on `rows` row slices, `cols` columns and words of `pe_depth` elements."""
    row_tiles = ceil_div(shapes.tokens, rows)
    head_dim = shapes.dim // shapes.heads
    head_words, token_words = ceil_div(head_dim, pe_depth), ceil_div(shapes.tokens, pe_depth)
    dim_words = ceil_div(shapes.dim, pe_depth)
    normalized = Region(0, dim_words, row_tiles)
    query = Region(0, head_words, row_tiles)
    scores = Region(query.end, token_words, row_tiles)
    key = Region(0, head_words, ceil_div(shapes.tokens, cols))
    stem = _least_stem(shapes, pe_depth)
    patch_words = ceil_div(shapes.embedding_side**2 * shapes.channels, pe_depth)
    return MemoryMap(
        patches=Region(0, stem.slot_words, 1) if stem else Region(0, patch_words, row_tiles),
        normalized=normalized,
        query=query,
        scores=scores,
        context=Region(scores.end, dim_words, row_tiles),
        hidden=Region(0, ceil_div(shapes.hidden, pe_depth), row_tiles),
        residual=Region(0, dim_words, row_tiles),
        key=key,
        value=Region(key.end, token_words, ceil_div(head_dim, cols)),
        row_tiles=row_tiles,
    )


def required_config(shapes: Shapes, rows: int, cols: int, pe_depth: int) -> dict[str, int]:
    """Smallest sizes of an `AcceleratorConfig` of that array with which a network works, by field name.

    `weight_words` and `parameter_tiles` of this size leave no room to fetch ahead.
    """
    layout = allocate(shapes, rows, cols, pe_depth)
    contractions = [layout.patches.stride, shapes.head_tokens * ceil_div(shapes.dim, pe_depth), ceil_div(shapes.hidden, pe_depth)]
    stem = _least_stem(shapes, pe_depth)
    if stem:
        contractions.append(most_k_words(stem))
    return {
        "activation_words": max(2, stem.words if stem else layout.patches.end, layout.context.end, layout.hidden.end),
        "normalized_words": max(2, layout.normalized.end),
        "residual_words": max(2, layout.residual.end),
        "weight_words": max(2, *contractions),
        "kv_words": max(2, layout.value.end),
        "parameter_tiles": 2,
        "row_tiles": layout.row_tiles,
        "classes": shapes.classes,
    }


def checked_layout(shapes: Shapes, config: AcceleratorConfig) -> MemoryMap:
    """`allocate` for a machine.

    Raises:
        InputError: the network does not fit; the message names the field, what it must be and what it is.
    """
    limits = (
        ("depth", shapes.depth, MAX_ENCODERS),
        ("dim", shapes.dim, MAX_DIM),
        ("tokens", shapes.tokens, MAX_TOKENS),
    )
    for name, value, limit in limits:
        if value > limit:
            raise InputError(f"Network must have {name} of at most {limit}, not {value}")
    for field, need in required_config(shapes, config.rows, config.cols, config.pe_depth).items():
        have, most = getattr(config, field), RANGES[field][1]
        if need > most:
            raise InputError(f"Network needs {field} of {need}, and no machine has more than {most}")
        if have < need:
            raise InputError(f"{field} must be at least {need} for this network, not {have}")
    return allocate(shapes, config.rows, config.cols, config.pe_depth)

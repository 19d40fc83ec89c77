"""Random Programs that no network needs: products of segments, blank rows, row states and residual regions in any combination.

Every Program ends with logits that depend on every byte of the activation banks and on every residual region: a product of
the whole bank becomes keys, and row 0's query takes their scores as logits.
"""

from dataclasses import dataclass

import numpy as np

from hw import isa
from hw.config import AcceleratorConfig, ceil_div
from hw.isa import Descriptor, Opcode, Operation, Post, Target
from hw.numerics import multiplier_and_shift
from hw.program import Program
from hw.program_image import ProgramImage, pack_parameters, pack_weights
from hw.row.table import exp_table
from sw.graph.integer_network import IntegerLinear

REGIONS = 2
"""Residual regions of a Program, each with row states of its own."""
IMAGE_BYTES = 200


@dataclass(frozen=True)
class _Region:
    """Row tiles of the residual bank from word ``base`` on, whose states are those from ``state`` on."""

    base: int
    state: int


def random_machine(rng: np.random.Generator) -> AcceleratorConfig:
    """A small machine of a random shape with room for a random Program."""
    rows, cols, pe_depth = (int(rng.integers(1, most + 1)) for most in (9, 8, 8))
    return sized(
        AcceleratorConfig(
            rows=rows, cols=cols, pe_depth=pe_depth, activation_words=2, residual_words=2, weight_words=2, kv_words=2,
            parameter_tiles=int(rng.integers(4, 9)), row_tiles=int(rng.integers(4, 12)), classes=rows,
            norm_elements=int(rng.choice([e for e in range(1, pe_depth + 1) if pe_depth % e == 0])),
            weight_ports=int(rng.integers(1, 4)),
            queue_depth=int(rng.integers(2, 9)), exp_units=int(rng.integers(0, 2)) * int(rng.integers(1, rows + 1)),
        ),
        int(rng.integers(24, 60)),
    )  # fmt: skip


def sized(config: AcceleratorConfig, words: int) -> AcceleratorConfig:
    """The machine with ``words`` words in its activation and residual banks, and at least as much room as they need elsewhere."""
    return AcceleratorConfig(
        **vars(config)
        | {"activation_words": words, "residual_words": words, "normalized_words": words, "weight_words": 2 * words}
        | {"kv_words": max(config.kv_words, 4 * ceil_div(config.rows, config.cols))}
    )


def random_program(config: AcceleratorConfig, seed: int, *, gemms: int = 10) -> tuple[Program, np.ndarray]:
    """A Program for a machine of `sized`, at least 4 row tiles and ``classes`` of at least ``rows``, and 2 images int8 for it."""
    builder = _Builder(config, np.random.default_rng(seed))
    builder.load()
    for region in builder.regions:
        builder.residual(region, whole=True)
    kinds = (builder.plain, builder.plain, builder.residual, builder.norm, builder.attention)
    for _ in range(gemms):
        kinds[int(builder.rng.integers(len(kinds)))]()
    builder.probe()
    memory, regions = builder.image.finish(builder.descriptors)
    program = Program(
        config=config, memory=memory, descriptor_count=len(builder.descriptors), image_bytes=IMAGE_BYTES, classes=config.rows,
        path_masks=(0, 0), regions=regions,
    )  # fmt: skip
    return program, builder.bytes(2, IMAGE_BYTES)


class _Builder:
    """Descriptors of one Program.

    GEMMs read one half of the activation bank and write the other; one that reads what was written since the last wait waits.
    """

    def __init__(self, config: AcceleratorConfig, rng: np.random.Generator):
        self.config, self.rng = config, rng
        self.image = ProgramImage(config)
        self.descriptors: list[Descriptor] = []
        self.dirty: set[object] = set()  # halves and "residual": written since the last wait
        self.half = config.activation_words // 2
        self.row_tiles = int(rng.integers(1, min(config.row_tiles // REGIONS, self.half // 2) + 1))  # of a region
        self.words = int(rng.integers(1, min(config.residual_words // REGIONS, config.normalized_words) // self.row_tiles + 1))
        self.words = max(1, self.words // 2)
        self.channels = self.words * config.pe_depth - int(rng.integers(config.pe_depth))
        span, spare = self.words * self.row_tiles, config.row_tiles - REGIONS * self.row_tiles
        first = int(rng.integers(spare + 1))
        self.regions = [_Region(i * span + i, first + i * self.row_tiles) for i in range(REGIONS)]
        self.last_residual = (0, 0)  # first state and row tiles of the RESIDUAL GEMM before

    def pick(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high - 1``."""
        return int(self.rng.integers(low, high))

    def bytes(self, *shape: int) -> np.ndarray:
        """Random int8."""
        return self.rng.integers(-128, 128, shape).astype(np.int8)

    def emit(self, opcode: Opcode, **fields: int) -> None:
        """Append a descriptor."""
        self.descriptors.append(Descriptor(opcode, fields))

    def load(self) -> None:
        """Fill the banks; then windows of the image, which overlap."""
        config = self.config
        for target, size in ((Target.ACTIVATION, config.activation_words), (Target.RESIDUAL, 2 * config.residual_words)):
            segment = size * config.pe_depth
            values = self.bytes(config.rows, segment)
            if target == Target.RESIDUAL:
                values = self.rng.integers(-9000, 9000, (config.rows, segment // 2)).astype("<i2")
            address = self.image.add(f"rows{int(target)}", values.tobytes())
            self.emit(
                Opcode.LOAD, address=address, target=target, segment_bytes=segment, segments=1, tokens_inner=config.rows,
                tokens_outer=1, inner_stride=segment,
            )  # fmt: skip
        segment = self.pick(1, 4 * config.pe_depth)
        self.emit(
            Opcode.LOAD, flags=isa.FLAG_IMAGE, address=self.pick(0, 5), base=self.pick(0, self.half - 12), segment_bytes=segment,
            segments=3, segment_stride=40, tokens_inner=config.rows, tokens_outer=1, inner_stride=self.pick(1, 5),
        )  # fmt: skip

    def gemm(
        self, k_elements: int, columns: int, row_tiles: int, *, reads: object, writes: object, period: int = 0, **fields: int
    ) -> None:
        """A GEMM with streamed weights that bring its products into the range of a byte, or a residual's change.

        Of each ``period`` elements only the first ``channels`` count: what a NORM writes behind them is not specified.
        """
        config, k_words = self.config, ceil_div(k_elements, self.config.pe_depth)
        counts = (np.arange(k_elements) % period < self.channels) if period else True
        linear = IntegerLinear(
            weights=(self.rng.integers(-127, 128, (columns, k_elements)) * counts).astype(np.int8),
            bias=self.rng.integers(-5000, 5000, columns),
            multiplier=self.rng.integers(1 << 15, 1 << 16, columns),
            shift=np.full(columns, 22 + int(np.log2(k_elements) / 2)),
        )
        flags, column_tiles = fields.pop("flags", 0), ceil_div(columns, config.cols)
        post = Post(fields.get("post", Post.REQUANT))
        if post != Post.SCORE and not flags & isa.FLAG_EXP and self.pick(0, 4):
            flags |= isa.FLAG_PER_COLUMN
        if reads in self.dirty or (post == Post.RESIDUAL and "residual" in self.dirty) or not self.pick(0, 6):
            flags |= isa.FLAG_WAIT
            self.dirty.clear()
        self.dirty.add(writes)
        resident = min(self.pick(0, 5), config.weight_words // k_words, config.parameter_tiles)
        self.emit(
            Opcode.GEMM,
            **{
                "flags": flags, "operation": Operation.MLP, "resident": resident,
                "weights": self.image.add("weights", pack_weights(config, linear.weights)),
                "parameters": self.image.add("parameters", pack_parameters(config, linear)),
                "multiplier": int(linear.multiplier[0]), "shift": int(linear.shift[0]), "k_words": k_words,
                "k_elements": k_elements, "columns": columns, "column_tiles": column_tiles, "row_tiles": row_tiles,
                "tokens": row_tiles * config.rows, **fields,
            },
        )  # fmt: skip

    def source(self, row_tiles: int) -> tuple[int, dict[str, int]]:
        """(elements, fields) of dot products in a half of the activation bank, in segments or not."""
        half = self.pick(0, 2)
        room = self.half - (row_tiles - 1)
        segment, segments = self.pick(1, min(room, 6) + 1), 1
        fields = {}
        if self.pick(0, 4):
            stride = self.pick(0, max(1, min(8, room - segment)))
            segments = self.pick(1, 4 if not stride else min(4, (room - segment) // stride + 1) + 1)
            fields = {"segment_words": segment, "segment_stride": stride}
        words = segment * segments - (self.pick(0, segment) if segments > 1 else 0)
        extent = segment + (segments - 1) * fields.get("segment_stride", 0)
        stride = self.pick(0, (self.half - extent) // max(1, row_tiles - 1) + 1)
        base = half * self.half + self.pick(0, self.half - extent - (row_tiles - 1) * stride + 1)
        elements = words * self.config.pe_depth - self.pick(0, self.config.pe_depth)
        return elements, fields | {"source_base": base, "source_stride": stride}

    def target(self, half: int, row_tiles: int, *, even: bool = False) -> tuple[int, dict[str, int]]:
        """(channels, fields) of a destination in a half of the activation bank."""
        pe_depth = self.config.pe_depth
        words = self.pick(1, min(6, self.half // row_tiles) + 1)
        element = 0 if even else self.pick(0, pe_depth)
        base = half * self.half + self.pick(0, self.half - words * row_tiles + 1)
        return self.pick(1, words * pe_depth - element + 1), {"base": base, "stride": words, "element": element}

    def plain(self) -> None:
        """REQUANT or ACTIVATION from half to half, some rows blank."""
        row_tiles = self.pick(1, min(self.config.row_tiles, self.half // 2) + 1)
        elements, fields = self.source(row_tiles)
        half = fields["source_base"] // self.half
        columns, target = self.target(1 - half, row_tiles)
        post, table = Post.REQUANT, 0
        if self.pick(0, 2):
            post, table = Post.ACTIVATION, self.image.add("activation", self.bytes(256).tobytes())
        blank = self.pick(0, 1 << self.config.rows) * self.pick(0, 2)
        self.gemm(
            elements, columns, row_tiles, reads=half, writes=1 - half, post=post, table=table, blank_rows=blank, **fields, **target
        )

    def residual(self, region: _Region | None = None, *, whole: bool = False) -> None:
        """An add in a region, or of a region and a product into another one, for some of its row tiles or all."""
        into = region or self.regions[self.pick(0, REGIONS)]
        start = into if region else self.regions[self.pick(0, REGIONS)]
        row_tiles = self.row_tiles if whole else self.pick(1, self.row_tiles + 1)
        first = self.pick(0, self.row_tiles - row_tiles + 1)
        elements, fields = self.source(row_tiles)
        self.gemm(
            elements, self.channels, row_tiles, reads=fields["source_base"] // self.half, writes="residual", post=Post.RESIDUAL,
            base=into.base + first * self.words, addend_base=start.base + first * self.words, stride=self.words,
            first_row_tile=into.state + first, **fields,
        )  # fmt: skip
        self.last_residual = (into.state + first, row_tiles)

    def norm(self) -> None:
        """Some row tiles of a region, and a product of what they give."""
        region = self.regions[self.pick(0, REGIONS)]
        row_tiles = self.pick(1, self.row_tiles + 1)
        first = self.pick(0, self.row_tiles - row_tiles + 1)
        if self.pick(0, 2):  # what the RESIDUAL GEMM before has just added
            state, row_tiles = self.last_residual
            region = next(each for each in self.regions if 0 <= state - each.state < self.row_tiles)
            first = state - region.state
        target = self.pick(0, self.config.normalized_words - row_tiles * self.words + 1)
        self.normalize(region, first, row_tiles, target)
        row_tiles = self.pick(1, row_tiles + 1)
        half = self.pick(0, 2)
        columns, fields = self.target(half, row_tiles)
        self.gemm(
            self.channels, columns, row_tiles, reads=None, writes=half, flags=isa.FLAG_NORMALIZED, source_base=target,
            source_stride=self.words, **fields,
        )  # fmt: skip

    def normalize(self, region: _Region, first: int, row_tiles: int, target: int) -> None:
        """A NORM; FLAG_WAIT where row tile i may not be what row tile i of the RESIDUAL GEMM before has added."""
        state, tiles = self.last_residual
        beside = region.state + first == state and row_tiles <= tiles
        inverse, inverse_shift = (int(x) for x in multiplier_and_shift(np.float64(1 / self.channels)))
        self.emit(
            Opcode.NORM, flags=0 if beside and self.pick(0, 4) else isa.FLAG_WAIT, operation=Operation.NORM, base=target,
            stride=self.words, source_base=region.base + first * self.words, source_stride=self.words, words=self.words,
            channels=self.channels, row_tiles=row_tiles, inverse=inverse, inverse_shift=inverse_shift, shift=11,
            multiplier=self.pick(1 << 15, 1 << 16), epsilon=self.pick(1, 1000), first_row_tile=region.state + first,
        )  # fmt: skip

    def attention(self) -> None:
        """Scores, and a product of their exps, in row states other than the first ones where no SOFTMAX stands between."""
        config = self.config
        row_tiles = self.pick(1, min(config.row_tiles, self.half // 2) + 1)
        first = 0 if config.softmax_pass else self.pick(0, config.row_tiles - row_tiles + 1)
        elements, fields = self.source(row_tiles)
        half = fields["source_base"] // self.half
        keys, scores = self.target(1 - half, row_tiles, even=True)
        self.gemm(
            elements, keys, row_tiles, reads=half, writes=1 - half, post=Post.SCORE, first_row_tile=first, **fields, **scores
        )
        table = self.image.add("exp", exp_table(0.02).tobytes())
        if config.softmax_pass:
            self.dirty.clear()
            self.emit(
                Opcode.SOFTMAX, operation=Operation.SOFTMAX, table=table, base=scores["base"], stride=scores["stride"], keys=keys,
                row_tiles=row_tiles, tokens=row_tiles * config.rows,
            )  # fmt: skip
        columns, target = self.target(half, row_tiles)
        blank = self.pick(0, 1 << config.rows)
        self.gemm(
            keys, columns, row_tiles, reads=1 - half, writes=half, flags=isa.FLAG_EXP, first_row_tile=first, blank_rows=blank,
            table=0 if config.softmax_pass else table, source_base=scores["base"], source_stride=scores["stride"],
            **target,
        )  # fmt: skip

    def probe(self) -> None:
        """Logits that depend on all banks: keys of the activation bank and of all regions' normalised row tiles, row 0's query."""
        config, pe_depth, span = self.config, self.config.pe_depth, self.row_tiles * self.words
        for number, region in enumerate(self.regions):
            self.normalize(region, 0, self.row_tiles, number * span)
        self.dirty |= {None}  # the first key waits; being no GEMM of a NORM's rows, for the NORM, too
        for number, (words, flags) in enumerate(((config.activation_words, 0), (REGIONS * span, isa.FLAG_NORMALIZED))):
            self.gemm(
                words * pe_depth, 2 * pe_depth, 1, reads=None, writes="kv", flags=flags, post=Post.KEY, base=2 * number, stride=4,
                period=self.words * pe_depth if flags else 0,
            )  # fmt: skip
        self.emit(
            Opcode.GEMM, flags=isa.FLAG_KV | isa.FLAG_WAIT, operation=Operation.HEAD, post=Post.LOGITS, k_words=4,
            k_elements=4 * pe_depth, columns=config.rows, column_tiles=ceil_div(config.rows, config.cols), row_tiles=1, tokens=1,
            multiplier=1 << 15, shift=17,
        )  # fmt: skip
        self.emit(Opcode.END, classes=config.rows)

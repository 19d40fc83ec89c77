"""A small machine, and a driver that issues GEMMs to a `RowStack` as early as `Timing` allows."""

import math
from collections import defaultdict

import numpy as np

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import Post, Target
from hw.row.element_skew import operand_delay
from hw.row.row_stack import RowStack
from hw.timing import FEED_LATENCY, NORM_LATENCY, SOFTMAX_LATENCY, STATISTICS_LATENCY, Timing
from tests.hw.simulation import cached, simulate


def small_config(**changes: int) -> AcceleratorConfig:
    """A machine small enough for Amaranth's simulator."""
    fields = dict(
        rows=2, cols=3, pe_depth=2, activation_words=32, residual_words=16, weight_words=16, kv_words=16,
        parameter_tiles=4, row_tiles=3, classes=4,
    )  # fmt: skip
    return AcceleratorConfig(**{**fields, **changes})


def gelu_table(scale_in: float, scale_out: float, zero_point: int) -> np.ndarray:
    """An activation table, int8 [256]: entry ``code + 128`` is the GELU of ``code * scale_in`` in units of ``scale_out``."""
    x = (np.arange(256) - 128) * scale_in
    gelu = x * 0.5 * (1 + np.array([math.erf(value / math.sqrt(2)) for value in x]))
    return np.clip(np.rint(gelu / scale_out) + zero_point, -128, 127).astype(np.int8)


def identity_scale(columns: int) -> dict:
    """Requantization that changes nothing."""
    return dict(bias=np.zeros(columns, int), multiplier=np.full(columns, 1 << 15), shift=np.full(columns, 15))


def packed(word: np.ndarray) -> int:
    """Elements int8 as a port takes them at once."""
    return int.from_bytes(word.astype(np.int8).tobytes(), "little")


class StackDriver:
    """Tokens of a `RowStack` by cycle, and what came of them.

    Attributes:
        logits: drained logits, in order.
        kv: {(bank, word, byte): int8} that the collector delivered.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.timing = Timing(config)
        self.stack = cached(RowStack, config, shared=False)
        self.events = defaultdict(dict)  # cycle -> port -> fields
        self.weights = defaultdict(dict)  # cycle -> column -> word
        self.cycle = 0  # first cycle that the next command may use
        self.last = self.interval = 0  # last feed token, and how far the next one's must be behind it
        self.settled = 0
        self.logits: list[int] = []
        self.kv: dict[tuple[int, int, int], int] = {}

    def wait(self) -> None:
        """Issue nothing before all that was issued has settled."""
        self.cycle = max(self.cycle, self.settled)

    def load(self, values: np.ndarray, base: int, target: Target) -> None:
        """Write tokens [tokens, channels] to the banks in dense order."""
        self.wait()
        config = self.config
        words = ceil_div(values.shape[1], config.pe_depth)
        width = 16 if target == Target.RESIDUAL else 8
        for t, token in enumerate(values):
            padded = np.zeros(words * config.pe_depth, int)
            padded[: len(token)] = token
            for w, word in enumerate(padded.reshape(words, config.pe_depth)):
                packed = sum((int(x) & ((1 << width) - 1)) << (width * k) for k, x in enumerate(word))
                address = base + (t // config.rows) * words + w
                self.events[self.cycle]["load"] = dict(
                    valid=1, target=target.value, rows_left=t % config.rows, address=address, data=packed
                )
                self.cycle += 1
        self.settled = self.cycle + config.rows

    def table(self, entries: np.ndarray, slot: int, exponential: bool) -> None:
        """Write a table of 256 entries."""
        for index, entry in enumerate(entries):
            fields = dict(valid=1, exponential=int(exponential), slot=slot, index=index, data=int(entry) & 255)
            self.events[self.cycle]["table_write"] = fields
            self.cycle += 1
        self.settled = max(self.settled, self.cycle + self.config.rows)

    def norm(self, source: int, base: int, words: int, row_tiles: int, *, first: int = 0, **fields: int) -> None:
        """Normalise row tiles into the normalised bank, one after the other, by the row states from ``first`` on."""
        self.wait()
        groups = self.config.pe_depth // self.config.norm_elements
        for tile in range(row_tiles):
            self.events[self.cycle]["norm"] = dict(statistics=1, row_tile=first + tile, **fields)
            self.cycle += STATISTICS_LATENCY
            for step in range(words * groups):
                offset = tile * words + step // groups
                self.events[self.cycle]["norm"] = dict(
                    valid=1, capture=int(step == 0), source=source + offset, group=step % groups,
                    destination=base + offset, shift=fields["shift"],
                )  # fmt: skip
                self.cycle += 1
        self.settled = self.cycle + NORM_LATENCY + self.config.rows

    def softmax(self, base: int, stride: int, tokens: int, keys: int, slot: int) -> None:
        """Turn scores into exps, ``exp_units`` rows at a time; what follows may read them as early as it can."""
        self.wait()
        config, units = self.config, self.config.exp_units
        for token in range(0, tokens, config.rows):
            for first in range(0, min(config.rows, tokens - token), units):
                for key in range(keys):
                    self.events[self.cycle]["softmax"] = dict(
                        valid=1, skip=first, units=min(units, config.rows - first, tokens - token - first), table_slot=slot,
                        row_tile=token // config.rows, address=base + token // config.rows * stride + key // config.pe_depth,
                        element=key % config.pe_depth,
                    )  # fmt: skip
                    self.cycle += 1
        self.cycle += SOFTMAX_LATENCY - 1
        self.settled = self.cycle + config.rows

    def gemm(self, weights: np.ndarray, source: int, base: int, tokens: int, post: Post, scale: dict, **options) -> None:
        """Issue a product with weights [K, N]; options: stride (of the destination), element, table_slot (both sides),
        exponential, normalized (read that bank), multiplier (of the reciprocal), by_rows (row tile by row tile), addend (word of
        row tile 0 that a residual is added to), first_row_tile (row state of row tile 0), blank (rows, a bit each)."""
        config = self.config
        k, columns = weights.shape
        stride = options.get("stride", ceil_div(columns, config.pe_depth))
        tiles = list(np.ndindex(ceil_div(columns, config.cols), ceil_div(tokens, config.rows)))
        if options.get("by_rows"):
            tiles.sort(key=lambda tile: tile[1])
        for n, i in tiles:
            padded = np.zeros((ceil_div(k, config.pe_depth) * config.pe_depth, config.cols), int)
            block = weights[:, n * config.cols : (n + 1) * config.cols]
            padded[:k, : block.shape[1]] = block
            sends = (
                not options.get("by_rows")
                or n == columns - 1
                or (options.get("element", 0) + n) % config.pe_depth == config.pe_depth - 1
            )
            self._feed_tile(padded, k, n, i, source, post, options)
            self._drain_tile(n, i, columns, base, stride, tokens, post, scale, options)
            self.interval = self.timing.drain_interval(post, bool(options.get("exponential")) and n == 0, sends=sends)
            self.settled = max(self.settled, self.last + self.timing.settle(post))

    def _feed_tile(self, weights, k, n, i, source, post, options) -> None:
        config = self.config
        k_words = len(weights) // config.pe_depth
        start = max(self.cycle, self.last + self.interval - k_words + 1)
        for word in range(k_words):
            self.events[start + word]["feed"] = dict(
                valid=1, first=int(word == 0), last=int(word == k_words - 1),
                normalized=int(options.get("normalized", 0)),
                wide=int(post == Post.SCORE and config.score_columns == 2 and word == k_words - 1),
                exponential=int(options.get("exponential", 0)), reciprocal=int(n == 0),
                table_slot=options.get("table_slot", 0), address=source + i * k_words + word,
                elements=min(config.pe_depth, k - word * config.pe_depth), row_tile=options.get("first_row_tile", 0) + i,
                multiplier=options.get("multiplier", 0),
            )  # fmt: skip
            due = start + word + FEED_LATENCY + operand_delay(config, dsp48=False)
            for column in range(config.cols):
                elements = weights[word * config.pe_depth : (word + 1) * config.pe_depth, column]
                self.weights[due + column // 2][column] = packed(elements)
        self.last = start + k_words - 1
        self.cycle = self.last + 1

    def _drain_tile(self, n, i, columns, base, stride, tokens, post, scale, options) -> None:
        config, token = self.config, i * self.config.rows
        index, kv_stride = 0, 0
        if post == Post.KEY:
            start, index, kv_stride = base + (token // config.cols) * stride, token % config.cols, stride
        elif post == Post.VALUE:
            start, index, kv_stride = base + n * stride + token // config.pe_depth, token % config.pe_depth, 1
        else:
            start = base + i * stride
        together = config.score_columns if post == Post.SCORE else 1
        for c in range(0, config.cols, together):
            channel = n * config.cols + c
            position = options.get("element", 0) + channel
            parameters = {name: int(values[min(channel, columns - 1)]) for name, values in scale.items()}
            first, last = c == 0, c == config.cols - together
            if post == Post.KEY and options.get("by_rows"):
                first, last = n == 0, channel == columns - 1
            self.events[self.last + self.timing.drain_latency + c // together]["lane"] = dict(
                valid=1, first=int(first), last=int(last), enabled=int(channel < columns),
                second_enabled=int(together == 2 and channel + 1 < columns),
                start=int(n == 0), exponential=int(options.get("exponential", 0)), post=post.value,
                table_slot=options.get("table_slot", 0), row_tile=options.get("first_row_tile", 0) + i,
                address=start if post == Post.VALUE else start + position // config.pe_depth,
                addend=(options.get("addend", base) - base + start + position // config.pe_depth) % config.residual_words,
                blank=options.get("blank", 0),
                element=position % config.pe_depth, tokens_left=max(0, tokens - token), kv_index=index, kv_stride=kv_stride,
                **parameters,
            )  # fmt: skip

    def read_out(self, source: int, channels: int, tokens: int, normalized: bool = False) -> np.ndarray:
        """Run all that was issued, then a product with the identity that brings activations [tokens, channels] out as K, of the
        normalised bank or of the other."""
        self.wait()
        config = self.config
        stride = ceil_div(channels, config.pe_depth)
        identity = np.eye(channels, dtype=int)
        self.gemm(identity, source, 0, tokens, Post.KEY, identity_scale(channels), stride=stride, normalized=normalized)
        self.run()
        result = np.empty((tokens, channels), dtype=int)
        for t, d in np.ndindex(tokens, channels):
            result[t, d] = self.kv[t % config.cols, (t // config.cols) * stride + d // config.pe_depth, d % config.pe_depth]
        return result

    def run(self) -> None:
        """Simulate to the cycle in which all has settled."""
        simulate(self.stack, self._bench)

    async def _bench(self, ctx) -> None:
        ports = {
            name: getattr(words, name) for words in (self.stack.commands, self.stack.writes) for name in words.signature.members
        }
        active: set[str] = set()
        found, logit, columns = self.stack.columns.collected, self.stack.logits, self.stack.columns.weights
        word_valid, logit_valid, weights = found.valid, logit.valid, [column.as_value() for column in columns]
        for cycle in range(self.settled):
            events = self.events.get(cycle, {})
            for name in active - set(events):
                ctx.set(ports[name], {})
            for name, fields in events.items():
                ctx.set(ports[name], fields)
            active = set(events)
            for column, word in self.weights.get(cycle, {}).items():
                ctx.set(weights[column], word)
            if ctx.get(logit_valid):
                self.logits.append(ctx.get(logit.value))
            if ctx.get(word_valid):
                self._keep(ctx.get(found))
            await ctx.tick()

    def _keep(self, word) -> None:
        for place in range(max(self.config.cols, self.config.pe_depth)):
            if word.mask >> place & 1:
                byte = ((word.data >> (8 * place) & 255) ^ 128) - 128
                address, element = word.address + place // self.config.pe_depth, place % self.config.pe_depth
                by_column = word.value and not self.config.gathers
                key = (place, word.address, word.index) if by_column else (0 if word.value else word.index, address, element)
                assert key not in self.kv
                self.kv[key] = byte

"""Fixed latencies and intervals of the machine, in cycles: closed forms of the configuration.

Nothing in the machine stalls once it is issued, so these numbers are all that the issue logic needs to know of the rows.
The components' RTL realises them; tests hold the two equal.
"""

from dataclasses import dataclass
from math import gcd

from hw import isa, numerics
from hw.config import AcceleratorConfig, ceil_div

FEED_LATENCY = 4
"""Feed command at a row's input to the activation word: bank read (2), row maximum minus score, table and mask. The word reaches
the first PE pair `Timing.skew` later."""
PAIR_LATENCY = 5
"""Last operands at a PE pair's input to its captured accumulators, with one chain of packed products: input, pre-adder, product,
chain sum, accumulate."""
WEIGHT_READ_LATENCY = 2
"""Weight command at a column's memories to the weight word: read and output register."""
DIVIDE_LATENCY = 5 + numerics.QUOTIENT_WIDTH + 1
"""`NormalizedDivider`: start to quotient: 5 normalising steps, 17 quotient bits, result register."""
LANE_LATENCY = 8
"""Lane command at a lane's input to the written destination."""
SOFTMAX_LATENCY = 5
"""Softmax command at a row's input to the earliest feed command that reads its exp: bank read (2), row maximum minus score, table,
write."""
NORM_LATENCY = 8
"""Normalise command at a row's input to the written activation bytes."""
CHANNEL_STEPS = 12
"""Bits of the number of channels, one per cycle."""
SUM_STEPS = 27
"""Bits of the magnitude of a residual sum, one per cycle."""
SQRT_STEPS = 27
"""Bits of the root of n^2 * variance, one per cycle."""
STATISTICS_LATENCY = 2 + numerics.MULTIPLIER_WIDTH + CHANNEL_STEPS + SUM_STEPS + (1 + SQRT_STEPS) + DIVIDE_LATENCY
"""Statistics command at a row's input to the earliest capture command: command and sums read, mean, n times square sum, squared
sum, root, quotient."""


@dataclass(frozen=True)
class Timing:
    """Latencies and intervals that depend on the configuration; all properties in cycles."""

    config: AcceleratorConfig

    @property
    def skew(self) -> int:
        """Cycles by which the last element of a chain of packed products trails the first.

        Element k of a word, of activations and of weights alike, comes ``k % numerics.PACKED_CHAIN`` cycles after the word, as a
        cascade of DSP48E2s wants it; the behavioural twin gets whole words this much later.
        """
        return min(self.config.pe_depth, numerics.PACKED_CHAIN) - 1

    @property
    def tree_latency(self) -> int:
        """Levels of the adder tree that sums the chains of packed products of a PE deeper than one, a register behind each."""
        return (ceil_div(self.config.pe_depth, numerics.PACKED_CHAIN) - 1).bit_length()

    @property
    def reciprocal_latency(self) -> int:
        """Last feed command of an exp tile to the row's quotient: feed, sum of the word, row sum, division."""
        return FEED_LATENCY + 2 + DIVIDE_LATENCY

    @property
    def chain_latency(self) -> int:
        """Last feed command to column 0 at the end of the drain chain."""
        return FEED_LATENCY + self.skew + PAIR_LATENCY + self.tree_latency + self.config.pairs

    @property
    def drain_latency(self) -> int:
        """Last feed command of a tile at row 0 to the lane command of its column 0; column c follows c cycles later, of scores
        c // `score_columns`.

        Columns wait in a delay line where the division takes longer than the chain.
        """
        return max(self.chain_latency, self.reciprocal_latency)

    def drain_interval(self, post: isa.Post, reciprocal: bool, *, sends: bool = True) -> int:
        """Fewest cycles from the last feed command of a tile to the last feed command of the next tile, of the same GEMM or not.

        The issue may hold it in a counter that is set to this number with a last command and falls by one each cycle from the
        next one on: a tile of k words may begin when the counter is below k.

        Args:
            post: what the lanes of the first of the two tiles do; the collector takes one slot per cycle.
            reciprocal: whether the first tile starts a division.
            sends: False for a KEY tile that only adds to the rows' words (``gathers``).
        """
        config = self.config
        interval = config.cols // config.score_columns if post == isa.Post.SCORE else config.cols
        if post == isa.Post.KEY and sends:
            interval = max(interval, self._collector_interval(config.key_slots_per_tile) + config.key_slot_words - 1)
        if post == isa.Post.VALUE:
            # Gathered, the tokens of a row tile fill one slot for each word that they lie in.
            interval = max(
                interval, self._collector_interval(1) if not config.gathers else 1 + ceil_div(config.rows - 1, config.pe_depth)
            )
        if reciprocal:
            interval = max(interval, DIVIDE_LATENCY + 1)
        return interval

    def _collector_interval(self, slots: int) -> int:
        """Interval that lets a tile's ``slots`` per row leave before the next tile's first one.

        Rows and chain are skewed alike, so all rows' words ask for the same slots and the upper rows go first: words left over
        would starve the bottom row's FIFO. Where every tile takes one slot, it comes with the last column, and slots of consecutive
        tiles must just not overlap. Else slot j of a KEY tile comes with column min(cols, j * depth) - 1 at the latest, a VALUE
        tile's with its last column, and the next tile's first with column gcd(cols, depth) - 1 at the earliest.
        A slot of several words of K is written one word a cycle, and no other slot for the same bank comes meanwhile:
        rows of one tile that share a bank are ``cols`` slots apart, and `drain_interval` adds the rest between tiles.
        """
        config = self.config
        if config.key_slots_per_tile == 1:
            return config.rows
        step = gcd(config.cols, config.pe_depth)
        latest = [min(config.cols, j * config.pe_depth) for j in range(1, slots)] + [config.cols]
        return max(config.rows * (slots - j) + column - step for j, column in enumerate(latest))

    def tile_interval(self, k_words: int, post: isa.Post, reciprocal: bool, *, sends: bool = True) -> int:
        """Fewest cycles from the first feed command of a tile to the first of the next tile of the same GEMM.

        Args:
            k_words: feed commands of the tile.
            post: as for `drain_interval`.
            reciprocal: as for `drain_interval`.
            sends: as for `drain_interval`.
        """
        return max(k_words, self.drain_interval(post, reciprocal, sends=sends))

    def group_interval(self, tiles: int, k_words: int, post: isa.Post) -> int:
        """Fewest cycles from the first feed command of a row tile's tiles of a group to the first of the next row tile's.

        Args:
            tiles: column tiles of the group; with KEY only the last one surely sends words.
            k_words: as for `tile_interval`.
            post: as for `tile_interval`.
        """
        inside, last = (self.tile_interval(k_words, post, False, sends=sends) for sends in (False, True))
        return (tiles - 1) * inside + last

    def settle(self, post: isa.Post) -> int:
        """Cycles from the last feed command of a tile at row 0 until everything it causes is in its memory, all rows."""
        cycles = self.drain_latency + self.config.cols + LANE_LATENCY + self.config.rows
        if post == isa.Post.KEY:
            cycles += self.config.rows * (self.config.key_slots_per_tile + 1) + self.config.key_slot_words + 4
        if post == isa.Post.VALUE:
            cycles += 2 * self.config.rows + 4
        return cycles

    @property
    def residual_settle(self) -> int:
        """Cycles from the last feed command of a row tile's last column tile, post RESIDUAL, to the earliest statistics command of
        that row tile, which comes `LANE_LATENCY` after the last column's lane command: both enter row 0 and move down alike."""
        return self.drain_latency + self.config.cols - 1 + LANE_LATENCY

    def softmax_pass(self, tokens: int, keys: int) -> int:
        """Cycles of a softmax pass's commands: ``exp_units`` rows of a row tile at a time, a score of each in a cycle."""
        config = self.config
        tiles, rest = divmod(tokens, config.rows)
        return (tiles * ceil_div(config.rows, config.exp_units) + ceil_div(rest, config.exp_units)) * keys

    def norm_pass(self, words: int) -> int:
        """Cycles of a row tile's normalise pass."""
        return words * (self.config.pe_depth // self.config.norm_elements)

    def norm_ready(self, words: int) -> int:
        """Cycles from the first normalise command of a row tile to the earliest first feed command of a GEMM that reads it: the
        feed takes a word a cycle, the pass ``depth / norm_elements`` cycles a word, and the last word decides."""
        return self.norm_pass(words) - words + NORM_LATENCY

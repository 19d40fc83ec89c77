"""Descriptors in numpy, by the components' own integer-exact models, vectorised over images.

The bytes of memory are the RTL's, so there is no second implementation of the network: flipping a bit of the Program changes both
alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hw import isa, numerics
from hw.config import TABLE_ENTRIES
from hw.control.gate import Gate
from hw.isa import NO_GATE, Descriptor, Opcode, Post, Target
from hw.program import Program
from hw.program_image import unpack_parameters, unpack_weights
from hw.row.feed import Feed
from hw.row.lane import Lane
from hw.row.normalizer import LayerNorm
from hw.row.processing_pair import ProcessingPair
from hw.row.softmax_unit import SoftmaxUnit

Observer = Callable[[int, Descriptor, np.ndarray], None]
"""Called behind every NORM, SOFTMAX and GEMM that ran: its number in the Program, the descriptor, and what it wrote for the images
that still run, [n, tokens, channels]; of a NORM all rows of its row tiles, of a RESIDUAL GEMM the sums."""


@dataclass
class State:
    """Memories of the machine for n images."""

    images: np.ndarray  # int8 [n, image bytes]
    activation: np.ndarray  # int8 [n, rows, words * depth]
    normalized: np.ndarray  # int8 [n, rows, words * depth]
    residual: np.ndarray  # int16 [n, rows, words * depth]
    kv: np.ndarray  # int8 [n, cols, words, depth]
    row_max: np.ndarray  # int8 [n, row_tiles * rows], by row state
    logits: np.ndarray  # int64 [n, classes]

    def select(self, keep: np.ndarray) -> "State":
        """State of the images where ``keep`` (bool [n]) holds."""
        return State(**{name: value[keep] for name, value in vars(self).items()})


class Interpreter:
    """Runs the descriptors of one Program on batches of images.

    Attributes:
        program: whose configuration gives the memories' shapes.
        observer: sees what the descriptors compute.
    """

    def __init__(self, program: Program, observer: Observer | None = None):
        self.program = program
        self.observer = observer
        self._descriptors = program.descriptors()
        self._memory = np.frombuffer(program.memory, dtype=np.int8)
        self._weights: dict[tuple[int, int, int], np.ndarray] = {}  # by address, words and columns
        for descriptor in self._descriptors:  # decoded once, before threads share them
            if descriptor.opcode == Opcode.GEMM and not descriptor.flags & isa.FLAG_KV:
                self._weight_matrix(descriptor)

    def run(self, images: np.ndarray, masks: tuple[int, int], threshold: int):
        """(logits, exits, entropy, gate entropy) of one batch of flat images."""
        count, config = len(images), self.program.config
        state = State(
            images=images,
            activation=np.zeros((count, config.rows, config.activation_words * config.pe_depth), np.int8),
            normalized=np.zeros((count, config.rows, config.normalized_words * config.pe_depth), np.int8),
            residual=np.zeros((count, config.rows, config.residual_words * config.pe_depth), np.int16),
            kv=np.zeros((count, config.cols, config.kv_words, config.pe_depth), np.int8),
            row_max=np.zeros((count, config.max_tokens), np.int8),
            logits=np.zeros((count, self.program.classes), np.int64),
        )
        logits = np.zeros((count, self.program.classes), np.int64)
        exits, entropies = np.zeros(count, np.int64), np.zeros(count, np.int64)
        gates = np.full(count, NO_GATE, np.int64)
        running = np.arange(count)
        for index, descriptor in enumerate(self._descriptors):
            if descriptor.flags & isa.FLAG_ATTENTION:
                mask = masks[1 if descriptor.flags & isa.FLAG_HIGH else 0]
                if not mask >> descriptor.encoder & 1:
                    continue
            computed = None
            match descriptor.opcode:
                case Opcode.LOAD:
                    self._load(state, descriptor)
                case Opcode.NORM:
                    computed = self._norm(state, descriptor)
                case Opcode.GEMM:
                    computed = self._gemm(state, descriptor)
                case Opcode.SOFTMAX:
                    computed = self._softmax(state, descriptor)
                case Opcode.GATE | Opcode.END:
                    entropy, _ = Gate.model(state.logits[:, : descriptor.classes])
                    final = descriptor.opcode == Opcode.END
                    if not final:
                        gates[running] = entropy
                    leave = np.ones(len(running), bool) if final else entropy <= threshold
                    leaving = running[leave]
                    logits[leaving], entropies[leaving] = state.logits[leave], entropy[leave]
                    exits[leaving] = int(final)
                    running, state = running[~leave], state.select(~leave)
                    if not len(running):
                        break
            if self.observer is not None and computed is not None:
                self.observer(index, descriptor, computed)
        return logits, exits, entropies, gates

    def _load(self, state: State, descriptor: Descriptor) -> None:
        """LOAD: gather token rows and write them to their banks."""
        config, d = self.program.config, descriptor
        tokens = d.tokens_outer * d.tokens_inner
        outer, inner = np.divmod(np.arange(tokens), d.tokens_inner)
        starts = d.address + outer * d.outer_stride + inner * d.inner_stride
        offsets = (np.arange(d.segments)[:, None] * d.segment_stride + np.arange(d.segment_bytes)).reshape(-1)
        addresses = starts[:, None] + offsets
        if d.flags & isa.FLAG_IMAGE:
            rows = state.images[:, addresses]  # [n, tokens, bytes]
        else:
            rows = np.broadcast_to(self._memory[addresses], (len(state.images), *addresses.shape))
        if d.target == Target.RESIDUAL:
            rows, bank = np.ascontiguousarray(rows).view("<i2"), state.residual
        else:
            bank = state.activation
        width = -(-rows.shape[2] // config.pe_depth) * config.pe_depth
        padded = np.zeros((*rows.shape[:2], width), bank.dtype)
        padded[:, :, : rows.shape[2]] = rows
        row_tile, row = np.divmod(np.arange(tokens) + d.first_row_tile * config.rows + d.first_row, config.rows)
        first = (d.base + row_tile * d.stride) * config.pe_depth
        bank[:, row[:, None], first[:, None] + np.arange(width)] = padded

    def _norm(self, state: State, descriptor: Descriptor) -> np.ndarray:
        """NORM: LayerNorm's normalise pass over all rows; what it writes."""
        d = descriptor
        source = self._read(state.residual, d.source_base, d.source_stride, d.row_tiles, d.channels)
        normalised = LayerNorm.model(
            source,
            inverse=d.inverse,
            inverse_shift=d.inverse_shift,
            epsilon=d.epsilon,
            multiplier=d.multiplier,
            shift=d.shift,
        )
        self._write(state.normalized, d.base, d.stride, 0, normalised)
        return normalised

    def _softmax(self, state: State, descriptor: Descriptor) -> np.ndarray:
        """SOFTMAX: the pass of the exp units over all tokens; the exps."""
        d = descriptor
        scores = self._read(state.activation, d.base, d.stride, d.row_tiles, d.keys)[:, : d.tokens]
        exps = SoftmaxUnit.model(scores, state.row_max[:, : d.tokens], self._table(d).view(np.uint8))
        self._write(state.activation, d.base, d.stride, 0, exps)
        return exps

    def _gemm(self, state: State, descriptor: Descriptor) -> np.ndarray:
        """GEMM: feed, multiply, requantize, post-process; what the lanes make of it."""
        d = descriptor
        bank = state.normalized if d.flags & isa.FLAG_NORMALIZED else state.activation
        fed = self._operand(bank, d)[:, : d.tokens]
        sums = None
        if d.flags & isa.FLAG_EXP:
            if self.program.config.softmax_pass:
                sums = Feed.model_sum(fed)
            else:
                fed, sums = Feed.model(fed, state.row_max[:, self._row_states(d)], self._table(d).view(np.uint8))
        weights = self._kv_matrix(state, d) if d.flags & isa.FLAG_KV else self._weight_matrix(d)
        accumulator = ProcessingPair.model(fed, weights[..., : d.k_elements, :])
        bias, multiplier, shift = self._parameters(d)
        if sums is not None:
            multiplier, exponent = (part[..., None] for part in numerics.normalized_divide(d.multiplier, sums))
            shift = d.shift + exponent
        post = Post(d.post)
        width = {Post.RESIDUAL: numerics.RESIDUAL_WIDTH, Post.LOGITS: numerics.LOGIT_WIDTH}.get(post, 8)
        values = numerics.requantize(accumulator, bias, multiplier, shift, width)
        return self._post(state, d, post, values)

    def _post(self, state: State, d: Descriptor, post: Post, values: np.ndarray) -> np.ndarray:
        """What the lanes make of requantized columns, int64 [n, tokens, columns], and write."""
        if d.blank_rows:
            row = np.arange(d.tokens) % self.program.config.rows
            blank = np.array([d.blank_rows >> int(bit) & 1 for bit in row], bool)
            values = np.where(blank[:, None], -128, values)
        match post:
            case Post.ACTIVATION:
                values = self._table(d).take(values + 128)
            case Post.RESIDUAL:
                before = self._read(state.residual, d.addend_base, d.stride, d.row_tiles, d.columns, d.element)
                values = Lane.model_residual(before[:, : d.tokens], values)
                self._write(state.residual, d.base, d.stride, d.element, values)
                return values
            case Post.SCORE:
                state.row_max[:, self._row_states(d)] = values.max(axis=2)
            case Post.KEY | Post.VALUE:
                self._write_kv(state, d, post, values)
                return values
            case Post.LOGITS:
                state.logits[:, : d.columns] = values[:, 0]
                return values
        self._write(state.activation, d.base, d.stride, d.element, values)
        return values

    def _write_kv(self, state: State, d: Descriptor, post: Post, values: np.ndarray) -> None:
        """KEY and VALUE: the collector's writes into the K and V buffer."""
        config = self.program.config
        token, channel = np.arange(d.tokens)[:, None], np.arange(d.columns)[None, :]
        if post == Post.KEY:
            bank, word = token % config.cols, d.base + token // config.cols * d.stride
            element = d.element + channel
            state.kv[:, bank, word + element // config.pe_depth, element % config.pe_depth] = values
        else:
            bank, word = channel % config.cols, d.base + channel // config.cols * d.stride + token // config.pe_depth
            state.kv[:, bank, word, token % config.pe_depth] = values

    def _row_states(self, d: Descriptor) -> slice:
        """Row states of a GEMM's tokens."""
        first = d.first_row_tile * self.program.config.rows
        return slice(first, first + d.tokens)

    def _operand(self, bank: np.ndarray, d: Descriptor) -> np.ndarray:
        """Token rows [n, row_tiles * rows, k_elements] that a GEMM feeds, segment behind segment."""
        depth = self.program.config.pe_depth
        words = d.segment_words or d.k_words
        segments = [
            self._read(bank, d.source_base + start // words * d.segment_stride, d.source_stride, d.row_tiles,
                       min(words * depth, d.k_elements - start * depth))
            for start in range(0, d.k_words, words)
        ]  # fmt: skip
        return segments[0] if len(segments) == 1 else np.concatenate(segments, axis=2)

    def _read(self, bank: np.ndarray, base: int, stride: int, row_tiles: int, channels: int, element: int = 0) -> np.ndarray:
        """Token rows [n, row_tiles * rows, channels] of a bank, from element ``element`` of each row tile's first word on."""
        starts = [(base + row_tile * stride) * self.program.config.pe_depth + element for row_tile in range(row_tiles)]
        return np.concatenate([bank[:, :, start : start + channels] for start in starts], axis=1)

    def _write(self, bank: np.ndarray, base: int, stride: int, element: int, rows: np.ndarray) -> None:
        """Write token rows [n, tokens, channels] from element ``element`` of each row tile's first word on."""
        for row_tile, token in enumerate(range(0, rows.shape[1], bank.shape[1])):
            start = (base + row_tile * stride) * self.program.config.pe_depth + element
            part = rows[:, token : token + bank.shape[1]]
            bank[:, : part.shape[1], start : start + rows.shape[2]] = part

    def _weight_matrix(self, d: Descriptor) -> np.ndarray:
        """int8 [k_words * depth, columns] of a GEMM's streamed weights."""
        key = (d.weights, d.k_words, d.columns)
        if key not in self._weights:
            weights = unpack_weights(self.program.config, self._memory[d.weights :], d.columns, d.k_words)
            self._weights[key] = np.ascontiguousarray(weights.T)
        return self._weights[key]

    def _kv_matrix(self, state: State, d: Descriptor) -> np.ndarray:
        """int8 [n, k_words * depth, columns] from the K and V buffer."""
        config = self.program.config
        words = d.kv_base + np.arange(d.column_tiles)[:, None] * d.k_words + np.arange(d.k_words)
        tiles = state.kv[:, :, words]  # [n, cols, tiles, words, depth]
        matrix = tiles.transpose(0, 3, 4, 2, 1).reshape(len(state.kv), d.k_words * config.pe_depth, -1)
        return matrix[:, :, : d.columns]

    def _parameters(self, d: Descriptor):
        """(bias, multiplier, shift), int64 [columns] or scalars."""
        if not d.flags & isa.FLAG_PER_COLUMN:
            return 0, d.multiplier, d.shift
        return unpack_parameters(self._memory[d.parameters :], d.columns)

    def _table(self, d: Descriptor) -> np.ndarray:
        """int8 [256]: the table of a GEMM or a SOFTMAX."""
        return self._memory[d.table :][:TABLE_ENTRIES]

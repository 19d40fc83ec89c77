"""Compiles one integer network to descriptors, weights, parameters and tables, from its image to its logits."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from hw import numerics
from hw.config import AcceleratorConfig, ceil_div
from hw.errors import InputError
from hw.isa import (
    FLAG_ATTENTION,
    FLAG_CONTIGUOUS,
    FLAG_EXP,
    FLAG_IMAGE,
    FLAG_KV,
    FLAG_NORMALIZED,
    FLAG_PER_COLUMN,
    FLAG_WAIT,
    Opcode,
    Operation,
    Post,
    Target,
)
from hw.program import ImageLayout
from sw.compiler.descriptor_stream import DescriptorStream, Span
from sw.compiler.loop_order import GemmShape, checked_order, choose_resident
from sw.compiler.memory_map import MemoryMap, Region, checked_layout
from sw.compiler.program_image import ProgramImage, parameter_bytes, weight_bytes
from sw.compiler.stem_compiler import StemCompiler, padded_lines
from sw.compiler.stem_layout import chunks
from sw.graph.integer_network import IntegerAttention, IntegerLinear, IntegerMlp, IntegerNetwork, IntegerNorm
from sw.graph.path import Path


def token_order(network: IntegerNetwork, rows: int) -> np.ndarray:
    """Network token of each token of a machine of ``rows`` rows, int64 [tokens].

    Attention does not care about the order. The head reads row 0 alone, so a distillation token, number 1, changes places with
    the first token of row tile 1.

    Raises:
        InputError: there is no such token.
    """
    order = np.arange(network.tokens)
    if network.head_tokens == 2:
        if len(order) <= rows:
            raise InputError(f"rows must be less than {len(order)}, the tokens of this distilled network, not {rows}")
        order[[1, rows]] = rows, 1
    return order


def _activation(region: Region) -> Span:
    return Span("activation", region.base, region.end)


def _kv(region: Region) -> Span:
    return Span("kv", region.base, region.end)


def _contiguous(segment_bytes: int, word_bytes: int) -> tuple[int, int]:
    """(flag, words of a segment) of a LOAD whose inner tokens' segments lie one behind the other; zeros where words straddle."""
    words, rest = divmod(segment_bytes, word_bytes)
    return (0, 0) if rest else (FLAG_CONTIGUOUS, words)


@dataclass(frozen=True)
class _Stream:
    """A residual stream: its region of the residual banks, and the row state of its row tile 0."""

    region: Region
    row_state: int


class NetworkCompiler:
    """Emits one network's descriptors and regions, up to its logits."""

    def __init__(
        self,
        network: IntegerNetwork,
        config: AcceleratorConfig,
        stream: DescriptorStream,
        image: ProgramImage,
        prefix: str,
        loop_order: str,
    ) -> None:
        self.network = network
        self.loop_order = checked_order(loop_order)
        self.config = config
        self.stream = stream
        self.image = image
        self.prefix = prefix
        self.map: MemoryMap = checked_layout(network, config)
        self.image_layout: ImageLayout | None = None
        self.redundant_macs = 0
        self.wait_for_residual = False
        self.attention_flag = FLAG_ATTENTION
        # Where the residual stream is, and where the next sum goes; they differ only between `fork` and the first sum behind it.
        self.residual = self.next_residual = _Stream(self.map.residual, 0)

    def compile(self, present: Path) -> None:
        """Emit everything, with the attentions that ``present`` keeps."""
        self.begin()
        self.encoders(range(self.network.depth), present)
        self.head()

    def begin(self) -> None:
        """Emit all before the first encoder."""
        if self.network.stem:
            self._stem()
        else:
            self._patches()

    def encoders(self, indices: Iterable[int], present: Path, fixed: int = 0) -> None:
        """Emit some encoders, with the attentions that ``present`` keeps; a path mask reaches encoders from ``fixed`` on."""
        for index in indices:
            encoder = self.network.encoders[index]
            self.attention_flag = 0 if index < fixed else FLAG_ATTENTION
            if encoder.attention is not None and present.keeps(index):
                self._attention(index, encoder.attention)
            self._mlp(index, encoder.mlp)
            self.wait_for_residual = False

    def room_to_fork(self) -> str:
        """What is missing for a second residual stream, as a phrase; empty where nothing is."""
        for field, need in (("residual_words", 2 * self.map.residual.end), ("row_tiles", 2 * self.map.row_tiles)):
            if getattr(self.config, field) < need:
                return f"need {field} of {need}, not {getattr(self.config, field)}"
        return ""

    def fork(self) -> None:
        """Leave the residual stream as it is: what is added goes to a second region, which is the stream from then on."""
        stream = self.residual
        second = Region(stream.region.end, stream.region.stride, stream.region.tiles)
        self.next_residual = _Stream(second, stream.row_state + self.map.row_tiles)

    def continue_from(self, other: "NetworkCompiler") -> None:
        """Go on from the residual stream of another network of the same shape, where it is now."""
        self.residual = self.next_residual = other.residual
        self.image_layout = other.image_layout

    def _stem(self) -> None:
        """The stem and the embedding of its last map, some row tiles at a time."""
        network, layout, config = self.network, self.map, self.config
        self._positions()
        patches = token_order(self.network, self.config.rows) - network.prefix_tokens
        stem = StemCompiler(network, config, self.stream, self.image, self.prefix, patches, self._gemm)
        plan = stem.plan
        embedding = padded_lines(network.embedding, network.patch_size, plan.line_words * config.pe_depth)
        self.image_layout, first = stem.layout, 0
        for count in chunks(layout.row_tiles, plan.row_tiles):
            for slot in range(count):
                stem.row_tile(first + slot, slot)
            tokens = min(count * config.rows, network.tokens - first * config.rows)
            self._linear(
                "embedding", embedding, Post.RESIDUAL, Operation.EMBEDDING, Region(0, plan.slot_words, count), layout.residual,
                base=layout.residual.base + first * layout.residual.stride, first_row_tile=first, row_tiles=count, tokens=tokens,
            )  # fmt: skip
            first += count
        padding = network.tokens * network.dim * (embedding.inputs - network.embedding.inputs)
        self.redundant_macs = stem.fed_macs - stem.geometry.macs + padding
        # A NORM follows the row tiles of the last GEMM alone; encoder 0's attention may be skipped.
        self.wait_for_residual = plan.row_tiles < layout.row_tiles

    def _patches(self) -> None:
        """The embedding of patches of the image."""
        network, layout, config = self.network, self.map, self.config
        side, channels, width = network.patch_size, network.channels, network.image_size[1]
        segment, patch_bytes = side * channels, side * side * channels
        zeros = self.image.add(f"{self.prefix}class_patch", bytes(patch_bytes))
        tokens = {"operation": int(Operation.EMBEDDING), "base": layout.patches.base, "stride": layout.patches.stride}
        self.stream.emit(
            Opcode.LOAD,
            {**tokens, "address": zeros, "target": int(Target.ACTIVATION)}
            | {"segment_bytes": patch_bytes, "segments": 1, "tokens_inner": network.prefix_tokens, "tokens_outer": 1},
        )
        patches = {
            "first_row": network.prefix_tokens % config.rows,
            "first_row_tile": network.prefix_tokens // config.rows,
            "segment_bytes": segment,
            "segments": side,
            "segment_stride": width * channels,
            "tokens_inner": width // side,
            "inner_stride": segment,
            "tokens_outer": network.image_size[0] // side,
            "outer_stride": side * width * channels,
        }
        flags, words = _contiguous(segment, config.pe_depth)
        patches |= {"flags": FLAG_IMAGE | flags, "segment_words": words}
        self.stream.emit(Opcode.LOAD, {**tokens, **patches, "target": int(Target.ACTIVATION), "address": 0})
        order = token_order(self.network, self.config.rows)
        for place in np.flatnonzero(order != np.arange(len(order))):
            self._moved_patch(tokens, int(place), int(order[place]) - network.prefix_tokens, zeros)
        self._positions()
        self._linear("embedding", network.embedding, Post.RESIDUAL, Operation.EMBEDDING, layout.patches, layout.residual)

    def _positions(self) -> None:
        """Load the initial residual stream."""
        network, layout, config = self.network, self.map, self.config
        order = token_order(self.network, self.config.rows)
        residual = self.image.add(f"{self.prefix}positions", network.initial_residual[order].astype("<i2").tobytes())
        row_bytes = 2 * network.dim
        flags, words = _contiguous(row_bytes, 2 * config.pe_depth)
        self.stream.emit(
            Opcode.LOAD,
            {"operation": int(Operation.EMBEDDING), "address": residual, "target": int(Target.RESIDUAL)}
            | {"flags": flags, "segment_words": words}
            | {
                "base": layout.residual.base,
                "stride": layout.residual.stride,
                "segment_bytes": row_bytes,
                "segments": 1,
            }
            | {"tokens_inner": network.tokens, "inner_stride": row_bytes, "tokens_outer": 1},
        )

    def _moved_patch(self, tokens: dict[str, int], place: int, patch: int, zeros: int) -> None:
        """Load one patch, or the zeros of a prefix token where its number is negative, to token ``place``."""
        network, rows = self.network, self.config.rows
        side, line = network.patch_size, network.image_size[1] * network.channels
        segment = side * network.channels
        down, across = divmod(patch, network.image_size[1] // side)
        source = {"address": zeros}
        if patch >= 0:
            source = {"address": down * side * line + across * segment, "flags": FLAG_IMAGE, "segment_stride": line}
        self.stream.emit(
            Opcode.LOAD,
            {**tokens, **source, "segment_bytes": segment, "segments": side, "tokens_inner": 1, "tokens_outer": 1}
            | {"first_row": place % rows, "first_row_tile": place // rows, "target": int(Target.ACTIVATION)},
        )

    def _attention(self, encoder: int, attention: IntegerAttention) -> None:
        """Heads overlap: the next head's keys are computed between a head's scores and its context, its values between
        its queries and its scores, so that only the last context is waited for."""
        layout, network = self.map, self.network
        self._norm(attention.norm, self.attention_flag, layout.row_tiles, encoder)
        for head in range(network.heads):
            if head == 0:
                self._project(encoder, 0, "key", attention.key, Post.KEY, layout.key)
            self._project(encoder, head, "query", attention.query, Post.REQUANT, layout.query)
            self._project(encoder, head, "value", attention.value, Post.VALUE, layout.value)
            self._scores(encoder, attention)
            if self.config.softmax_pass:
                self._softmax(encoder, attention)
            if head + 1 < network.heads:
                self._project(encoder, head + 1, "key", attention.key, Post.KEY, layout.key)
            self._context(encoder, head, attention)
        self._add(
            f"encoder{encoder}.projection", attention.projection, Operation.PROJECTION, layout.context, encoder, self.attention_flag
        )

    def _project(self, encoder: int, head: int, name: str, linear: IntegerLinear, post: Post, target: Region) -> None:
        """Queries, keys or values of one head."""
        size = self.network.head_dim
        part = linear.rows(head * size, (head + 1) * size)
        self._linear(
            f"encoder{encoder}.head{head}.{name}", part, post, Operation.QKV, self.map.normalized, target,
            flags=self.attention_flag | FLAG_NORMALIZED, encoder=encoder,
        )  # fmt: skip

    def _scores(self, encoder: int, attention: IntegerAttention) -> None:
        layout, tokens = self.map, self.network.tokens
        fields = self._shape(self.network.head_dim, tokens, layout.query, layout.scores)
        fields |= {"flags": self.attention_flag | FLAG_KV, "encoder": encoder, "operation": int(Operation.SCORES)}
        fields |= {"post": int(Post.SCORE), "kv_base": layout.key.base}
        fields |= {"multiplier": attention.score_multiplier, "shift": attention.score_shift}
        self._gemm(fields, reads=(_activation(layout.query), _kv(layout.key)), writes=_activation(layout.scores))

    def _exp_table(self, encoder: int, attention: IntegerAttention) -> int:
        return self.image.add(f"{self.prefix}encoder{encoder}.exp.table", attention.exp_table.tobytes())

    def _softmax(self, encoder: int, attention: IntegerAttention) -> None:
        """The scores' exps, in place."""
        layout, tokens = self.map, self.network.tokens
        self.stream.emit(
            Opcode.SOFTMAX,
            {"flags": self.attention_flag, "encoder": encoder, "operation": int(Operation.SOFTMAX)}
            | {"table": self._exp_table(encoder, attention), "base": layout.scores.base, "stride": layout.scores.stride}
            | {"keys": tokens, "row_tiles": layout.row_tiles, "tokens": tokens},
        )

    def _context(self, encoder: int, head: int, attention: IntegerAttention) -> None:
        layout, size = self.map, self.network.head_dim
        table = 0 if self.config.softmax_pass else self._exp_table(encoder, attention)
        word, element = divmod(head * size, self.config.pe_depth)
        fields = self._shape(self.network.tokens, size, layout.scores, layout.context)
        fields |= {"flags": self.attention_flag | FLAG_KV | FLAG_EXP, "encoder": encoder, "table": table}
        fields |= {"operation": int(Operation.CONTEXT), "post": int(Post.REQUANT), "kv_base": layout.value.base}
        fields |= {"base": layout.context.base + word, "element": element}
        fields |= {"multiplier": attention.context_multiplier, "shift": attention.context_shift}
        self._gemm(fields, reads=(_activation(layout.scores), _kv(layout.value)), writes=_activation(layout.context))

    def _mlp(self, encoder: int, mlp: IntegerMlp) -> None:
        layout, name = self.map, f"encoder{encoder}"
        self._norm(mlp.norm, 0, layout.row_tiles, encoder)
        table = self.image.add(f"{self.prefix}{name}.activation.table", mlp.activation_table.tobytes())
        self._linear(
            f"{name}.fc1", mlp.fc1, Post.ACTIVATION, Operation.MLP, layout.normalized, layout.hidden,
            flags=FLAG_NORMALIZED, encoder=encoder, table=table,
        )  # fmt: skip
        self._add(f"{name}.fc2", mlp.fc2, Operation.MLP, layout.hidden, encoder)

    def _add(self, name: str, linear: IntegerLinear, operation: Operation, source: Region, encoder: int, flags: int = 0) -> None:
        """A GEMM whose result is added to the residual stream."""
        before, after = self.residual, self.next_residual
        self._linear(
            name, linear, Post.RESIDUAL, operation, source, after.region, flags=flags, encoder=encoder,
            addend_base=before.region.base, first_row_tile=after.row_state,
        )  # fmt: skip
        self.residual = after

    def head(self) -> None:
        """The final norm of what the head reads, and the head. A distillation token is the second segment of its dot products."""
        network, normalized, depth = self.network, self.map.normalized, self.config.pe_depth
        linear, segments = network.head, {}
        if network.head_tokens == 2:
            # Norms take their turns, so that the one that the head follows is the last.
            self._norm(network.final_norm, FLAG_WAIT, row_tiles=1, encoder=0, first_row_tile=1)
            words = ceil_div(network.dim, depth)
            parts = np.split(linear.weights, 2, axis=1)
            gap = np.zeros((linear.outputs, words * depth - network.dim), np.int8)
            linear = replace(linear, weights=np.concatenate([parts[0], gap, parts[1]], axis=1))
            segments = {"segment_words": words, "segment_stride": normalized.stride}
        self._norm(network.final_norm, 0, row_tiles=1, encoder=0)
        self._linear(
            "head", linear, Post.LOGITS, Operation.HEAD, normalized, None,
            flags=FLAG_NORMALIZED, encoder=0, row_tiles=1, tokens=1, **segments,
        )  # fmt: skip

    def _norm(self, norm: IntegerNorm, flags: int, row_tiles: int, encoder: int, first_row_tile: int = 0) -> None:
        dim, layout, residual = self.network.dim, self.map, self.residual.region
        inverse, inverse_shift = numerics.multiplier_and_shift(np.float64(1 / dim))
        self.stream.norm(
            {"flags": flags | (FLAG_WAIT if self.wait_for_residual else 0), "encoder": encoder, "operation": int(Operation.NORM)}
            | {"base": layout.normalized.base + first_row_tile * layout.normalized.stride, "stride": layout.normalized.stride}
            | {"source_base": residual.base + first_row_tile * residual.stride, "source_stride": residual.stride}
            | {"first_row_tile": self.residual.row_state + first_row_tile}
            | {"words": ceil_div(dim, self.config.pe_depth), "channels": dim, "row_tiles": row_tiles}
            | {"inverse": int(inverse), "inverse_shift": int(inverse_shift)}
            | {"multiplier": norm.multiplier, "shift": norm.shift, "epsilon": norm.epsilon},
        )

    def _shape(self, inputs: int, outputs: int, source: Region, target: Region | None) -> dict[str, int]:
        """Fields of a GEMM over all tokens that follow from its shape and regions."""
        config = self.config
        return {
            "source_base": source.base,
            "source_stride": source.stride,
            "base": 0 if target is None else target.base,
            "stride": 0 if target is None else target.stride,
            "k_words": ceil_div(inputs, config.pe_depth),
            "k_elements": inputs,
            "columns": outputs,
            "column_tiles": ceil_div(outputs, config.cols),
            "row_tiles": self.map.row_tiles,
            "tokens": self.network.tokens,
        }

    def _linear(
        self, name: str, linear: IntegerLinear, post: Post, operation: Operation, source: Region, target: Region | None,
        *, flags: int = 0, encoder: int = 0, **fields: int,
    ) -> None:  # fmt: skip
        """A GEMM with streamed weights; `fields` override or add to its shape."""
        weights = self.image.add(f"{self.prefix}{name}.weights", weight_bytes(self.config, linear.weights))
        parameters = self.image.add(f"{self.prefix}{name}.parameters", parameter_bytes(self.config, linear))
        gemm = self._shape(linear.inputs, linear.outputs, source, target)
        gemm |= {"weights": weights, "parameters": parameters, "post": int(post), "operation": int(operation)}
        gemm |= {"flags": flags | FLAG_PER_COLUMN, "encoder": encoder, **fields}
        if post == Post.RESIDUAL:
            gemm.setdefault("addend_base", gemm["base"])
        writes = None
        if target is not None and post != Post.RESIDUAL:  # only NORM, which waits by itself, reads the residual banks
            writes = _kv(target) if post in (Post.KEY, Post.VALUE) else _activation(target)
        reads = () if flags & FLAG_NORMALIZED else (_activation(source),)  # rows of a NORM are waited for one by one
        self._gemm(gemm, reads=reads, writes=writes)

    def _gemm(self, fields: dict[str, int], *, reads: tuple[Span, ...], writes: Span | None, in_step: bool = True) -> None:
        """Emit a GEMM in the loop order that suits it."""
        flags, post = fields["flags"], Post(fields["post"])
        shape = GemmShape(
            **{name: fields[name] for name in ("k_words", "column_tiles", "row_tiles")},
            post=post, streams=not flags & FLAG_KV, normalized=bool(flags & FLAG_NORMALIZED),
            before_norm=post == Post.RESIDUAL,
        )  # fmt: skip
        resident = choose_resident(self.config, shape, self.loop_order)
        self.stream.gemm({**fields, "resident": resident}, reads=reads, writes=writes, in_step=in_step)

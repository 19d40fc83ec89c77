"""Emits what comes before the first encoder: the initial residual stream, and the embedding of patches of the image or of the
stem's last map."""

import numpy as np

from hw.isa import FLAG_CONTIGUOUS, FLAG_IMAGE, Opcode, Operation, Post, Target
from hw.program import ImageLayout
from sw.compiler.emitter import Emitter
from sw.compiler.memory_map import Region
from sw.compiler.stem_compiler import StemCompiler, padded_lines
from sw.compiler.stem_layout import chunks
from sw.compiler.token_order import token_order


def emit_stem(emit: Emitter) -> tuple[ImageLayout, int]:
    """Emit the stem and the embedding of its last map, some row tiles at a time.

    Returns:
        How it wants the image, and multiply-accumulates that compute nothing new.
    """
    network, layout, config = emit.network, emit.map, emit.config
    _positions(emit)
    patches = token_order(emit.network, emit.config.rows) - network.prefix_tokens
    stem = StemCompiler(emit, patches)
    plan = stem.plan
    embedding = padded_lines(network.embedding, network.patch_size, plan.line_words * config.pe_depth)
    first = 0
    for count in chunks(layout.row_tiles, plan.row_tiles):
        for slot in range(count):
            stem.row_tile(first + slot, slot)
        tokens = min(count * config.rows, network.tokens - first * config.rows)
        emit.linear(
            "embedding", embedding, Post.RESIDUAL, Operation.EMBEDDING, Region(0, plan.slot_words, count), layout.residual,
            base=layout.residual.base + first * layout.residual.stride, first_row_tile=first, row_tiles=count, tokens=tokens,
        )  # fmt: skip
        first += count
    padding = network.tokens * network.dim * (embedding.inputs - network.embedding.inputs)
    # A NORM follows the row tiles of the last GEMM alone; encoder 0's attention may be skipped.
    emit.wait_for_residual = plan.row_tiles < layout.row_tiles
    return stem.layout, stem.fed_macs - stem.geometry.macs + padding


def emit_patches(emit: Emitter) -> None:
    """Emit the embedding of patches of the image."""
    network, layout, config = emit.network, emit.map, emit.config
    side, channels, width = network.patch_size, network.channels, network.image_size[1]
    segment, patch_bytes = side * channels, side * side * channels
    zeros = emit.image.add(f"{emit.prefix}class_patch", bytes(patch_bytes))
    tokens = {"operation": int(Operation.EMBEDDING), "base": layout.patches.base, "stride": layout.patches.stride}
    emit.stream.emit(
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
    emit.stream.emit(Opcode.LOAD, {**tokens, **patches, "target": int(Target.ACTIVATION), "address": 0})
    order = token_order(emit.network, emit.config.rows)
    for place in np.flatnonzero(order != np.arange(len(order))):
        _moved_patch(emit, tokens, int(place), int(order[place]) - network.prefix_tokens, zeros)
    _positions(emit)
    emit.linear("embedding", network.embedding, Post.RESIDUAL, Operation.EMBEDDING, layout.patches, layout.residual)


def _positions(emit: Emitter) -> None:
    """Load the initial residual stream."""
    network, layout, config = emit.network, emit.map, emit.config
    order = token_order(emit.network, emit.config.rows)
    residual = emit.image.add(f"{emit.prefix}positions", network.initial_residual[order].astype("<i2").tobytes())
    row_bytes = 2 * network.dim
    flags, words = _contiguous(row_bytes, 2 * config.pe_depth)
    emit.stream.emit(
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


def _moved_patch(emit: Emitter, tokens: dict[str, int], place: int, patch: int, zeros: int) -> None:
    """Load one patch, or the zeros of a prefix token where its number is negative, to token ``place``."""
    network, rows = emit.network, emit.config.rows
    side, line = network.patch_size, network.image_size[1] * network.channels
    segment = side * network.channels
    down, across = divmod(patch, network.image_size[1] // side)
    source = {"address": zeros}
    if patch >= 0:
        source = {"address": down * side * line + across * segment, "flags": FLAG_IMAGE, "segment_stride": line}
    emit.stream.emit(
        Opcode.LOAD,
        {**tokens, **source, "segment_bytes": segment, "segments": side, "tokens_inner": 1, "tokens_outer": 1}
        | {"first_row": place % rows, "first_row_tile": place // rows, "target": int(Target.ACTIVATION)},
    )


def _contiguous(segment_bytes: int, word_bytes: int) -> tuple[int, int]:
    """(flag, words of a segment) of a LOAD whose inner tokens' segments lie one behind the other; zeros where words straddle."""
    words, rest = divmod(segment_bytes, word_bytes)
    return (0, 0) if rest else (FLAG_CONTIGUOUS, words)

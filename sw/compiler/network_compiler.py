"""Compiles one integer network to descriptors, weights, parameters and tables, from its image to its logits."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from hw.config import ceil_div
from hw.isa import FLAG_ATTENTION, FLAG_NORMALIZED, FLAG_WAIT, Operation, Post
from hw.program import ImageLayout
from sw.compiler.branches import EMIT
from sw.compiler.embedding import emit_patches, emit_stem
from sw.compiler.emitter import Emitter, StreamPlace
from sw.compiler.memory_map import Region
from sw.graph.branch import TOKENS, BranchKind
from sw.graph.path import Path


class NetworkCompiler:
    """Emits one network's descriptors and regions, up to its logits.

    Attributes:
        emitter: what emits them.
        image_layout: how the stem wants the image; None for a plain one.
        redundant_macs: multiply-accumulates of the stem that compute nothing new.
    """

    def __init__(self, emitter: Emitter) -> None:
        """Compile the emitter's network."""
        self.emitter = emitter
        self.network = emitter.network
        self.image_layout: ImageLayout | None = None
        self.redundant_macs = 0

    def compile(self, present: Path) -> None:
        """Emit all that the network has of what ``present`` runs."""
        self.begin()
        self.encoders(range(self.network.depth), present)
        self.head()

    def begin(self) -> None:
        """Emit all before the first encoder."""
        if self.network.stem:
            self.image_layout, self.redundant_macs = emit_stem(self.emitter)
        else:
            emit_patches(self.emitter)

    def encoders(self, indices: Iterable[int], present: Path, fixed: int = 0) -> None:
        """Emit what some encoders have of what ``present`` runs; a path mask reaches encoders from ``fixed`` on."""
        for index in indices:
            for branch in self.network.encoders[index].branches:
                if present.runs(index, branch.kind):
                    masked = branch.kind is BranchKind.ATTENTION and index >= fixed
                    EMIT[branch.kind](self.emitter, index, branch, FLAG_ATTENTION if masked else 0)
                    if branch.kind is not BranchKind.ATTENTION:  # a mask may skip an attention, so what follows one waits, too
                        self.emitter.wait_for_residual = False

    def room_to_fork(self) -> str:
        """What is missing for a second residual stream, as a phrase; empty where nothing is."""
        places, config = self.emitter.map, self.emitter.config
        for field, need in (("residual_words", 2 * places.residual.end), ("row_tiles", 2 * places.row_tiles)):
            if getattr(config, field) < need:
                return f"need {field} of {need}, not {getattr(config, field)}"
        return ""

    def fork(self) -> None:
        """Leave the residual stream as it is: what is added goes to a second region, which is the stream from then on."""
        place = self.emitter.streams[TOKENS]
        second = Region(place.region.end, place.region.stride, place.region.tiles)
        self.emitter.targets[TOKENS] = StreamPlace(second, place.row_state + self.emitter.map.row_tiles)

    def continue_from(self, other: "NetworkCompiler") -> None:
        """Go on from the residual stream of another network of the same shape, where it is now."""
        self.emitter.streams, self.emitter.targets = dict(other.emitter.streams), dict(other.emitter.streams)
        self.image_layout = other.image_layout

    def head(self) -> None:
        """The final norm of what the head reads, and the head. A distillation token is the second segment of its dot products."""
        emit, network = self.emitter, self.network
        normalized, depth = emit.map.normalized, emit.config.pe_depth
        linear, segments = network.head, {}
        if network.head_tokens == 2:
            # Norms take their turns, so that the one that the head follows is the last.
            emit.norm(network.final_norm, FLAG_WAIT, row_tiles=1, reads=TOKENS, encoder=0, first_row_tile=1)
            words = ceil_div(network.dim, depth)
            parts = np.split(linear.weights, 2, axis=1)
            gap = np.zeros((linear.outputs, words * depth - network.dim), np.int8)
            linear = replace(linear, weights=np.concatenate([parts[0], gap, parts[1]], axis=1))
            segments = {"segment_words": words, "segment_stride": normalized.stride}
        emit.norm(network.final_norm, 0, row_tiles=1, reads=TOKENS, encoder=0)
        emit.linear(
            "head", linear, Post.LOGITS, Operation.HEAD, normalized, None,
            flags=FLAG_NORMALIZED, encoder=0, row_tiles=1, tokens=1, **segments,
        )  # fmt: skip

"""Emits the descriptors that all parts of a network are made of: GEMMs with streamed weights, sums into a stream, norms."""

from dataclasses import dataclass

import numpy as np

from hw import numerics
from hw.config import AcceleratorConfig, ceil_div
from hw.isa import FLAG_KV, FLAG_NORMALIZED, FLAG_PER_COLUMN, FLAG_WAIT, Operation, Post
from hw.program_image import Offset, ProgramImage, pack_parameters, pack_weights
from sw.compiler.descriptor_stream import DescriptorStream, Span
from sw.compiler.loop_order import GemmShape, checked_order, choose_resident
from sw.compiler.memory_map import MemoryMap, Region, checked_layout
from sw.graph.branch import TOKENS
from sw.graph.integer_network import IntegerLinear, IntegerNetwork, IntegerNorm


@dataclass(frozen=True)
class StreamPlace:
    """Where a residual stream is: its region of the residual banks, and the row state of its row tile 0."""

    region: Region
    row_state: int


def activation_span(region: Region) -> Span:
    """Return a region's words in the activation banks."""
    return Span("activation", region.base, region.end)


def kv_span(region: Region) -> Span:
    """Return a region's words in the K and V buffer."""
    return Span("kv", region.base, region.end)


class Emitter:
    """Emits one network into a stream of descriptors and an image of regions.

    Attributes:
        network, config, map: the network, the machine, and where its tensors lie there.
        stream, image: what is emitted to.
        prefix: of the regions' names.
        streams: where each residual stream is.
        targets: where the next sum of each goes; another place only between a fork and the first sum behind it.
        wait_for_residual: whether a NORM waits for everything before it.
    """

    def __init__(
        self,
        network: IntegerNetwork,
        config: AcceleratorConfig,
        stream: DescriptorStream,
        image: ProgramImage,
        prefix: str,
        loop_order: str,
    ) -> None:
        """Emit a network for a machine; `loop_order` as `sw.compiler.loop_order.checked_order` takes it.

        Raises:
            InputError: the network does not fit the machine, or the loop order is unknown.
        """
        self.network = network
        self.loop_order = checked_order(loop_order)
        self.config = config
        self.stream = stream
        self.image = image
        self.prefix = prefix
        self.map: MemoryMap = checked_layout(network, config)
        self.wait_for_residual = False
        self.streams = {TOKENS: StreamPlace(self.map.residual, 0)}
        self.targets = dict(self.streams)

    def table(self, name: str, content: np.ndarray) -> Offset:
        """Add a table of 256 bytes; return its address."""
        return self.image.add(f"{self.prefix}{name}.table", content.tobytes())

    def linear(
        self, name: str, linear: IntegerLinear, post: Post, operation: Operation, source: Region, target: Region | None,
        *, flags: int = 0, encoder: int = 0, **fields: int,
    ) -> None:  # fmt: skip
        """A GEMM with streamed weights; `fields` override or add to its shape."""
        weights = self.image.add(f"{self.prefix}{name}.weights", pack_weights(self.config, linear.weights))
        parameters = self.image.add(f"{self.prefix}{name}.parameters", pack_parameters(self.config, linear))
        gemm = self.shape(linear.inputs, linear.outputs, source, target)
        gemm |= {"weights": weights, "parameters": parameters, "post": int(post), "operation": int(operation)}
        gemm |= {"flags": flags | FLAG_PER_COLUMN, "encoder": encoder, **fields}
        if post == Post.RESIDUAL:
            gemm.setdefault("addend_base", gemm["base"])
        writes = None
        if target is not None and post != Post.RESIDUAL:  # only NORM, which waits by itself, reads the residual banks
            writes = kv_span(target) if post in (Post.KEY, Post.VALUE) else activation_span(target)
        reads = () if flags & FLAG_NORMALIZED else (activation_span(source),)  # rows of a NORM are waited for one by one
        self.gemm(gemm, reads=reads, writes=writes)

    def add(
        self, name: str, linear: IntegerLinear, operation: Operation, source: Region, adds_to: str, encoder: int, flags: int = 0
    ) -> None:
        """A GEMM whose result is added to a residual stream."""
        before, after = self.streams[adds_to], self.targets[adds_to]
        self.linear(
            name, linear, Post.RESIDUAL, operation, source, after.region, flags=flags, encoder=encoder,
            addend_base=before.region.base, first_row_tile=after.row_state,
        )  # fmt: skip
        self.streams[adds_to] = after

    def norm(self, norm: IntegerNorm, flags: int, row_tiles: int, reads: str, encoder: int, first_row_tile: int = 0) -> None:
        """A NORM of some row tiles of a residual stream, from `first_row_tile` on."""
        dim, layout, place = self.network.dim, self.map, self.streams[reads]
        residual = place.region
        inverse, inverse_shift = numerics.multiplier_and_shift(np.float64(1 / dim))
        self.stream.norm(
            {"flags": flags | (FLAG_WAIT if self.wait_for_residual else 0), "encoder": encoder, "operation": int(Operation.NORM)}
            | {"base": layout.normalized.base + first_row_tile * layout.normalized.stride, "stride": layout.normalized.stride}
            | {"source_base": residual.base + first_row_tile * residual.stride, "source_stride": residual.stride}
            | {"first_row_tile": place.row_state + first_row_tile}
            | {"words": ceil_div(dim, self.config.pe_depth), "channels": dim, "row_tiles": row_tiles}
            | {"inverse": int(inverse), "inverse_shift": int(inverse_shift)}
            | {"multiplier": norm.multiplier, "shift": norm.shift, "epsilon": norm.epsilon},
        )

    def shape(self, inputs: int, outputs: int, source: Region, target: Region | None) -> dict[str, int]:
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

    def gemm(self, fields: dict[str, int], *, reads: tuple[Span, ...], writes: Span | None, in_step: bool = True) -> None:
        """Emit a GEMM in the loop order that suits it."""
        flags, post = fields["flags"], Post(fields["post"])
        shape = GemmShape(
            **{name: fields[name] for name in ("k_words", "column_tiles", "row_tiles")},
            post=post, streams=not flags & FLAG_KV, normalized=bool(flags & FLAG_NORMALIZED),
            before_norm=post == Post.RESIDUAL,
        )  # fmt: skip
        resident = choose_resident(self.config, shape, self.loop_order)
        self.stream.gemm({**fields, "resident": resident}, reads=reads, writes=writes, in_step=in_step)

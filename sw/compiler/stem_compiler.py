"""Emits a convolution stem: LOADs of windows, convolutions as GEMMs over lines or columns of pixels, and the embedding."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np

from hw.config import ceil_div
from hw.isa import FLAG_CONTIGUOUS, FLAG_IMAGE, FLAG_PER_COLUMN, Opcode, Operation, Post, Target
from hw.program_image import pack_parameters, pack_weights
from sw.compiler.descriptor_stream import Span
from sw.compiler.emitter import Emitter
from sw.compiler.memory_map import stem_geometry
from sw.compiler.stem_layout import StemPlan, choose_plan, chunks
from sw.compiler.stem_window import Window
from sw.graph.integer_network import IntegerConvolution, IntegerLinear


class PixelRun(NamedTuple):
    """Pixels of a map's part that one GEMM computes: ``length`` from (line, pixel) on, downwards or to the right."""

    line: int
    pixel: int
    length: int
    down: bool


class PatchRun(NamedTuple):
    """Rows of a row tile whose patches one LOAD walks: ``inner`` to the right, in ``outer`` lines of patches."""

    row: int
    patch: int
    inner: int
    outer: int


def blocks(masks: Iterable[int]) -> list[tuple[int, int, int]]:
    """(first, count, mask) of the longest runs of equal masks."""
    found, first = [], 0
    for mask, run in groupby(masks):
        count = len(list(run))
        found.append((first, count, mask))
        first += count
    return found


def pixel_runs(line: int, lines: int, pixel: int, pixels: int, most: int, *, across: bool) -> list[PixelRun]:
    """Runs of at most ``most`` pixels that cover a block, as few as there can be.

    Args:
        line: of the block's first pixel.
        lines: of the block.
        pixel: in its line of the block's first pixel.
        pixels: of a line of the block.
        most: pixels of a run.
        across: whether runs to the right may be; they are preferred, for what follows begins with the first lines.
    """

    def cover(steps: int, length: int, down: bool) -> list[PixelRun]:
        runs = []
        for step in range(steps):
            done = 0
            for count in chunks(length, most):
                place = (line + done, pixel + step) if down else (line + step, pixel + done)
                runs.append(PixelRun(*place, count, down))
                done += count
        return runs

    down = cover(pixels, lines, True)
    right = cover(lines, pixels, False)
    return right if across and len(right) <= len(down) else down


def patch_runs(rows: list[tuple[int, int]], width: int) -> Iterator[PatchRun]:
    """Few LOADs for the patches of a row tile.

    Args:
        rows: (row, patch) in order of rows.
        width: patches of a line.
    """
    while rows:
        row, patch = rows[0]
        length = next((i for i, entry in enumerate(rows) if entry != (row + i, patch + i)), len(rows))
        inner, outer = min(length, width - patch % width), 1
        if inner == width:
            outer = length // width
        yield PatchRun(row, patch, inner, outer)
        rows = rows[inner * outer :]


def window_weights(window: Window, weights: np.ndarray, phase: int) -> np.ndarray:
    """Weights of a convolution as its windows are fed.

    Args:
        window: how its input lies.
        weights: int8 [outputs, kernel² · inputs] in the order (ky, kx, channel).
        phase: byte of a word that the windows begin at.

    Returns:
        int8 [outputs, elements]; zero where a word holds something else than the window.
    """
    kernel, inputs = window.convolution.kernel, window.convolution.inputs
    line = window.segment_words(phase) * window.pe_depth if window.segmented else window.line_bytes
    places = phase + np.arange(kernel)[:, None, None] * line + np.arange(kernel)[:, None] * window.pixel_bytes + np.arange(inputs)
    spread = np.zeros((len(weights), places.max() + 1), np.int8)
    spread[:, places.reshape(-1)] = weights
    return spread


def padded_lines(linear: IntegerLinear, side: int, line_elements: int) -> IntegerLinear:
    """The embedding with zeros behind every line of a patch, so that lines have ``line_elements``."""
    lines = linear.weights.reshape(linear.outputs, side, -1)
    used = lines.shape[2]
    padded = np.pad(lines, ((0, 0), (0, 0), (0, line_elements - used))).reshape(linear.outputs, -1)
    return IntegerLinear(padded[:, : (side - 1) * line_elements + used], linear.bias, linear.multiplier, linear.shift)


class StemCompiler:
    """Emits one network's stem, row tile by row tile; the embedding of the row tiles of a chunk is the caller's."""

    def __init__(self, emit: Emitter, patches: np.ndarray) -> None:
        """Plan the stem.

        Args:
            emit: emits a network with a stem, which fits the machine.
            patches: int64 [tokens], the patch of every token of the machine, negative for a token without one.
        """
        self.emit = emit
        self.network = network = emit.network
        self.config = config = emit.config
        self.patches = patches
        self.geometry = stem_geometry(network)
        self.row_tiles = ceil_div(len(patches), config.rows)
        self.plan: StemPlan = choose_plan(self.geometry, network.dim, self.row_tiles, config)
        self.layout = self.plan.image_layout()
        self.fed_macs = 0
        """Multiply-accumulates of the convolutions emitted, those of halos and padding included."""

    def row_tile(self, tile: int, slot: int) -> None:
        """Compute the last maps of a row tile, into place ``slot`` of its chunk."""
        first = tile * self.config.rows
        rows = [(row, int(patch)) for row, patch in enumerate(self.patches[first : first + self.config.rows]) if patch >= 0]
        if rows:
            self._load(rows)
        for stage in range(0 if rows else len(self.network.stem) - 1, len(self.network.stem)):
            self._convolve(stage, rows, slot)

    def _load(self, rows: list[tuple[int, int]]) -> None:
        window, pitch, layout = self.plan.windows[0], self.geometry.pitches[0], self.layout
        width = self.geometry.grid[1]
        flags = FLAG_IMAGE | (FLAG_CONTIGUOUS if window.contiguous else 0)
        segment_words = window.line_bytes // window.pe_depth if window.contiguous else 0
        for run in patch_runs(rows, width):
            down, across = divmod(run.patch, width)
            corner = down * pitch * layout.line_bytes + across * pitch * window.pixel_bytes
            for strip in range(window.strips):
                self.emit.stream.emit(
                    Opcode.LOAD,
                    {"operation": int(Operation.EMBEDDING), "flags": flags, "target": int(Target.ACTIVATION)}
                    | {"address": corner + window.strip_start(strip), "base": self.plan.bases[0] + strip * window.strip_words}
                    | {"stride": window.strip_words, "first_row": run.row}
                    | {"segment_bytes": window.line_bytes, "segments": window.lines, "segment_stride": layout.line_bytes}
                    | {"segment_words": segment_words}
                    | {"tokens_inner": run.inner, "inner_stride": pitch * window.pixel_bytes}
                    | {"tokens_outer": run.outer, "outer_stride": pitch * layout.line_bytes},
                )

    def _convolve(self, stage: int, rows: list[tuple[int, int]], slot: int) -> None:
        """Map ``stage`` to the next one, every pixel of the rows' parts; pixels outside the map become the code of 0."""
        window, last = self.plan.windows[stage], stage + 1 == len(self.plan.windows)
        idle = (1 << self.config.rows) - 1 - sum(1 << row for row, _ in rows) if last else 0
        outputs, depth = window.convolution.outputs, self.config.pe_depth
        base = slot * self.plan.slot_words if last else self.plan.bases[stage + 1]
        line_words = self.plan.line_words if last else self.plan.windows[stage + 1].line_bytes // depth
        across = window.strips == 1 and window.step % depth == 0 and outputs % depth == 0
        for line, lines, above in blocks(self._outside(stage + 1, 0, rows)):
            for pixel, pixels, beside in blocks(self._outside(stage + 1, 1, rows)):
                for run in pixel_runs(line, lines, pixel, pixels, self.config.row_tiles, across=across):
                    word, element = divmod(run.pixel * outputs, depth)
                    target = {"base": base + run.line * line_words + word, "element": element}
                    target["stride"] = line_words if run.down else outputs // depth
                    self._pixels(stage, run, target | {"blank_rows": above | beside | idle})

    def _outside(self, stage: int, axis: int, rows: list[tuple[int, int]]) -> list[int]:
        """By pixel of an axis of a part of a map: bits of the rows for which it lies outside the map."""
        width = self.geometry.grid[1]
        places = [(row, (patch // width, patch % width)[axis]) for row, patch in rows]
        return [
            sum(1 << row for row, place in places if self.geometry.outside(stage, axis, place, pixel))
            for pixel in range(self.geometry.sides[stage])
        ]

    def _pixels(self, stage: int, run: PixelRun, target: dict[str, int]) -> None:
        """One GEMM; ``target`` says where it writes, and which rows' outputs are blank."""
        window, config, convolution = self.plan.windows[stage], self.config, self.network.stem[stage]
        strip, byte = window.strip(run.pixel)
        word, phase = divmod(byte, config.pe_depth)
        source = self.plan.bases[stage] + strip * window.strip_words + run.line * window.line_step + word
        stride = window.line_step if run.down else window.step // config.pe_depth
        weights, content = self._streams(stage, convolution, phase)
        outputs, tokens = convolution.linear.outputs, run.length * config.rows
        fields = {
            "flags": FLAG_PER_COLUMN,
            "operation": int(Operation.EMBEDDING),
            "post": int(Post.ACTIVATION),
            "source_base": source,
            "source_stride": stride,
            "k_words": window.k_words(phase),
            "k_elements": weights,
            "columns": outputs,
            "column_tiles": ceil_div(outputs, config.cols),
            "row_tiles": run.length,
            "tokens": tokens,
        } | content
        if window.segmented:
            fields |= {"segment_words": window.segment_words(phase), "segment_stride": window.line_bytes // config.pe_depth}
        self.fed_macs += tokens * outputs * weights
        read = Span("activation", source, source + (run.length - 1) * stride + window.extent(phase))
        first = target["base"]
        words = ceil_div(target["element"] + outputs, config.pe_depth)
        written = Span("activation", first, first + (run.length - 1) * target["stride"] + words)
        self.emit.gemm(fields | target, reads=(read,), writes=written, in_step=False)

    def _streams(self, stage: int, convolution: IntegerConvolution, phase: int) -> tuple[int, dict[str, int]]:
        """(elements of a dot product, addresses of what a GEMM streams)."""
        name = f"{self.emit.prefix}stem{stage}"
        weights = window_weights(self.plan.windows[stage], convolution.linear.weights, phase)
        return weights.shape[1], {
            "weights": self.emit.image.add(f"{name}.phase{phase}.weights", pack_weights(self.config, weights)),
            "parameters": self.emit.image.add(f"{name}.parameters", pack_parameters(self.config, convolution.linear)),
            "table": self.emit.image.add(f"{name}.table", convolution.table.tobytes()),
        }

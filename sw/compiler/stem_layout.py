"""Where a convolution stem's maps lie in the banks: every row holds the part of each map that its own patch needs.

A row owns one patch of the picture. It computes its part of every map with a halo that the next convolutions eat up, so rows
exchange nothing; pixels of a halo are computed by several rows. Map 0 is the picture, map i the output of convolution i - 1.
Sides, halos and strides below are those of both axes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from hw.config import AcceleratorConfig, ceil_div
from hw.errors import InputError
from hw.program import ImageLayout
from sw.graph.convolution import ConvolutionShape


@dataclass(frozen=True)
class StemGeometry:
    """Which pixels of each map a patch needs.

    Attributes:
        convolutions: in order.
        image_size: height and width of the picture.
        side: of a patch in pixels of the last map, which the embedding reads.

    Raises:
        InputError: the last map is not made of whole patches, or a patch would begin within another's part of the picture.
    """

    convolutions: tuple[ConvolutionShape, ...]
    image_size: tuple[int, int]
    side: int

    def __post_init__(self) -> None:
        if any(size < self.side or size % self.side for size in self.sizes[-1]):
            raise InputError(f"Last map of the stem must be whole patches of {self.side}x{self.side} pixels, not {self.sizes[-1]}")

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every map."""
        sizes = [self.image_size]
        for convolution in self.convolutions:
            sizes.append((convolution.size(sizes[-1][0]), convolution.size(sizes[-1][1])))
        return tuple(sizes)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and per line."""
        return self.sizes[-1][0] // self.side, self.sizes[-1][1] // self.side

    @cached_property
    def sides(self) -> tuple[int, ...]:
        """Side of a patch's part of every map."""
        sides = [self.side]
        for convolution in reversed(self.convolutions):
            sides.insert(0, (sides[0] - 1) * convolution.stride + convolution.kernel)
        return tuple(sides)

    @cached_property
    def halos(self) -> tuple[int, ...]:
        """How far a patch's part of every map begins before the patch."""
        halos = [0]
        for convolution in reversed(self.convolutions):
            halos.insert(0, halos[0] * convolution.stride + convolution.padding)
        return tuple(halos)

    @cached_property
    def pitches(self) -> tuple[int, ...]:
        """Pixels of every map from a patch to the next."""
        strides = [convolution.stride for convolution in self.convolutions]
        return tuple(self.side * prod(strides[stage:]) for stage in range(len(strides) + 1))

    def outside(self, stage: int, axis: int, patch: int, pixel: int) -> bool:
        """Whether a pixel of a patch's part lies outside the map along an axis (0: lines)."""
        return not 0 <= patch * self.pitches[stage] - self.halos[stage] + pixel < self.sizes[stage][axis]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the convolutions, each output pixel counted once."""
        return sum(
            height * width * shape.outputs * shape.kernel**2 * shape.inputs
            for shape, (height, width) in zip(self.convolutions, self.sizes[1:], strict=True)
        )


@dataclass(frozen=True)
class Window:
    """How a row's part of a map lies in its activation bank, as a convolution reads it.

    The part is stored as strips, each of all its lines, one behind the other. A map that was computed is a single strip of lines of
    whole words. Of the picture, strips may begin at several pixels, so that the words of a kernel line hold little else.

    Attributes:
        convolution: which reads it.
        pe_depth: bytes of a word.
        pixels: output pixels of a line, and lines of them.
        lines: lines of the part.
        pixel_bytes: bytes of a pixel.
        line_bytes: bytes of a line of a strip; a multiple of `pe_depth`, or `stride` lines are.
        pitch_bytes: of the picture: bytes from a patch's line to that of the patch beside it.
        strips: how many.
        packed: neighbouring output pixels share a strip; otherwise output pixel x is in strip x % strips.
    """

    convolution: ConvolutionShape
    pe_depth: int
    pixels: int
    lines: int
    pixel_bytes: int
    line_bytes: int
    pitch_bytes: int = 0
    strips: int = 1
    packed: bool = False

    @property
    def step(self) -> int:
        """Bytes from an output pixel's window to the next one's."""
        return self.convolution.stride * self.pixel_bytes

    @property
    def kernel_bytes(self) -> int:
        """Bytes of a line of the kernel, without what lies behind the channels of its last pixel."""
        return (self.convolution.kernel - 1) * self.pixel_bytes + self.convolution.inputs

    @property
    def segmented(self) -> bool:
        """Whether lines are whole words, so that a kernel's lines are segments; otherwise they are fed in one piece."""
        return self.line_bytes % self.pe_depth == 0

    @property
    def line_step(self) -> int:
        """Words from an output pixel's window to that of the pixel below."""
        return self.convolution.stride * self.line_bytes // self.pe_depth

    def strip(self, pixel: int) -> tuple[int, int]:
        """(strip, byte in its lines) of the window of an output pixel."""
        if self.packed:
            number, place = divmod(pixel, ceil_div(self.pixels, self.strips))
            return number, place * self.step
        return pixel % self.strips, pixel // self.strips * self.strips * self.step

    def strip_start(self, strip: int) -> int:
        """Byte of a line of the whole part that a strip begins with."""
        return strip * self.step * (ceil_div(self.pixels, self.strips) if self.packed else 1)

    def segment_words(self, phase: int) -> int:
        """Words of a segment where the window begins at byte ``phase`` of a word."""
        lines = 0 if self.segmented else self.convolution.kernel - 1
        return ceil_div(phase + lines * self.line_bytes + self.kernel_bytes, self.pe_depth)

    def k_words(self, phase: int) -> int:
        """Words of a dot product."""
        return self.segment_words(phase) * (self.convolution.kernel if self.segmented else 1)

    def extent(self, phase: int) -> int:
        """Words from the first word of a dot product to its last."""
        words = self.segment_words(phase)
        return words + (self.convolution.kernel - 1) * self.line_bytes // self.pe_depth if self.segmented else words

    @cached_property
    def strip_words(self) -> int:
        """Words of a strip, with what the last windows read beyond its lines."""
        ends = [ceil_div(self.lines * self.line_bytes, self.pe_depth)]
        for pixel in range(self.pixels):
            word, phase = divmod(self.strip(pixel)[1], self.pe_depth)
            ends.append(word + (self.pixels - 1) * self.line_step + self.extent(phase))
        return max(ends)

    @property
    def words(self) -> int:
        """Words of all strips."""
        return self.strips * self.strip_words

    @cached_property
    def most_k_words(self) -> int:
        """Words of the longest dot product."""
        return max(self.k_words(self.strip(pixel)[1] % self.pe_depth) for pixel in range(self.pixels))

    def feed_cycles(self, cols: int) -> int:
        """Cycles of the array for all output pixels of a row tile."""
        words = sum(max(cols, self.k_words(self.strip(pixel)[1] % self.pe_depth)) for pixel in range(self.pixels))
        return self.pixels * words * ceil_div(self.convolution.outputs, cols)

    @property
    def contiguous(self) -> bool:
        """Whether the lines of patches side by side lie one behind the other, so that a LOAD reads them as one."""
        return self.line_bytes == self.pitch_bytes and self.segmented

    def load_cycles(self, width: int, config: AcceleratorConfig) -> int:
        """Cycles of the LOADs of a row tile, about: words, beats, or as often as the memory's latency lets a burst be answered.

        Args:
            width: patches of a line of patches.
            config: the machine.
        """
        patches = min(width, config.rows) if self.contiguous else 1
        beats = patches * self.line_bytes / config.axi_bytes + 1
        bursts = ceil_div(int(beats), config.burst_beats)
        run = max(patches * self.line_bytes / config.pe_depth, beats, bursts * _MEMORY_LATENCY / config.outstanding)
        return round(config.rows / patches * self.lines * self.strips * run)


_MEMORY_LATENCY = 120
"""Cycles that the choice of a plan takes for a burst's way to memory and back; the measured default of `hw.memory_timing`."""


def _round_up(value: int, unit: int) -> int:
    return ceil_div(value, unit) * unit


def picture_windows(geometry: StemGeometry, pe_depth: int) -> Iterator[Window]:
    """Ways in which the picture's part may be loaded.

    Pixels have their channels' bytes or the next power of two. Lines are whole words, in as many strips as bring
    windows to the beginning of a word or fewer; or as long as a patch is wide, so that patches side by side are read as one; or
    shorter than a word (several fill one), with few output pixels each.
    """
    convolution, pixels, lines = geometry.convolutions[0], geometry.sides[1], geometry.sides[0]
    power = 1 << (convolution.inputs - 1).bit_length()
    for pixel_bytes in sorted({convolution.inputs, power}):
        shape = (convolution, pe_depth, pixels, lines, pixel_bytes)
        step, kernel_bytes = convolution.stride * pixel_bytes, (convolution.kernel - 1) * pixel_bytes + convolution.inputs
        pitch_bytes = geometry.pitches[0] * pixel_bytes
        for strips in range(1, min(pixels, pe_depth) + 1):
            last = (ceil_div(pixels, strips) - 1) * strips * step
            yield Window(*shape, _round_up(last + kernel_bytes, pe_depth), pitch_bytes, strips)
            if last == 0 or strips * step % pe_depth == 0:
                break
        for per_strip in range(1, pixels + 1):
            least = (per_strip - 1) * step + kernel_bytes
            sizes = (size for size in range(least, pe_depth) if convolution.stride * size % pe_depth == 0)
            for line_bytes in sizes:
                yield Window(*shape, line_bytes, pitch_bytes, ceil_div(pixels, per_strip), packed=True)
                break
        if pitch_bytes % pe_depth == 0 and kernel_bytes <= pitch_bytes:
            per_strip = min(pixels, (pitch_bytes - kernel_bytes) // step + 1)
            yield Window(*shape, pitch_bytes, pitch_bytes, ceil_div(pixels, per_strip), packed=True)


def map_window(geometry: StemGeometry, stage: int, pe_depth: int) -> Window:
    """Map ``stage``, at least 1, as the convolution behind it reads it."""
    convolution, side = geometry.convolutions[stage], geometry.sides[stage]
    return Window(
        convolution, pe_depth, geometry.sides[stage + 1], side, convolution.inputs, _round_up(side * convolution.inputs, pe_depth)
    )


@dataclass(frozen=True)
class StemPlan:
    """How a stem runs in the activation banks.

    Some row tiles are computed one after the other, then embedded together: their last maps lie at the bank's beginning, tile
    behind tile; the other maps, of one row tile at a time, behind the last tile but one.

    Attributes:
        geometry: which pixels.
        windows: map i as convolution i reads it.
        bases: first word of map i.
        slot_words: words of a row tile's last map.
        row_tiles: that are embedded together at most.
        words: of the bank.
    """

    geometry: StemGeometry
    windows: tuple[Window, ...]
    bases: tuple[int, ...]
    slot_words: int
    row_tiles: int
    words: int

    @property
    def line_words(self) -> int:
        """Words of a line of the last map."""
        return self.slot_words // self.geometry.side

    def image_layout(self) -> ImageLayout:
        """The picture in memory: every window lies inside."""
        geometry, window = self.geometry, self.windows[0]
        border = geometry.halos[0]
        (height, width), pitch = geometry.image_size, geometry.pitches[0]
        lines = (geometry.grid[0] - 1) * pitch + window.lines
        line_bytes = (geometry.grid[1] - 1) * pitch * window.pixel_bytes + window.strip_start(window.strips - 1) + window.line_bytes
        return ImageLayout(
            height=height, width=width, channels=geometry.convolutions[0].inputs, top=border, left=border,
            bottom=max(0, lines - border - height), right=max(0, ceil_div(line_bytes, window.pixel_bytes) - border - width),
            pixel_bytes=window.pixel_bytes,
        )  # fmt: skip


def _plan(geometry: StemGeometry, picture: Window, row_tiles: int) -> StemPlan:
    """Maps alternate between the two ends of the space behind the row tiles that are done, the last but one at the far end."""
    pe_depth, count = picture.pe_depth, len(geometry.convolutions)
    windows = (picture, *(map_window(geometry, stage, pe_depth) for stage in range(1, count)))
    slot = geometry.side * ceil_div(geometry.side * geometry.convolutions[-1].outputs, pe_depth)
    sizes = [*(window.words for window in windows), slot]
    start = (row_tiles - 1) * slot
    end = start + max(sizes[stage] + sizes[stage + 1] for stage in range(count))
    bases = tuple(start if (count - stage) % 2 == 0 else end - sizes[stage] for stage in range(count))
    return StemPlan(geometry, windows, bases, slot, row_tiles, end)


def least_plan(geometry: StemGeometry, pe_depth: int) -> StemPlan:
    """The plan with the fewest words of activation bank."""
    return min((_plan(geometry, picture, 1) for picture in picture_windows(geometry, pe_depth)), key=lambda plan: plan.words)


def most_k_words(plan: StemPlan) -> int:
    """Words of the longest dot product of a stem's convolutions."""
    return max(window.most_k_words for window in plan.windows)


def choose_plan(geometry: StemGeometry, dim: int, row_tiles: int, config: AcceleratorConfig) -> StemPlan:
    """The plan with the fewest predicted cycles that fits a machine; of those, the one that embeds most row tiles at once.

    Args:
        geometry: of the stem.
        dim: channels of the residual stream.
        row_tiles: of the network.
        config: a machine of at least the sizes of `least_plan`.
    """

    def cost(plan: StemPlan) -> tuple[int, int]:
        picture = plan.windows[0]
        stem = picture.feed_cycles(config.cols) + picture.load_cycles(geometry.grid[1], config)
        k_words, column_tiles = plan.slot_words, ceil_div(dim, config.cols)
        stream = config.weight_port_bytes(k_words, column_tiles) // config.axi_bytes
        tile = max(config.cols, k_words) * column_tiles
        cycles = row_tiles * stem + sum(max(stream, count * tile) for count in chunks(row_tiles, plan.row_tiles))
        return cycles, -plan.row_tiles

    pictures = list(picture_windows(geometry, config.pe_depth))
    plans = [_plan(geometry, picture, tiles) for picture in pictures for tiles in range(1, row_tiles + 1)]
    fitting = [p for p in plans if p.words <= config.activation_words and most_k_words(p) <= config.weight_words]
    return min(fitting, key=cost)


def chunks(total: int, most: int) -> Sequence[int]:
    """``total`` things in as few parts of at most ``most`` as there can be, as equal as they can be."""
    parts = ceil_div(total, most)
    return [total // parts + (part < total % parts) for part in range(parts)]

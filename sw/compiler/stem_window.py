"""How a row's part of a map may lie in its activation bank, as a convolution reads it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from hw.config import AcceleratorConfig, ceil_div
from hw.memory_timing import MemoryTiming
from sw.compiler.stem_geometry import StemGeometry
from sw.graph.convolution import ConvolutionShape


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
        run = max(patches * self.line_bytes / config.pe_depth, beats, bursts * MemoryTiming.latency / config.outstanding)
        return round(config.rows / patches * self.lines * self.strips * run)


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

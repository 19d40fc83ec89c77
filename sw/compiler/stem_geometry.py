"""Which pixels of a convolution stem's maps each row needs for its own patch.

A row owns one patch of the picture. It computes its part of every map with a halo that the next convolutions eat up, so rows
exchange nothing; pixels of a halo are computed by several rows. Map 0 is the picture, map i the output of convolution i - 1.
Sides, halos and strides below are those of both axes.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod

from hw.errors import InputError
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

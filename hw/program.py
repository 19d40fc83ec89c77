"""A Program: everything the accelerator needs for one network or a gated pair, as data."""

from dataclasses import dataclass, field

import numpy as np

from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.isa import DESCRIPTOR_BYTES, RECORD_HEAD_BYTES, Descriptor


@dataclass(frozen=True, kw_only=True)
class ImageLayout:
    """How an image lies in memory where it is not dense: with a border of zeros, for a convolution's windows beyond its edges.

    Args:
        height, width, channels: of the plain image.
        top, left, bottom, right: pixels of the border.
        pixel_bytes: bytes from a pixel to the next; bytes behind its channels are zero.
    """

    height: int
    width: int
    channels: int
    top: int
    left: int
    bottom: int
    right: int
    pixel_bytes: int

    @property
    def line_bytes(self) -> int:
        """Bytes from a line to the next."""
        return (self.left + self.width + self.right) * self.pixel_bytes

    @property
    def image_bytes(self) -> int:
        """Bytes of an image with its border."""
        return (self.top + self.height + self.bottom) * self.line_bytes

    def pack(self, images: np.ndarray) -> np.ndarray:
        """The images as they lie in memory.

        Args:
            images: int8 [n, height * width * channels], or any shape of as many bytes.

        Returns:
            int8 [n, image_bytes].
        """
        shape = (len(images), self.top + self.height + self.bottom, self.left + self.width + self.right, self.pixel_bytes)
        laid = np.zeros(shape, np.int8)
        inner = laid[:, self.top : self.top + self.height, self.left : self.left + self.width, : self.channels]
        inner[:] = images.reshape(inner.shape)
        return laid.reshape(len(images), -1)


@dataclass(frozen=True)
class Program:
    """Descriptors, weights, parameters and tables in one block of memory.

    Args:
        config: machine that it was compiled for; another one would misread it.
        memory: the block; descriptors first, every region aligned to a beat.
        descriptor_count: 64-byte descriptors at the start.
        image_bytes: bytes of one int8 image [height, width, channels] (pixel - 128) in memory, dense or as `image_layout` says.
        classes: logits per image.
        path_masks: (low, high) masks of kept attentions, bit i for encoder i; a Program of one network uses the low one.
        threshold: gate threshold in 2^-12 nat; 0 where there is no gate.
        regions: (name, offset, bytes) of every region, for people and for fault injection.
        image_layout: how `hw.device.check_images` lays images out; None for dense ones.
        shared_encoders: of a pair whose high effort resumes: how many encoders it takes over from the low one; else None.
        redundant_macs: multiply-accumulates of one network's stem that are not its convolutions': of halos and of padding.
    """

    config: AcceleratorConfig
    memory: bytes
    descriptor_count: int
    image_bytes: int
    classes: int
    path_masks: tuple[int, int]
    threshold: int = 0
    regions: tuple[tuple[str, int, int], ...] = field(default=(), repr=False)
    image_layout: ImageLayout | None = None
    redundant_macs: int = 0
    shared_encoders: int | None = None

    @property
    def image_stride(self) -> int:
        """Bytes from an image to the next: `image_bytes` rounded up to a beat."""
        return -(-self.image_bytes // self.config.axi_bytes) * self.config.axi_bytes

    @property
    def record_stride(self) -> int:
        """Bytes from a result record to the next, rounded up to a beat."""
        size = RECORD_HEAD_BYTES + 4 * self.classes
        return -(-size // self.config.axi_bytes) * self.config.axi_bytes

    def descriptors(self) -> list[Descriptor]:
        """The descriptors in order.

        Raises:
            ValueError: for an unknown opcode.
        """
        starts = range(0, self.descriptor_count * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES)
        return [Descriptor.decode(self.memory[start : start + DESCRIPTOR_BYTES]) for start in starts]

    def region(self, name: str) -> tuple[int, int]:
        """(offset, bytes) of the first region of that name.

        Raises:
            InputError: for an unknown name.
        """
        for known, offset, size in self.regions:
            if known == name:
                return offset, size
        raise InputError(f"Program has no region {name!r}; it has {', '.join(sorted({r[0] for r in self.regions}))}")

"""The shape of a stem's convolution."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvolutionShape:
    """A square convolution of a stem.

    Attributes:
        inputs: channels read.
        outputs: channels written.
        kernel: side of the kernel.
        stride: of both axes.
        padding: zeros on all four sides.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int

    def size(self, side: int) -> int:
        """Pixels of the output along an axis of ``side`` pixels."""
        return (side + 2 * self.padding - self.kernel) // self.stride + 1

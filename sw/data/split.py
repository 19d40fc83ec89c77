"""Images with labels."""

from dataclasses import dataclass

import numpy as np

from hw.errors import InputError


@dataclass(frozen=True)
class Split:
    """Some images of a data set.

    Attributes:
        name: ``train``, ``calibration``, ``test`` or ``test_all``.
        images: uint8 [n, height, width, channels], pixels 0 ... 255.
        labels: int64 [n], classes from 0.
        indices: int64 [n], each image's place in what it was taken from, such as the training file.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def take(self, count: int) -> "Split":
        """Return the first ``count`` images as a split of the same name."""
        if not 1 <= count <= len(self):
            raise InputError(f"Image count must be 1 to {len(self)} (split {self.name!r}), not {count}")
        return Split(self.name, self.images[:count], self.labels[:count], self.indices[:count])

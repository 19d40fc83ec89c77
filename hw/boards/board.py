"""What a board must say of itself."""

from collections.abc import Callable
from dataclasses import dataclass

from hw.config import AcceleratorConfig


@dataclass(frozen=True)
class Board:
    """A board that a machine can be built for.

    Attributes:
        name: on the command line.
        device: the part's full name.
        preset: the machine that is built without ``--preset``.
        capacity: ``lut``, ``ff``, ``dsp`` and ``bram36`` of the device.
        check: raises InputError for a machine that the board cannot carry, whatever its size.
        project: files of the vendor project by path within the output directory.
    """

    name: str
    device: str
    preset: str
    capacity: dict[str, int]
    check: Callable[[AcceleratorConfig], None]
    project: Callable[[AcceleratorConfig], dict[str, str]]

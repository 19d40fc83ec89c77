"""What a board must say of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hw.config import AcceleratorConfig


@dataclass(frozen=True)
class Board:
    """A board that a machine can be built for, by its vendor's tools (`project`) or by open ones (`build`).

    Attributes:
        name: on the command line.
        device: the part's full name.
        preset: the machine that is built without ``--preset``.
        capacity: cells of the device by the names of the report's ``resources``.
        cells: what the device calls them, by the same names.
        multiplier_dsps: DSP cells of one packed product of a PE pair, 27 by 8 bits.
        check: raises InputError for a machine that the board cannot carry, whatever its size.
        project: files of the vendor project by path within the output directory; none where open tools build.
        build: from (machine, whether to make a bitstream) to (fields of the report, files by path within the output directory);
            ``resources``, ``clock_mhz`` and ``method`` at least.
    """

    name: str
    device: str
    preset: str
    capacity: dict[str, int]
    cells: dict[str, str]
    multiplier_dsps: int
    check: Callable[[AcceleratorConfig], None]
    project: Callable[[AcceleratorConfig], dict[str, str]] = lambda config: {}
    build: Callable[[AcceleratorConfig, bool], tuple[dict[str, Any], dict[str, bytes]]] | None = None

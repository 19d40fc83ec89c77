"""What runs a Program: the golden model, the RTL simulation and a board all answer with the same results."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol

import numpy as np

from hw.config import AcceleratorConfig
from hw.errors import InputError, MachineError
from hw.isa import Error
from hw.program import Program

EXIT_LOW, EXIT_END = 0, 1
"""Values of a record's `exit`: the image left at a gate; it went on to END."""

DEVICES = "pivot_codesign.devices"
"""Group of entry points: classes that `open_device` gives a configuration."""


@dataclass(frozen=True)
class RunResult:
    """Result records of a batch of images, and what the machine says of itself.

    Attributes:
        logits: int64 [n, classes], in 2^-12 nat.
        exits: int64 [n], `EXIT_LOW` or `EXIT_END`.
        entropy: int64 [n], entropy of ``logits`` in 2^-12 nat.
        gate_entropy: int64 [n], entropy that the last gate saw in 2^-12 nat, or `hw.isa.NO_GATE`.
        cycles: int64 [n], cycles from each image's start to its record; empty where the device has no time.
        error: `Error.NONE`, or why the machine stopped; then only the images before it have records.
        error_descriptor: Index of the descriptor that the error belongs to.
        counters: The machine's counters by name; empty where it has none.
        wall_s: Seconds that the run took.
        build_wall_s: Seconds that building, or finding, the simulation took; 0 where there is none.
    """

    logits: np.ndarray
    exits: np.ndarray
    entropy: np.ndarray
    gate_entropy: np.ndarray
    cycles: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    error: Error = Error.NONE
    error_descriptor: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    wall_s: float = 0.0
    build_wall_s: float = 0.0

    def __len__(self) -> int:
        """Number of images with a record."""
        return len(self.exits)

    def checked(self) -> "RunResult":
        """This result.

        Raises:
            MachineError: the machine stopped with an error.
        """
        if self.error:
            raise MachineError(f"Machine stopped with error {self.error.name} at descriptor {self.error_descriptor}")
        return self

    @property
    def top1(self) -> np.ndarray:
        """int64 [n]: class with the greatest logit; the lowest such class."""
        return np.argmax(self.logits, axis=1)

    @property
    def sim_cycles_per_s(self) -> float:
        """Machine cycles per second of wall-clock time; 0 without a cycle counter."""
        return self.counters.get("cycles", 0) / self.wall_s if self.wall_s else 0.0


class Device(Protocol):
    """Something that runs any Program of its configuration.

    A device may take more keywords, such as a simulated memory's timing.
    """

    def run(
        self,
        program: Program,
        images: np.ndarray,
        *,
        path_masks: tuple[int, int] | None = None,
        threshold: int | None = None,
        deadline: int | None = None,
    ) -> RunResult:
        """Run a batch.

        Args:
            program: What to run.
            images: int8 [n, height, width, channels], pixel - 128.
            path_masks: (low, high) masks of kept attentions; the Program's own when None.
            threshold: Gate threshold in 2^-12 nat; the Program's own when None.
            deadline: Most cycles of an image; none when None. Devices without time ignore it.

        Raises:
            InputError: When images and Program do not fit each other, or the Program does not fit the device.
        """
        ...


def open_device(name: str, config: AcceleratorConfig, **options: Any) -> Device:
    """A device by its name among those that installed packages offer (entry points ``pivot_codesign.devices``).

    Args:
        name: such as ``golden`` or ``rtl``.
        config: the machine.
        options: of the device's own constructor.

    Raises:
        InputError: for an unknown name; the message lists the known ones. Also whatever the device raises.
    """
    known = {point.name: point for point in entry_points(group=DEVICES)}
    if name not in known:
        raise InputError(f"device must be one of {', '.join(sorted(known)) or 'none (install pivot-codesign)'}, not {name!r}")
    return known[name].load()(config, **options)


def check_program(program: Program, config: AcceleratorConfig) -> None:
    """Refuse a Program of another machine.

    Raises:
        InputError: It is one.
    """
    if program.config != config:
        raise InputError(f"Program must be compiled for {config}, not {program.config}")


def check_images(program: Program, images: np.ndarray) -> np.ndarray:
    """The images as they lie in memory, int8 [n, image_bytes].

    Raises:
        InputError: When they are not int8, there are none, or they are not of the Program's size.
    """
    if images.dtype != np.int8 or images.ndim < 2 or len(images) < 1:
        raise InputError(f"Images must be int8 [n, height, width, channels], not {images.dtype} {list(images.shape)}")
    flat = np.ascontiguousarray(images).reshape(len(images), -1)
    layout = program.image_layout
    size = program.image_bytes if layout is None else layout.height * layout.width * layout.channels
    if flat.shape[1] != size:
        raise InputError(f"Images must have {size} bytes each, not {flat.shape[1]}")
    return flat if layout is None else layout.pack(flat)


def mismatches(first: RunResult, second: RunResult) -> int:
    """Images whose logits, exit or entropy differ, or that only one of the two has a record of."""
    common = min(len(first), len(second))
    differ = np.zeros(common, dtype=bool)
    for name in ("exits", "entropy", "gate_entropy"):
        differ |= getattr(first, name)[:common] != getattr(second, name)[:common]
    if first.logits.shape[1] != second.logits.shape[1]:
        differ[:] = True
    else:
        differ |= np.any(first.logits[:common] != second.logits[:common], axis=1)
    return int(differ.sum()) + max(len(first), len(second)) - common

"""What every phase of a search shares: arguments, data, networks, store and progress."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from hw.config import AcceleratorConfig
from hw.memory_timing import MemoryTiming
from hw.provenance import source_digest, versions
from search.store import RunStore
from sw.data.fashion_mnist import FashionMnist
from sw.networks.options import NetworkOptions

if TYPE_CHECKING:
    from rich.progress import Progress

    from sw.graph.path_vit import PathVit

CODE = ("hw", "sw", "sim", "search")
"""What a run is of, apart from arguments, data, weights and versions."""


@dataclass(frozen=True)
class Arguments:
    """Everything that a search's result depends on, apart from code, data and versions.

    Attributes:
        network: with its weights.
        preset, overrides: machine and its ``--set`` assignments.
        data: directory or ``embedded``.
        memory: ``--memory`` assignments.
        lec: least fraction answered by the low effort.
        max_loss: greatest loss of accuracy against the int8 baseline, fraction of 1.
        rows: residual rows that CKA compares: ``class`` or ``mean``.
        finetune_steps, batch, learning_rate: fine-tuning of every effort; the rate is that of a path without attention.
        random_paths: random paths per chosen effort that its path is ranked among.
        rtl_images: test images of the gated RTL run.
        efforts: efforts to consider, ascending, the whole network's last; empty for all from 1 on.
        images: most images of the calibration and of the test split; None for all.
        seed: of fine-tuning and random paths.
        threads: torch threads; results are the same to the bit only at the same number.
    """

    network: NetworkOptions
    preset: str
    overrides: str
    data: str
    memory: str
    lec: float
    max_loss: float
    rows: str
    finetune_steps: int
    batch: int
    learning_rate: float
    random_paths: int
    rtl_images: int
    efforts: tuple[int, ...]
    images: int | None
    seed: int
    threads: int


def run_key(arguments: Arguments, data_digest: str, weights_digest: str) -> str:
    """Name of a run: 16 hexadecimal digits over arguments, data, weights, code and versions."""
    parts = [asdict(arguments), data_digest, weights_digest, source_digest(CODE), versions()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Steps:
    """Progress of a run over a known number of steps; where there is no terminal, a line per step."""

    def __init__(self, progress: "Progress", total: int):
        """Wrap a progress display."""
        self._progress = progress
        self._total = total
        self._begun = 0
        self._overall = progress.add_task("search", total=total)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[..., None]]:
        """Show a step while it runs; yields ``update(done, total)``."""
        self._begun += 1
        if not self._progress.console.is_terminal:
            self._progress.console.print(f"[{self._begun}/{self._total}] {name}")
        task = self._progress.add_task(name, total=None)
        try:
            yield lambda done, total, *_: self._progress.update(task, completed=done, total=total)
        finally:
            self._progress.remove_task(task)
        self._progress.advance(self._overall)


@dataclass(frozen=True)
class Run:
    """A search under way.

    Attributes:
        arguments: what was asked.
        config: the machine.
        store: finished steps.
        steps: progress.
        data: with its splits.
        network: the full one, in eval mode.
        memory: timing of the simulated one.
    """

    arguments: Arguments
    config: AcceleratorConfig
    store: RunStore
    steps: Steps
    data: FashionMnist
    network: "PathVit"
    memory: MemoryTiming

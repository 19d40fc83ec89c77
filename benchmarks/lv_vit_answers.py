"""The shipped LV-ViTs in int8, and their answers to whole splits: images and networks are shared out among processes.

`lv_vit_training.py` makes the checkpoints. The golden machine answers; it has one row for each token, for every machine gives the
same bits and this shape is quick in numpy.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from sw.checkpoint import load_tensors

CHECKPOINTS = Path(__file__).parent / "lv_vit"
MODEL = "fmnist_lvvit"
CALIBRATING = 512
"""Calibration images that quantization scales are chosen on, as in `sim.measure`."""
SLICE = 1000
"""Images that a process answers at a time."""
Shipped = tuple[int, str, tuple[int, ...]]
"""A checkpoint: seed, name, and the encoders whose attention it has."""


@dataclass(frozen=True)
class Answered:
    """A network's int8 answers to a split: which are right, and the entropy of each in 2^-12 nat."""

    right: np.ndarray
    entropy: np.ndarray


@dataclass(frozen=True, eq=False)
class Network:
    """One shipped network of one seed, quantized.

    Attributes:
        seed, name: of the checkpoint.
        kept: encoders whose attention it has.
        integer: `sw.integer_network.IntegerNetwork`.
    """

    seed: int
    name: str
    kept: tuple[int, ...]
    integer: Any


def _module() -> Any:
    from sw.network import parse_network, untrained_network

    return untrained_network(parse_network(MODEL))


def _put(vit: Any, seed: int, name: str) -> None:
    """Give a module a checkpoint's weights, which are float16."""
    tensors = load_tensors(CHECKPOINTS / f"seed{seed}" / f"{name}.safetensors")
    vit.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in tensors.items()})


def shipped_network(seed: int, name: str, kept: Iterable[int]) -> Any:
    """A network that `lv_vit_training.py` shipped: `sw.skipping.PathVit`, fp32, in eval mode."""
    from sw.skipping import PathVit

    vit = _module()
    _put(vit, seed, name)
    return PathVit(vit, kept).eval()


class Answers:
    """What the networks answer, computed once by a pool of processes.

    Attributes:
        digest: of the data.
    """

    def __init__(self, pool: ProcessPoolExecutor, data: Any, step: Callable[[str], None]) -> None:
        """``step`` is called with a line of text whenever something is done."""
        self._pool = pool
        self._data = data
        self._step = step
        self._known: dict[tuple[Network, str], Answered] = {}
        self.digest = data.digest

    def load(self, networks: list[Shipped]) -> list[Network]:
        """Quantize networks, each for itself."""
        return self._all([self._pool.submit(_quantized, each) for each in networks], "quantized")

    def load_pairs(self, pairs: list[tuple[Shipped, Shipped]]) -> list[tuple[Network, Network]]:
        """Quantize pairs of a low and a high effort that share their beginning's integers."""
        return self._all([self._pool.submit(_quantized_pair, *each) for each in pairs], "quantized as a pair")

    def fill(self, networks: Iterable[Network], split: str) -> None:
        """Let these networks answer all images of a split, where they have not yet."""
        images = len(getattr(self._data, split))
        missing = [network for network in dict.fromkeys(networks) if (network, split) not in self._known]
        starts = range(0, images, SLICE)
        parts = {
            network: [self._pool.submit(_answer, network.integer, split, start, min(start + SLICE, images)) for start in starts]
            for network in missing
        }
        self._wait({future: f"seed {network.seed}, {network.name}: {split}" for network in missing for future in parts[network]})
        for network, futures in parts.items():
            right, entropy = zip(*(future.result() for future in futures), strict=True)
            self._known[network, split] = Answered(np.concatenate(right), np.concatenate(entropy))

    def __call__(self, network: Network, split: str) -> Answered:
        """What `fill` found."""
        return self._known[network, split]

    def accuracies_fp32(self, networks: list[Network], split: str) -> list[float]:
        """Accuracies of the unquantized networks on a split."""
        shipped = [(network.seed, network.name, network.kept) for network in networks]
        return self._all([self._pool.submit(_accuracy_fp32, each, split) for each in shipped], "unquantized accuracy")

    def _all(self, futures: list[Future], what: str) -> list[Any]:
        self._wait(dict.fromkeys(futures, what))
        return [future.result() for future in futures]

    def _wait(self, names: dict[Future, str]) -> None:
        for future in as_completed(names):
            future.result()
            self._step(names[future])


@contextmanager
def answers(directory: str | None, step: Callable[[str], None]) -> Iterator[Answers]:
    """`Answers` on the Fashion-MNIST files of a directory, with a process for each core."""
    from sw.data import load_fashion_mnist

    data = load_fashion_mnist(directory)
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn"), initializer=_begin, initargs=(directory,)) as pool:
        yield Answers(pool, data, step)


_data: Any = None
"""The data set of a worker process."""


def _begin(directory: str | None) -> None:
    global _data
    import torch

    from sw.data import load_fashion_mnist

    torch.set_num_threads(1)
    _data = load_fashion_mnist(directory)


def _inputs(image_size: tuple[int, int]) -> Any:
    from sw.data import padded, to_input

    return to_input(padded(_data.calibration.take(CALIBRATING).images, image_size))


@cache
def _imported() -> tuple[Any, Any]:
    """A module of the networks' shape, and its graph, which need not be exported again for every checkpoint."""
    from sw.folding import image_shape
    from sw.importing import ImportedGraph

    vit = _module().eval()
    return vit, ImportedGraph(vit, image_shape(vit))


def _quantized(which: Shipped) -> Network:
    import torch

    from sw.calibration import calibrate
    from sw.quantization import quantize_folded

    seed, name, kept = which
    vit, graph = _imported()
    _put(vit, seed, name)
    with torch.no_grad():
        folded = graph.fold()
    return Network(*which, quantize_folded(folded, calibrate(folded, _inputs(folded.image_size), frozenset(kept))))


def _quantized_pair(low: Shipped, high: Shipped) -> tuple[Network, Network]:
    from sw.quantization import quantize_pair

    first, second = shipped_network(*low), shipped_network(*high)
    integers = quantize_pair(first, second, _inputs(first.image_size))
    return Network(*low, integers[0]), Network(*high, integers[1])


def _answer(integer: Any, split: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """(right, entropy) of some images."""
    from hw.config import AcceleratorConfig
    from hw.golden import GoldenMachine
    from sw.compiler import compile_network
    from sw.data import padded
    from sw.memory_map import required_config

    part, shape = getattr(_data, split), (integer.tokens, 16, 16)
    config = AcceleratorConfig(**dict(zip(("rows", "cols", "depth"), shape, strict=True)), **required_config(integer, *shape))
    program = compile_network(integer, config, mask_register=False)
    images = (padded(part.images[start:stop], integer.image_size).astype(np.int16) - 128).astype(np.int8)
    outcome = GoldenMachine(program, chunk=32, threads=1).run(images)
    return outcome.logits.argmax(1) == part.labels[start:stop], outcome.entropy


def _accuracy_fp32(which: Shipped, split: str) -> float:
    from sw.training import accuracy, evaluate_fp32

    part = getattr(_data, split)
    return accuracy(evaluate_fp32(shipped_network(*which), part), part)

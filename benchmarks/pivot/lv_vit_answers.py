"""The shipped LV-ViTs in int8, and their answers to whole splits: images and networks are shared out among processes.

`lv_vit_training.py` makes the checkpoints. The efforts of a seed share their stem, in integers, too, so that two of them answer as
one gated pair whose gate lets nothing leave: the second one resumes behind the stem. The golden machine answers; it has one row for
each token, for every machine gives the same bits and this shape is quick in numpy.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from benchmarks.pivot.lv_vit_weights import effort_name, load_network, shipped_paths
from benchmarks.processes import data_pool, worker_data
from sw.data.fashion_mnist import FashionMnist
from sw.graph.integer_network import IntegerNetwork

CALIBRATING = 512
"""Calibration images that quantization scales are chosen on, as in `sim.measure`."""
SLICE = 1000
"""Images that a process answers at a time."""


@dataclass(frozen=True)
class Answered:
    """A network's int8 answers to a split: which are right, and the entropy of each in 2^-12 nat."""

    right: np.ndarray
    entropy: np.ndarray


@dataclass(frozen=True, eq=False)
class Network:
    """One effort of one seed, quantized.

    Attributes:
        seed, effort: which.
        kept: encoders whose attention it has.
        integer: the network.
        answers: by split, what `Answerer.finish` filled in.
    """

    seed: int
    effort: int
    kept: tuple[int, ...]
    integer: IntegerNetwork
    answers: dict[str, Answered] = field(default_factory=dict)


class Answerer:
    """Lets a pool of processes quantize the networks and answer images.

    Attributes:
        digest: of the data.
    """

    def __init__(self, pool: ProcessPoolExecutor, data: FashionMnist, step: Callable[[str], None]) -> None:
        """``step`` is called with a line of text whenever something is done."""
        self._pool = pool
        self._data = data
        self._step = step
        self._quantized: dict[int, Future] = {}
        self._begun: list[tuple[tuple[Network, ...], str, list[Future]]] = []
        self.digest = data.digest

    def begin_networks(self) -> None:
        """Have all shipped networks quantized, those of a seed jointly; `networks` waits for it."""
        self._quantized = {seed: self._pool.submit(_quantized, seed, paths) for seed, paths in shipped_paths().items()}

    def networks(self) -> dict[int, dict[int, Network]]:
        """All shipped networks by seed and rising effort."""
        self._wait({future: f"seed {seed}: quantized" for seed, future in self._quantized.items()})
        return {seed: future.result() for seed, future in self._quantized.items()}

    def begin(self, networks: Iterable[Network], split: str) -> None:
        """Have these networks answer all images of a split, where they have not yet; `finish` waits for it."""
        images, seeds = len(getattr(self._data, split)), defaultdict(list)
        for network in dict.fromkeys(networks):
            if split not in network.answers:
                seeds[network.seed].append(network)
        for group in (tuple(each[start : start + 2]) for each in seeds.values() for start in range(0, len(each), 2)):
            slices = ((start, min(start + SLICE, images)) for start in range(0, images, SLICE))
            integers = tuple(network.integer for network in group)
            self._begun.append((group, split, [self._pool.submit(_answer, integers, split, *each) for each in slices]))

    def finish(self) -> None:
        """Wait for the answers that were begun."""
        self._wait({
            future: f"seed {group[0].seed}, effort {' and '.join(str(network.effort) for network in group)}: {split}"
            for group, split, futures in self._begun for future in futures
        })  # fmt: skip
        for group, split, futures in self._begun:
            for network, parts in zip(group, zip(*(future.result() for future in futures), strict=True), strict=True):
                network.answers[split] = Answered(*(np.concatenate(each) for each in zip(*parts, strict=True)))
        self._begun.clear()

    def begin_fp32(self, networks: Iterable[Network], split: str) -> list[Future]:
        """Accuracies of the unquantized networks on a split, as futures."""
        which = ((network.seed, network.effort, network.kept) for network in networks)
        return [self._pool.submit(_accuracy_fp32, *each, split) for each in which]

    def _wait(self, names: dict[Future, str]) -> None:
        for future in as_completed(names):
            future.result()
            self._step(names[future])


@contextmanager
def answerer(directory: str | None, step: Callable[[str], None]) -> Iterator[Answerer]:
    """`Answerer` on the Fashion-MNIST files of a directory, with a process for each core."""
    from sw.data.fashion_mnist import load_fashion_mnist

    data = load_fashion_mnist(directory)
    with data_pool(directory) as pool:
        yield Answerer(pool, data, step)


def _quantized(seed: int, paths: dict[int, tuple[int, ...]]) -> dict[int, Network]:
    from sw.data.pixels import padded, to_input
    from sw.quantization.quantize import quantize_jointly

    networks = [load_network(seed, effort_name(effort), kept) for effort, kept in paths.items()]
    images = to_input(padded(worker_data().calibration.take(CALIBRATING).images, networks[0].image_size))
    integers = quantize_jointly(networks, images)
    return {effort: Network(seed, effort, paths[effort], integer) for effort, integer in zip(paths, integers, strict=True)}


def _answer(integers: tuple[IntegerNetwork, ...], split: str, start: int, stop: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(right, entropy) of some images, of one network or two."""
    from hw.config import AcceleratorConfig
    from hw.golden import GoldenDevice
    from hw.isa import FLAG_HIGH, Descriptor, Opcode, Post
    from sw.compiler.memory_map import required_config
    from sw.compiler.programs import compile_network, compile_pair
    from sw.data.pixels import padded, to_pixels

    last = integers[-1]
    shape, part = (last.tokens, 16, 16), getattr(worker_data(), split)
    sizes = required_config(last, *shape)
    sizes |= {name: 2 * sizes[name] for name in ("residual_words", "row_tiles")}  # a pair that resumes holds two residual streams
    config = AcceleratorConfig(**dict(zip(("rows", "cols", "pe_depth"), shape, strict=True)), **sizes)
    if len(integers) == 1:
        program = compile_network(last, config, mask_register=False)
    else:
        low, high = integers
        program = compile_pair(low, high, config, 0, resume=True)
    logits = []

    def see(_: int, descriptor: Descriptor, values: np.ndarray) -> None:
        if descriptor.opcode == Opcode.GEMM and descriptor.post == Post.LOGITS and not descriptor.flags & FLAG_HIGH:
            logits.append(values[:, 0])

    images = to_pixels(padded(part.images[start:stop], last.image_size))
    outcome = GoldenDevice(threads=1, observer=see).run(program, images, threshold=-1)
    answers = [(outcome.top1, outcome.entropy)]
    if len(integers) == 2:
        answers.insert(0, (np.concatenate(logits).argmax(axis=1), outcome.gate_entropy))
    return [(top1 == part.labels[start:stop], entropy) for top1, entropy in answers]


def _accuracy_fp32(seed: int, effort: int, kept: tuple[int, ...], split: str) -> float:
    from sw.training.trainer import accuracy, evaluate_fp32

    part = getattr(worker_data(), split)
    return accuracy(evaluate_fp32(load_network(seed, effort_name(effort), kept), part), part)

"""Processes that benchmarks share work out among, each with one thread of torch."""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sw.data.fashion_mnist import FashionMnist

_directory: str | None = None
"""Where a worker process finds its data set."""


def pool(workers: int | None = None) -> ProcessPoolExecutor:
    """Fresh processes, ``workers`` of them or one for each core."""
    return ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn"))


def data_pool(directory: str | None) -> ProcessPoolExecutor:
    """A process for each core, each with the Fashion-MNIST of a directory as `worker_data`."""
    return ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=_begin, initargs=(directory,))


@cache
def worker_data() -> "FashionMnist":
    """The data set, in a process of `data_pool`; read when it is asked for first."""
    from sw.data.fashion_mnist import load_fashion_mnist

    return load_fashion_mnist(_directory)


def _begin(directory: str | None) -> None:
    global _directory
    import torch

    torch.set_num_threads(1)  # two processes train 1,600 images/s on two cores, one on both 700
    _directory = directory

"""What tests of training share."""

import pytest
import torch

from sw.data.fashion_mnist import load_fashion_mnist


@pytest.fixture(scope="session")
def data():
    return load_fashion_mnist("embedded")


@pytest.fixture(scope="module")
def one_thread():
    """Results to the last bit depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

"""The order of a network's tokens in the machine."""

import numpy as np

from hw.errors import InputError
from sw.graph.integer_network import IntegerNetwork


def token_order(network: IntegerNetwork, rows: int) -> np.ndarray:
    """Network token of each token of a machine of ``rows`` rows, int64 [tokens].

    Attention does not care about the order. The head reads row 0 alone, so a distillation token, number 1, changes places with
    the first token of row tile 1.

    Raises:
        InputError: there is no such token.
    """
    order = np.arange(network.tokens)
    if network.head_tokens == 2:
        if len(order) <= rows:
            raise InputError(f"rows must be less than {len(order)}, the tokens of this distilled network, not {rows}")
        order[[1, rows]] = rows, 1
    return order

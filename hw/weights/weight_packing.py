"""The words of a PE pair's columns as one word of packed operands, made once for all rows."""

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Cat, Value

from hw.config import AcceleratorConfig


def pack_words(config: AcceleratorConfig, words: Sequence[Value]) -> Value:
    """A `tokens.pair_weights` word in the same cycle.

    Arguments:
        config: the machine.
        words: of the pair's columns, 1 or 2, ``depth`` bytes each, element j at byte j.
    """
    if len(words) == 1:
        return words[0]
    elements = []
    for k in range(config.depth):
        low, high = (word[8 * k : 8 * k + 8].as_signed() for word in words)
        elements += [low, high + low[-1].as_signed()]  # a sign bit, signed, is -1
    return Cat(*elements)


def pack_words_model(words: np.ndarray) -> list:
    """Elements of the `tokens.pair_weights` word of int8 words [columns, depth]."""
    if len(words) == 1:
        return [int(weight) for weight in words[0]]
    return [{"low": int(low), "high": int(high) - int(low < 0)} for low, high in zip(*words, strict=True)]

"""How far two networks are the same from their images on; float networks and integer networks alike."""

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from sw.graph.float_network import FloatNetwork
from sw.graph.integer_network import IntegerNetwork
from sw.graph.path import Path

_Network = TypeVar("_Network", FloatNetwork, IntegerNetwork)
_BEHIND = ("encoders", "final_norm", "epsilon", "head")
"""Fields of a network that do not tell what enters the first encoder."""


def shared_encoders(low: _Network, high: _Network, low_path: Path, high_path: Path) -> int | None:
    """Return how many first encoders compute the same; None where not even what enters the first one is the same.

    Args:
        low: one network.
        high: another of the same form.
        low_path: of `low`.
        high_path: of `high`; a branch that both paths skip may differ.
    """
    before = [field.name for field in fields(low) if field.name not in _BEHIND]
    if not all(equal(getattr(low, name), getattr(high, name)) for name in before):
        return None
    count = 0
    for one, other in zip(low.encoders, high.encoders, strict=False):
        running = [
            tuple(branch for branch in encoder.branches if path.runs(count, branch.kind))
            for encoder, path in ((one, low_path), (other, high_path))
        ]
        if not equal(*running):
            break
        count += 1
    return count


def equal(one: Any, other: Any) -> bool:
    """Return whether two parts of networks hold the same numbers; functions count by what they make of some numbers."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if is_dataclass(one) and type(one) is type(other):
        return all(equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if one is None or isinstance(one, (int, float, str)):
        return bool(one == other)
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if callable(one) and callable(other):
        probe = torch.linspace(-8, 8, 129)
        return torch.equal(one(probe), other(probe))
    return False

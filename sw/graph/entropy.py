"""The entropy of a network's answers in float32; the machine's own is in `hw.control.gate`."""

import torch
from torch.nn import functional


def entropy_nats(logits: torch.Tensor) -> torch.Tensor:
    """Return the entropy sum -p log p of softmax(logits), in nats, [n] for logits [n, classes]; 0 log 0 is 0."""
    # The clamp makes 0 log 0 a product of 0 and a finite number, and not NaN; exp(-1000) is 0.
    log_probabilities = functional.log_softmax(logits.float(), -1).clamp(min=-1000.0)
    return -(log_probabilities.exp() * log_probabilities).sum(-1)

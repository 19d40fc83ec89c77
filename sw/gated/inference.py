"""Gated inference: the low effort answers, and where it is uncertain the high effort answers again.

On a machine, real or modelled, the gate is a descriptor of the pair's Program. On torch the same is done in batches: the low
effort answers all images, and those that are hard are gathered into batches for the high effort.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hw.config import milliseconds
from hw.device import EXIT_LOW, Device
from hw.numerics import UNITS_PER_NAT
from sw.gated.pair import Pair

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Answers:
    """Answers to n images.

    Attributes:
        logits: float64 [n, classes], in nats.
        exits_low: bool [n]: the low effort's answer stood.
        gate_entropy: float64 [n]: entropy of the low effort's answer in nats.
        delay_ms, energy_mj: float64 [n]: of the machine, whichever device answered.
        wall_s: seconds that the device took.
    """

    logits: np.ndarray
    exits_low: np.ndarray
    gate_entropy: np.ndarray
    delay_ms: np.ndarray
    energy_mj: np.ndarray
    wall_s: float

    @property
    def entropy_share(self) -> np.ndarray:
        """Float64 [n]: the low effort's entropy over its greatest value, ln(classes)."""
        return self.gate_entropy / np.log(self.logits.shape[1])

    @property
    def top1(self) -> np.ndarray:
        """Int64 [n]: class with the greatest logit; the lowest such class."""
        return self.logits.argmax(1)

    def best(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``count`` likeliest classes, int64 [n, count], and their probabilities, float64 [n, count]."""
        order = np.argsort(-self.logits, axis=1, kind="stable")[:, :count]
        exps = np.exp(self.logits - self.logits.max(1, keepdims=True))
        return order, np.take_along_axis(exps / exps.sum(1, keepdims=True), order, 1)


def infer(pair: Pair, images: np.ndarray, device: Device) -> Answers:
    """Answer images on a machine.

    Args:
        pair: the pair.
        images: int8 [n, height, width, channels], pixel - 128 (`sw.data.pixels.to_pixels`).
        device: golden, simulated or real; of the pair's configuration.

    Returns:
        Answers; the delay is the device's own where it has cycles, else the pair's cost of the exit.

    Raises:
        InputError: the images do not fit.
        MachineError: the machine stopped with an error.
    """
    result = device.run(pair.program, images).checked()
    low = result.exits == EXIT_LOW
    delay = milliseconds(result.cycles, pair.config.clock_mhz) if len(result.cycles) else _of_exit(pair, low, "delay_ms")
    entropy = result.gate_entropy / UNITS_PER_NAT
    return Answers(result.logits / UNITS_PER_NAT, low, entropy, delay, _of_exit(pair, low, "energy_mj"), result.wall_s)


def infer_torch(pair: Pair, images: "Tensor", batch: int = 64) -> Answers:
    """Answer images in float32 with torch on this computer; delay and energy are still the machine's.

    The threshold was chosen on the machine's integer entropy; float entropy is within 0.01 nat of it on the same logits.

    Args:
        pair: the pair.
        images: float32 tensor [n, channels, height, width] of `sw.data.pixels.to_input`.
        batch: most images of a pass.
    """
    low, high = pair.modules
    started = time.perf_counter()
    logits, exits_low, entropy = cascade(low, high, images, pair.threshold_nats, batch)
    wall_s = time.perf_counter() - started
    exits = exits_low.numpy()
    delay, energy = (_of_exit(pair, exits, name) for name in ("delay_ms", "energy_mj"))
    return Answers(logits.double().numpy(), exits, entropy.double().numpy(), delay, energy, wall_s)


def cascade(
    low: "nn.Module", high: "nn.Module", images: "Tensor", threshold_nats: float, batch: int = 64
) -> "tuple[Tensor, Tensor, Tensor]":
    """Answer images with two torch networks.

    Args:
        low: answers all images.
        high: answers those whose first answer has an entropy above the threshold, gathered into whole batches.
        images: float32 [n, channels, height, width].
        threshold_nats: of the entropy.
        batch: most images of a pass.

    Returns:
        Logits float32 [n, classes], bool [n] whether the low effort's stood, and its entropy in nats, float32 [n].
    """
    import torch

    from sw.graph.entropy import entropy_nats

    with torch.inference_mode():
        logits = torch.cat([low(images[start : start + batch]) for start in range(0, len(images), batch)])
        entropy = entropy_nats(logits)
        exits_low = entropy <= threshold_nats
        hard = (~exits_low).nonzero().flatten()
        for start in range(0, len(hard), batch):
            chosen = hard[start : start + batch]
            logits[chosen] = high(images[chosen])
    return logits, exits_low, entropy


def _of_exit(pair: Pair, low: np.ndarray, name: str) -> np.ndarray:
    first, second = (getattr(cost, name) for cost in pair.costs)
    return np.where(low, first, second).astype(np.float64)

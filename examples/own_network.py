"""A network of one's own, through to RTL: ``python examples/own_network.py``.

A torch module needs no registration: what it computes is found by its operations (docs/networks.md), whatever its parts are called.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw.device import mismatches
from hw.golden import GoldenDevice
from hw.presets import find_preset
from sim.cycle_model import predict
from sim.rtl.device import Job, RtlDevice
from sw.compiler.programs import compile_network
from sw.data.pixels import to_input, to_pixels
from sw.quantization.quantize import logits_sqnr_db, quantize

SIDE, PATCH, DIM, HEADS, CLASSES = 16, 4, 24, 3, 5


class Mixer(nn.Module):
    """An encoder with three layers for queries, keys and values, SiLU, and a scale on what its MLP adds."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.query, self.key, self.value, self.out = (nn.Linear(DIM, DIM) for _ in range(4))
        self.up, self.down = nn.Linear(DIM, 3 * DIM), nn.Linear(3 * DIM, DIM)
        self.scale = nn.Parameter(torch.full((DIM,), 0.5))

    def forward(self, stream: Tensor) -> Tensor:
        """Tokens [n, tokens, DIM] to tokens."""
        tokens = self.before(stream)
        query, key, value = (
            layer(tokens).unflatten(2, (HEADS, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )  # each [n, heads, tokens, head dim]
        stream = stream + self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return stream + self.scale * self.down(F.silu(self.up(self.between(stream))))


class OwnVit(nn.Module):
    """Grey images [n, 1, SIDE, SIDE] to logits [n, CLASSES]: patches and a class token, two encoders, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, DIM, PATCH, stride=PATCH)
        self.token, self.places = nn.Parameter(torch.randn(DIM)), nn.Parameter(torch.randn(1 + (SIDE // PATCH) ** 2, DIM))
        self.mixers = nn.Sequential(Mixer(), Mixer())
        self.last, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), 1, DIM), patches], 1) + self.places
        return self.head(self.last(self.mixers(tokens)[:, 0]))


def main() -> None:
    """Quantize, compile, run on three devices, compare."""
    torch.manual_seed(0)
    network = OwnVit().eval()
    images = np.random.default_rng(0).integers(0, 256, (68, SIDE, SIDE, 1), dtype=np.uint8)
    program = compile_network(quantize(network, to_input(images[4:])), find_preset("nano"))
    pixels = to_pixels(images[:4])
    golden = GoldenDevice().run(program, pixels)
    jobs = [Job(program=program, images=pixels), Job(program=program, images=pixels[:1])]
    simulated, alone = (result.checked() for result in RtlDevice(program.config).run_jobs(jobs))
    with torch.no_grad():
        print(f"logits of int8 against fp32: {logits_sqnr_db(network(to_input(images[:4])).numpy(), golden.logits):.1f} dB")
    print(f"images whose RTL is not the golden machine's: {mismatches(golden, simulated)} of {len(pixels)}")
    print(f"cycles of an image: {alone.counters['cycles']:,} in RTL, {predict(program).cycles:,} in the cycle model")


if __name__ == "__main__":
    main()

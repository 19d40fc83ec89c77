"""Where int8 costs: signal to noise of every tensor of the integer machine against the float network's at the same point.

The integer tensors are what the golden machine computes, descriptor by descriptor. Two figures for each: ``sqnr_db`` against the
float network from the image on, so noise adds up along the network; ``own_db`` against the float layer fed with the machine's own
inputs, so it shows what this layer's rounding, clipping and tables add. The worst layer is the one with the least ``own_db``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.config import AcceleratorConfig
from hw.golden import GoldenMachine
from hw.isa import FLAG_ATTENTION, Descriptor, Opcode, Operation, Post
from hw.program import Program
from sw.calibration import Calibration, Options, calibrate
from sw.compiler import compile_network, token_order
from sw.folding import FoldedNetwork, normalized
from sw.integer_network import IntegerNetwork
from sw.memory_map import required_config, stem_geometry
from sw.quantization import LOGIT_SCALE, quantize_folded
from sw.stem_layout import StemPlan, choose_plan

MOST_ROWS = 64
Tap = Callable[[str, Any], Any]


@dataclass(frozen=True)
class TensorNoise:
    """Signal to quantization noise of one tensor in dB; infinite without noise.

    Attributes:
        name: such as ``encoder3.query``; ``attention`` and ``mlp`` are the residual stream behind them.
        sqnr_db: against the float network.
        own_db: against the float layer on the machine's inputs.
    """

    name: str
    sqnr_db: float
    own_db: float


def walk(network: FoldedNetwork, inputs: Any, key_means: list[Any], tap: Tap) -> None:
    """Compute a folded network and show every tensor that the machine has, too.

    Args:
        network: the float network.
        inputs: float32 tensor [n, channels, height, width].
        key_means: what is subtracted from each encoder's keys; None where its attention is skipped.
        tap: called with a name and a tensor [n, tokens, channels], maps [n, channels, height, width] or scores
            [n, heads, tokens, tokens]; what it returns takes the tensor's place.
    """
    maps = inputs
    for index, convolution in enumerate(network.stem):
        maps = tap(f"stem{index}", convolution(maps))
    tokens = network.positions.expand(len(inputs), -1, -1).clone()
    tokens[:, network.prefix_tokens :] += network.embedding(network.patches_of(maps))
    tokens = tap("embedding", tokens)
    for index, (encoder, key_mean) in enumerate(zip(network.encoders, key_means, strict=True)):
        name = f"encoder{index}"
        if key_mean is not None:
            rows = tap(f"{name}.norm1", normalized(tokens, encoder.epsilons[0]))
            parts = (encoder.query(rows), rows @ encoder.key.weight.T - key_mean, encoder.value(rows))
            named = (tap(f"{name}.{part}", values) for part, values in zip(("query", "key", "value"), parts, strict=True))
            query, key, value = (part.unflatten(-1, (network.heads, -1)).transpose(1, 2) for part in named)
            scores = tap(f"{name}.scores", query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5)
            context = tap(f"{name}.context", (scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
            tokens = tap(f"{name}.attention", tokens + encoder.projection(context))
        rows = tap(f"{name}.norm2", normalized(tokens, encoder.epsilons[1]))
        hidden = tap(f"{name}.fc1", encoder.activation(encoder.fc1(rows)))
        tokens = tap(f"{name}.mlp", tokens + encoder.fc2(hidden))
    final = tap("norm", normalized(tokens[:, : network.head_tokens], network.epsilon))
    tap("logits", network.head(final.flatten(1))[:, None])


class MachineTensors:
    """Observes a golden machine and puts together the tensors that `walk` names, as codes."""

    def __init__(self, network: IntegerNetwork, program: Program) -> None:
        """Observe a Program of the network; one batch."""
        self.network = network
        self.program = program
        self.parts: dict[str, list[np.ndarray]] = {}
        self._stages = {
            offset: int(name.removeprefix("stem").split(".")[0])
            for name, offset, _ in program.regions
            if name.startswith("stem") and name.endswith(".weights")
        }
        order = token_order(network, program.config.rows)
        self._places = np.argsort(order)
        self._patches = order - network.prefix_tokens
        self._row_tile, self._seen = 0, set[tuple[int, int, int]]()

    def __call__(self, index: int, descriptor: Descriptor, values: np.ndarray) -> None:
        """Take what a descriptor computed; see `hw.golden.Observer`."""
        if descriptor.opcode == Opcode.GEMM and descriptor.operation == Operation.EMBEDDING and descriptor.post == Post.GELU:
            self._pixels(descriptor, values)
        else:
            self.parts.setdefault(self._name(descriptor), []).append(values)

    def _name(self, d: Descriptor) -> str:
        encoder = f"encoder{d.encoder}"
        if d.opcode == Opcode.NORM:
            last = f"encoder{self.network.depth - 1}.mlp"
            return "norm" if last in self.parts else f"{encoder}.{'norm1' if d.flags & FLAG_ATTENTION else 'norm2'}"
        match Operation(d.operation):
            case Operation.EMBEDDING:
                return "embedding"
            case Operation.QKV:
                return f"{encoder}.{ {Post.KEY: 'key', Post.VALUE: 'value'}.get(Post(d.post), 'query') }"
            case Operation.PROJECTION:
                return f"{encoder}.attention"
            case Operation.MLP:
                return f"{encoder}.{'fc1' if d.post == Post.GELU else 'mlp'}"
            case Operation.HEAD:
                return "logits"
        return f"{encoder}.{Operation(d.operation).name.lower()}"

    def _pixels(self, d: Descriptor, values: np.ndarray) -> None:
        """Put a GEMM's pixels into the whole map [n, height, width, channels], but for those of halos."""
        config, geometry, stage = self.program.config, self._plan.geometry, self._stages[d.weights]
        outputs, last = d.columns, stage + 1 == len(self.network.stem)
        line_words = self._plan.line_words if last else self._plan.windows[stage + 1].line_bytes // config.depth
        word = d.base % self._plan.slot_words if last else d.base - self._plan.bases[stage + 1]
        line, rest = divmod(word, line_words)
        pixel = (rest * config.depth + d.element) // outputs
        if (stage, line, pixel) in self._seen:
            self._row_tile, self._seen = self._row_tile + 1, set()
        self._seen.add((stage, line, pixel))
        name, halo, pitch = f"stem{stage}", geometry.halos[stage + 1], geometry.pitches[stage + 1]
        if name not in self.parts:
            self.parts[name] = [np.zeros((len(values), *geometry.sizes[stage + 1], outputs), np.int64)]
        first = self._row_tile * config.rows
        for place, patch in enumerate(self._patches[first : first + config.rows]):
            down, across = divmod(int(patch), geometry.grid[1])
            for step in range(d.row_tiles):
                below = step if d.stride == line_words else 0
                y, x = line + below - halo, pixel + step - below - halo
                if patch >= 0 and 0 <= y < pitch and 0 <= x < pitch:
                    self.parts[name][0][:, down * pitch + y, across * pitch + x] = values[:, step * config.rows + place]

    @property
    def _plan(self) -> StemPlan:
        config = self.program.config
        row_tiles = -(-self.network.tokens // config.rows)
        return choose_plan(stem_geometry(self.network), self.network.dim, row_tiles, config)

    def codes(self, name: str) -> np.ndarray:
        """A tensor as `walk` has it."""
        parts, kind = self.parts[name], name.split(".")[-1]
        if name.startswith("stem"):
            return parts[0].transpose(0, 3, 1, 2)
        if name == "logits":
            return parts[0]
        if name == "norm":  # the head's second token first
            return np.concatenate([part[:, :1] for part in reversed(parts)], axis=1)
        if name == "embedding":
            return np.concatenate(parts, axis=1)[:, self._places]
        if kind == "scores":
            return np.stack(parts, axis=1)[:, :, self._places][..., self._places]
        return np.concatenate([part[:, self._places] for part in parts], axis=2)


def scale_of(name: str, network: IntegerNetwork, calibration: Calibration) -> tuple[float, int]:
    """(real value of a step, code of 0) of a tensor."""
    layer, _, kind = name.rpartition(".")
    if name.startswith("stem"):
        around = calibration.stem[int(name.removeprefix("stem"))]
        return around.scale_out, around.zero_point
    if kind in ("embedding", "attention", "mlp"):
        return network.residual_scale, 0
    if name == "logits":
        return LOGIT_SCALE, 0
    if name == "norm":
        return calibration.final_norm, 0
    index = int(layer.removeprefix("encoder"))
    mlp, attention = calibration.mlps[index], calibration.attentions[index]
    if kind == "norm2":
        return mlp.norm, 0
    if kind == "fc1":
        return mlp.gelu.scale_out, mlp.gelu.zero_point
    assert attention is not None
    return {
        "norm1": attention.norm, "query": attention.query, "key": attention.key, "value": attention.value,
        "scores": attention.score, "context": attention.context,
    }[kind], 0  # fmt: skip


def _decibel(exact: Any, found: Any) -> float:
    noise = float((exact - found).double().square().sum())
    return float("inf") if noise == 0 else float(10 * np.log10(float(exact.double().square().sum()) / noise))


def report(
    network: FoldedNetwork, calibration_inputs: Any, images: np.ndarray, options: Options | None = None
) -> list[TensorNoise]:
    """Every tensor's noise, in the order of computation.

    Args:
        network: the float network.
        calibration_inputs: float32 tensor [n, channels, height, width].
        images: int8 [n, height, width, channels] that noise is measured on, all at once.
        options: of the quantization.
    """
    import torch

    options = options or Options()
    calibration = calibrate(network, calibration_inputs, frozenset(range(len(network.encoders))), options.scales)
    integer = quantize_folded(network, calibration, correct_bias=options.correct_bias)
    rows = min(MOST_ROWS, integer.tokens - (integer.head_tokens == 2))
    config = AcceleratorConfig(rows=rows, cols=16, depth=16, **required_config(integer, rows, 16, 16))
    program = compile_network(integer, config)
    tensors = MachineTensors(integer, program)
    GoldenMachine(program, chunk=len(images), threads=1, observer=tensors).run(images)

    def machine(name: str) -> Any:
        scale, zero = scale_of(name, integer, calibration)
        return torch.from_numpy((tensors.codes(name).astype(np.float64) - zero) * scale).float()

    along: dict[str, float] = {}
    own: dict[str, float] = {}

    def watch(name: str, exact: Any) -> Any:
        along[name] = _decibel(exact, machine(name))
        return exact

    def replaced(name: str, exact: Any) -> Any:
        found = machine(name)
        own[name] = _decibel(exact, found)
        return found

    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 128)
    key_means = [attention and attention.key_mean for attention in calibration.attentions]
    with torch.no_grad():
        walk(network, inputs, key_means, watch)
        walk(network, inputs, key_means, replaced)
    return [TensorNoise(name, along[name], own[name]) for name in along]


def worst(noises: list[TensorNoise]) -> TensorNoise:
    """The tensor whose layer adds most noise of its own."""
    return min(noises, key=lambda noise: noise.own_db)

"""Where int8 costs: signal to noise of every tensor of the integer machine against the float network's at the same point.

The integer tensors are what the golden machine computes, descriptor by descriptor. Two figures for each: ``sqnr_db`` against the
float network from the image on, so noise adds up along the network; ``own_db`` against the float layer fed with the machine's own
inputs, so it shows what this layer's rounding, clipping and tables add. The worst layer is the one with the least ``own_db``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hw.config import AcceleratorConfig
from hw.golden import GoldenDevice
from hw.isa import FLAG_ATTENTION, Descriptor, Opcode, Operation, Post
from hw.program import Program
from sw.compiler.memory_map import required_config, stem_geometry
from sw.compiler.programs import compile_network
from sw.compiler.stem_layout import StemPlan, choose_plan
from sw.compiler.token_order import token_order
from sw.graph.float_network import FloatNetwork
from sw.graph.forward import Observer, forward
from sw.graph.integer_network import IntegerNetwork
from sw.graph.path import Path
from sw.quantization.calibration import calibrate
from sw.quantization.options import Options
from sw.quantization.quantize import quantize_calibrated
from sw.quantization.scales import centred

if TYPE_CHECKING:
    from torch import Tensor

MOST_ROWS = 64


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


class MachineTensors:
    """Observes a golden machine and puts together the tensors that `sw.graph.forward` names, as codes."""

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
        """Take what a descriptor computed; see `hw.interpreter.Observer`."""
        if descriptor.opcode == Opcode.GEMM and descriptor.operation == Operation.EMBEDDING and descriptor.post == Post.ACTIVATION:
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
                return f"{encoder}.{'fc1' if d.post == Post.ACTIVATION else 'mlp'}"
            case Operation.HEAD:
                return "logits"
        return f"{encoder}.{Operation(d.operation).name.lower()}"

    def _pixels(self, d: Descriptor, values: np.ndarray) -> None:
        """Put a GEMM's pixels into the whole map [n, height, width, channels], but for those of halos."""
        config, geometry, stage = self.program.config, self._plan.geometry, self._stages[d.weights]
        outputs, last = d.columns, stage + 1 == len(self.network.stem)
        line_words = self._plan.line_words if last else self._plan.windows[stage + 1].line_bytes // config.pe_depth
        word = d.base % self._plan.slot_words if last else d.base - self._plan.bases[stage + 1]
        line, rest = divmod(word, line_words)
        pixel = (rest * config.pe_depth + d.element) // outputs
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
        """A tensor as `sw.graph.forward` has it."""
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


def _decibel(exact: "Tensor", found: "Tensor") -> float:
    noise = float((exact - found).double().square().sum())
    return float("inf") if noise == 0 else float(10 * np.log10(float(exact.double().square().sum()) / noise))


def report(
    network: FloatNetwork, calibration_inputs: "Tensor", images: np.ndarray, options: Options | None = None
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
    calibration = calibrate(network, calibration_inputs, Path.full(network.depth), options.scales)
    integer = quantize_calibrated(network, calibration, correct_bias=options.correct_bias)
    rows = min(MOST_ROWS, integer.tokens - (integer.head_tokens == 2))
    config = AcceleratorConfig(rows=rows, cols=16, pe_depth=16, **required_config(integer, rows, 16, 16))
    program = compile_network(integer, config)
    tensors = MachineTensors(integer, program)
    GoldenDevice(chunk=len(images), threads=1, observer=tensors).run(program, images)

    def machine(name: str) -> "Tensor":
        scale, zero, _ = calibration.code(name, integer.residual_scale)
        return torch.from_numpy((tensors.codes(name).astype(np.float64) - zero) * scale).float()

    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 128)
    along, own = _Comparison(machine, replaces=False), _Comparison(machine, replaces=True)
    with torch.no_grad():
        for comparison in (along, own):
            forward(centred(network, calibration), inputs, observer=comparison)
    return [TensorNoise(name, along.decibels[name], own.decibels[name]) for name in along.decibels]


class _Comparison(Observer):
    """Compares every tensor with the machine's, which may take its place for what follows."""

    def __init__(self, machine: Callable[[str], "Tensor"], *, replaces: bool) -> None:
        self._machine, self._replaces = machine, replaces
        self.decibels: dict[str, float] = {}

    def tensor(self, name: str, values: "Tensor") -> "Tensor":
        """Compare; return the machine's tensor or the same."""
        found = self._machine(name)
        self.decibels[name] = _decibel(values, found)
        return found if self._replaces else values


def worst(noises: list[TensorNoise]) -> TensorNoise:
    """The tensor whose layer adds most noise of its own."""
    return min(noises, key=lambda noise: noise.own_db)

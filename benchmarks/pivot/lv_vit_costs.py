"""Delay and energy of LV-ViT-S at 224x224, convolution stem included, on the paths of the shipped LV-ViTs.

By the cycle model, which equals the RTL in every counter, and the energy table.
"""

import dataclasses
from functools import cache

from search.costs import PathCost, path_cost
from search.pairs import expected
from sw.graph.integer_network import IntegerNetwork

COSTED = "lvvit_s"
Path = tuple[int, ...]
"""Encoders whose attention is kept."""


def costed_pair() -> tuple[IntegerNetwork, ...]:
    """LV-ViT-S twice, quantized, with stem and embedding in common, as the shipped efforts have them, and no encoder.

    Weights are random, and scales the first that come: delay depends on neither.
    """
    import torch

    from sw.networks.network import RANDOM, build_network, parse_network
    from sw.quantization.options import GREATEST, Options
    from sw.quantization.quantize import quantize_jointly

    spec = parse_network(COSTED)
    pixels = torch.randint(0, 256, (1, spec.channels, *spec.image_size), generator=torch.Generator().manual_seed(0))
    low, high = (build_network(COSTED, RANDOM, seed) for seed in (1, 0))
    encoders = {name: tensor for name, tensor in low.state_dict().items() if name.startswith("blocks.")}
    low.load_state_dict(high.state_dict() | encoders)
    return quantize_jointly((low, high), (pixels - 128) / 128, Options(GREATEST))


class Costs:
    """Delay (ms) and energy (mJ) of an image on one machine.

    Attributes:
        preset, config: the machine.
    """

    def __init__(self, preset: str, low: IntegerNetwork, high: IntegerNetwork):
        """Of the two integer networks of `costed_pair` on a preset."""
        from hw.presets import find_preset

        self.preset = preset
        self.config = find_preset(preset)
        self._low, self._high = low, high
        self._everything = tuple(range(high.depth))
        self.alone = cache(self._alone)
        self.pair = cache(self._pair)

    @property
    def whole(self) -> PathCost:
        """The whole network, the baseline."""
        return self.alone(self._everything)

    @property
    def attention_share(self) -> float:
        """1 - cycles(all attentions skipped) / cycles(none skipped)."""
        return 1.0 - self.alone(()).cycles / self.whole.cycles

    def cascade(self, low: Path, high: Path, f_low: float, *, resume: bool) -> tuple[float, float]:
        """Expected (delay ms, energy mJ) of a gated pair."""
        first, both = self.pair(low, high, resume)
        delay = expected(first.delay_ms, both.delay_ms - first.delay_ms, f_low)
        return delay, expected(first.energy_mj, both.energy_mj - first.energy_mj, f_low)

    def estimate(self, low: Path, high: Path, f_low: float, *, resume: bool) -> tuple[float, float]:
        """The same from the two paths alone, to choose by: without the gate, and without what their Programs' seam hides."""
        first, second = self.alone(low), self.alone(high)
        saved_delay, saved_energy = self._beginning() if resume else (0.0, 0.0)
        delay = expected(first.delay_ms, second.delay_ms - saved_delay, f_low)
        return delay, expected(first.energy_mj, second.energy_mj - saved_energy, f_low)

    def gain(self, delay_ms: float, energy_mj: float) -> float:
        """Baseline's EDP over this one."""
        return self.whole.delay_ms * self.whole.energy_mj / (delay_ms * energy_mj)

    def _beginning(self) -> tuple[float, float]:
        """(delay ms, energy mJ) that resuming behind stem and embedding saves a high effort."""
        (_, afresh), (_, resumed) = (self.pair((), self._everything, resume) for resume in (False, True))
        return afresh.delay_ms - resumed.delay_ms, afresh.energy_mj - resumed.energy_mj

    def _alone(self, kept: Path) -> PathCost:
        """One path without a gate."""
        from sim.cycle_model import predict
        from sw.compiler.programs import compile_network

        program = compile_network(_on_path(self._high, kept), self.config, mask_register=False)
        return path_cost(self.config, predict(program).counters)

    def _pair(self, low: Path, high: Path, resume: bool) -> tuple[PathCost, PathCost]:
        """(leaves at the gate, goes on) of the gated pair of two paths in one Program."""
        from sim.cycle_model import predict
        from sw.compiler.programs import compile_pair

        program = compile_pair(_on_path(self._low, low), _on_path(self._high, high), self.config, 0, resume=resume)
        first, both = (path_cost(self.config, predict(program, exits_low=exits_low).counters) for exits_low in (True, False))
        return first, both


def _on_path(network: IntegerNetwork, kept: Path) -> IntegerNetwork:
    """An integer network without the attentions that a path skips."""
    from sw.graph import path as paths

    path = paths.Path.keeping(kept, network.depth)
    encoders = (
        dataclasses.replace(encoder, branches=tuple(branch for branch in encoder.branches if path.runs(index, branch.kind)))
        for index, encoder in enumerate(network.encoders)
    )
    return dataclasses.replace(network, encoders=tuple(encoders))

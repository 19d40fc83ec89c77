"""A gated pair as a directory: two networks, the gate's threshold and what it guarantees, the machine, and what an exit costs.

    pair.json                            everything but the numbers of the networks
    low.safetensors, high.safetensors    integer networks, for the machine
    low.float.safetensors, high.float.safetensors    weights of the torch modules

`search.cosearch` writes one into ``runs/<name>/pair``; `sw.infer` runs it.
"""

import pathlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.files import read_json, write_json
from hw.numerics import UNITS_PER_NAT
from hw.program import Program
from sw.graph.integer_file import load_integer_network, save_integer_network
from sw.graph.integer_network import IntegerNetwork
from sw.graph.path import Kind, Path, path_or_full
from sw.networks.network import parse_network
from sw.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor

    from sw.graph.path_vit import PathVit

FORMAT = "pivot-pair-3"
_SIDES = ("low", "high")


@dataclass(frozen=True)
class ExitCost:
    """What an image costs that leaves at one exit, the other network included where it ran before."""

    cycles: int
    delay_ms: float
    energy_mj: float


@dataclass(frozen=True)
class Guarantee:
    """What the threshold keeps on the images that it was chosen on, with the machine's integer entropy.

    Attributes:
        split: their name; nothing was trained on them.
        images: how many.
        f_low: fraction that the low effort answers; at least `lec`.
        accuracy: of the pair; at least `baseline_accuracy` - `max_loss`.
        baseline_accuracy: of the int8 baseline.
        lec, max_loss: the constraints that the pair was chosen under.
    """

    split: str
    images: int
    f_low: float
    accuracy: float
    baseline_accuracy: float
    lec: float
    max_loss: float

    def __str__(self) -> str:
        """One sentence."""
        return (
            f"on the {self.images} images of the {self.split} split, on the machine: F_low {self.f_low:.4f} >= {self.lec:g}, and "
            f"accuracy {self.accuracy:.4f} >= {self.baseline_accuracy:.4f} - {self.max_loss:g} (int8 baseline - greatest loss)"
        )


@dataclass(frozen=True, eq=False)
class Pair:
    """A gated pair.

    Attributes:
        model: the networks' name.
        image_size: height and width in place of the network's own; None for its own.
        classes: number of logits in place of the network's own; None for its own.
        preset: the machine's name, for the reader.
        config: the machine.
        threshold: greatest entropy of the low effort's answer, in 2^-12 nat, at which it stands.
        paths: of low and of high effort.
        guarantee: of the threshold.
        costs: of leaving low, and of going on to high effort.
        integer: integer networks of low and of high effort.
        states: weights of the torch modules of low and of high effort, by name.
    """

    model: str
    image_size: tuple[int, int] | None
    classes: int | None
    preset: str
    config: AcceleratorConfig
    threshold: int
    paths: tuple[Path, Path]
    guarantee: Guarantee
    costs: tuple[ExitCost, ExitCost]
    integer: tuple[IntegerNetwork, IntegerNetwork]
    states: "tuple[Mapping[str, Tensor], Mapping[str, Tensor]]"

    @property
    def threshold_nats(self) -> float:
        """The threshold in nats."""
        return self.threshold / UNITS_PER_NAT

    @property
    def spec(self) -> NetworkSpec:
        """Shape of both networks."""
        return parse_network(self.model, self.image_size, self.classes)

    @cached_property
    def program(self) -> Program:
        """Both networks and the gate, compiled for the machine."""
        from sw.compiler.programs import compile_pair

        low, high = self.paths
        return compile_pair(*self.integer, self.config, self.threshold, low_path=low, high_path=high)

    @cached_property
    def modules(self) -> "tuple[PathVit, PathVit]":
        """The torch networks (`sw.graph.path_vit.PathVit`) of low and high effort, in eval mode."""
        from sw.graph.path_vit import PathVit
        from sw.networks.network import untrained_network
        from sw.networks.normalization import match_first_convolution

        made = []
        for state, path in zip(self.states, self.paths, strict=True):
            vit = untrained_network(self.spec)
            match_first_convolution(vit, state)
            vit.load_state_dict(dict(state))
            made.append(PathVit(vit, path).eval())
        return made[0], made[1]

    def save(self, directory: pathlib.Path) -> None:
        """Write the directory; ``pair.json`` last."""
        from sw.networks.checkpoint import save_tensors

        for side, integer, state in zip(_SIDES, self.integer, self.states, strict=True):
            save_integer_network(integer, directory / f"{side}.safetensors")
            save_tensors(directory / f"{side}.float.safetensors", state)
        head = {
            "format": FORMAT,
            "model": self.model,
            "image_size": self.image_size,
            "classes": self.classes,
            "preset": self.preset,
            "config": asdict(self.config),
            "threshold": self.threshold,
            "threshold_nats": self.threshold_nats,
            "kinds": [path.kinds for path in self.paths],
            "guarantee": asdict(self.guarantee),
            "costs": {side: asdict(cost) for side, cost in zip(_SIDES, self.costs, strict=True)},
        }
        write_json(directory / "pair.json", head)

    @staticmethod
    def load(directory: pathlib.Path) -> "Pair":
        """Read what `save` wrote, in ``directory`` or in its folder ``pair``.

        Raises:
            InputError: it is missing, or not what it should be.
        """
        from sw.networks.checkpoint import load_tensors

        place = next((path for path in (directory, directory / "pair") if (path / "pair.json").is_file()), None)
        if place is None:
            raise InputError(f"--pair must name a directory that search.cosearch wrote, with pair/pair.json in it, not {directory}")
        head = read_json(place / "pair.json")
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise InputError(f"{place / 'pair.json'} must have format {FORMAT}; for another version's, run search.cosearch again")
        try:
            fields: dict[str, Any] = dict(
                model=head["model"],
                image_size=None if head["image_size"] is None else tuple(head["image_size"]),
                classes=None if head["classes"] is None else int(head["classes"]),
                preset=head["preset"],
                config=AcceleratorConfig(**head["config"]),
                threshold=int(head["threshold"]),
                guarantee=Guarantee(**head["guarantee"]),
                costs=tuple(ExitCost(**head["costs"][side]) for side in _SIDES),
            )
            integer = tuple(load_integer_network(place / f"{side}.safetensors") for side in _SIDES)
            paths = tuple(
                path_or_full(Path(tuple(map(Kind, kinds))), network.depth)
                for kinds, network in zip(head["kinds"], integer, strict=True)
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{place / 'pair.json'} must hold a whole pair: {type(error).__name__}: {error}") from None
        return Pair(
            **fields,
            paths=paths,  # type: ignore[arg-type]
            integer=integer,  # type: ignore[arg-type]
            states=tuple(load_tensors(place / f"{side}.float.safetensors") for side in _SIDES),  # type: ignore[arg-type]
        )
